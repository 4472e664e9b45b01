"""A camera that follows the pelvis; the same one serves MuJoCo's renderer and the drawn pictures."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.robot.rotations import yaw
from scaling.view.rollout import Rollout

FIELD_OF_VIEW = 45.0  # degrees, vertical; MuJoCo's default
_NEAR = 0.05  # m
_SMOOTHING_S = 0.5


@dataclass(frozen=True)
class Camera:
    """MuJoCo's free camera: looks at a point along (azimuth, elevation), degrees, from `distance` metres."""

    lookat: Float[np.ndarray, "3"]
    azimuth: float
    elevation: float = -13.0
    distance: float = 2.4

    def axes(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Unit vectors (right, up, forward) in the world."""
        a, e = np.radians(self.azimuth), np.radians(self.elevation)
        forward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([np.sin(a), -np.cos(a), 0.0])
        return right, np.cross(right, forward), forward

    def project(
        self, points: Float[np.ndarray, "*b 3"], width: int, height: int
    ) -> tuple[Float[np.ndarray, "*b 2"], Float[np.ndarray, "*b"], float]:
        """Pixels (x right, y down), depth (m), and focal length (pixels) for a picture of the given size."""
        right, up, forward = self.axes()
        offset = points - (self.lookat - self.distance * forward)
        depth = np.maximum(offset @ forward, _NEAR)
        focal = 0.5 * height / np.tan(np.radians(0.5 * FIELD_OF_VIEW))
        x = 0.5 * width + focal * (offset @ right) / depth
        y = 0.5 * height - focal * (offset @ up) / depth
        return np.stack([x, y], axis=-1), depth, focal


def follow(rollout: Rollout, distance: float = 2.4) -> list[Camera]:
    """One camera a frame: three-quarter view on the initial heading, on a smoothed path of the robot's pelvis."""
    path = rollout.qpos[: rollout.frames, :3].copy()
    window = min(len(path), 2 * int(0.5 * _SMOOTHING_S * rollout.rate_hz) + 1)
    kernel = np.ones(window) / window
    padded = np.pad(path, ((window // 2, window - 1 - window // 2), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(3)], axis=-1)
    # Half of the pelvis' height, so that a fall is seen as a fall and a motion off the floor stays in view.
    smooth[:, 2] = 0.5 * smooth[:, 2] + 0.27
    azimuth = float(np.degrees(yaw(rollout.qpos[0, 3:7]))) + 145.0
    return [Camera(lookat, azimuth, distance=distance) for lookat in smooth]
