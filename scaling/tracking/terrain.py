"""Uneven ground as a factor: smooth bumps, ridges like a wrinkle in a carpet, a slope, and thin rugs."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, Int

from scaling.robot.kinematics import soles
from scaling.robot.model import Floor, Rug
from scaling.robot.rotations import rotate

HALF_SIZE = 6.0  # m
SPACING = 0.05  # m
ANCHOR_RADIUS = 1.0  # m around the middle, within which an episode starts
MARGIN = 0.5  # m to the edge at which an episode ends
_NODES = round(2 * HALF_SIZE / SPACING) + 1
_SMOOTH = 0.3  # m, correlation length of the bumps
_RIDGES = 8
_RIDGE_WIDTH = 0.04  # m, standard deviation across
_RUG_HALF_HEIGHT = 0.002  # m


@dataclass(frozen=True)
class Terrain:
    """The ground of every variant: heights within +-`roughness_m` of a plane inclined by `slope_deg` (its direction
    drawn), with `patches` rugs 4 mm thick of sliding friction in `patch_friction`.
    """

    roughness_m: float = 0.0
    slope_deg: float = 0.0
    patches: int = 0
    patch_friction: tuple[float, float] = (0.3, 1.2)

    def __post_init__(self) -> None:
        if not 0 <= self.roughness_m <= 0.2 or not 0 <= self.slope_deg <= 30:
            raise ValueError(f"roughness_m {self.roughness_m}: 0 to .2; slope_deg {self.slope_deg}: 0 to 30")
        low, high = self.patch_friction
        if self.patches < 0 or not 0 < low <= high:
            raise ValueError(f"patches {self.patches}: not below 0; patch_friction {(low, high)}: positive, low first")

    @property
    def flat(self) -> bool:
        """Nothing but the plane."""
        return self == Terrain(patch_friction=self.patch_friction)


def draw_floor(terrain: Terrain, rng: np.random.Generator) -> Floor | None:
    """One ground of this kind; None for the plane."""
    if terrain.flat:
        return None
    direction, slope = rng.uniform(0, 2 * np.pi), np.tan(np.radians(terrain.slope_deg))
    incline = slope * np.array([np.cos(direction), np.sin(direction)])
    axis = np.linspace(-HALF_SIZE, HALF_SIZE, _NODES)
    x, y = axis[None, :], axis[:, None]
    heights = incline[0] * x + incline[1] * y
    if terrain.roughness_m > 0:
        heights = heights + terrain.roughness_m * _rough(rng, x, y)
    bound = terrain.roughness_m + slope * HALF_SIZE * np.sqrt(2)
    rugs = tuple(_rug(terrain, rng, heights, incline) for _ in range(terrain.patches))
    uneven = terrain.roughness_m > 0 or slope > 0
    return Floor(heights if uneven else None, HALF_SIZE, (-bound, bound), rugs)


def _rough(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "n n"]:
    """Bumps and ridges within [-1, 1]."""
    noise = np.fft.rfft2(rng.normal(size=(_NODES, _NODES)))
    wave_y, wave_x = np.fft.fftfreq(_NODES, SPACING)[:, None], np.fft.rfftfreq(_NODES, SPACING)[None, :]
    smooth = np.fft.irfft2(noise * np.exp(-2 * (np.pi * _SMOOTH) ** 2 * (wave_x**2 + wave_y**2)), (_NODES, _NODES))
    heights = 0.6 * smooth / np.abs(smooth).max()
    for _ in range(_RIDGES):
        (cx, cy), angle, half = rng.normal(scale=1.5, size=2), rng.uniform(0, np.pi), rng.uniform(0.5, 1.5)
        along = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
        across = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
        beyond = np.maximum(np.abs(along) - half, 0.0)
        heights = np.maximum(heights, np.exp(-(across**2 + beyond**2) / (2 * _RIDGE_WIDTH**2)) - 1e-3)
    return heights / np.abs(heights).max()


def _rug(terrain: Terrain, rng: np.random.Generator, heights: np.ndarray, incline: np.ndarray) -> Rug:
    """A rug that lies on the inclined plane, at the ground's height under its centre."""
    x, y = np.clip(rng.normal(scale=1.5, size=2), 1.0 - HALF_SIZE, HALF_SIZE - 1.0)
    row, column = (round((v + HALF_SIZE) / SPACING) for v in (y, x))
    normal = np.array([-incline[0], -incline[1], 1.0])
    normal /= np.linalg.norm(normal)
    yaw = rng.uniform(0, 2 * np.pi)
    first = np.cross(normal, [np.sin(yaw), -np.cos(yaw), 0.0])
    first /= np.linalg.norm(first)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([first, np.cross(normal, first), normal], axis=1).ravel())
    centre = np.array([x, y, heights[row, column]]) + _RUG_HALF_HEIGHT * normal
    (cx, cy, cz), (w, qx, qy, qz) = centre.tolist(), quat.tolist()
    half_x, half_y = rng.uniform(0.3, 0.8, size=2).tolist()
    friction = rng.uniform(*terrain.patch_friction)
    return Rug((cx, cy, cz), (w, qx, qy, qz), (half_x, half_y, _RUG_HALF_HEIGHT), friction)


class Ground:
    """Heights (m) of the ground of each model of a pool, rugs included."""

    def __init__(self, models: Sequence[mujoco.MjModel]) -> None:
        first = models[0]
        floor = first.geom("floor")
        self._half = float(first.hfield_size[0, 0]) if first.nhfield else 0.0
        self._heights = None
        if first.nhfield:
            shape = (first.hfield_nrow[0], first.hfield_ncol[0])
            self._heights = jnp.asarray(
                np.stack([m.geom_pos[floor.id, 2] + m.hfield_size[0, 2] * m.hfield_data.reshape(shape) for m in models])
            )
        rugs = [index for index in range(first.ngeom) if first.geom(index).name.startswith("rug_")]
        self._pos = jnp.asarray(np.stack([m.geom_pos[rugs] for m in models]), jnp.float32)
        self._size = jnp.asarray(np.stack([m.geom_size[rugs] for m in models]), jnp.float32)
        quats = jnp.asarray(np.stack([m.geom_quat[rugs] for m in models]), jnp.float32)
        self._axes = jnp.stack(
            [rotate(quats, jnp.broadcast_to(axis, (*quats.shape[:-1], 3))) for axis in jnp.eye(3)], axis=-2
        )  # [V, P, axis, xyz]

    def __call__(self, variant: Int[Array, "*b"], xy: Float[Array, "*b 2"]) -> Float[Array, "*b"]:
        """Height below (x, y) (m, world); beyond the edge that of the edge."""
        height = self._field(variant, xy)
        if self._pos.shape[1] == 0:
            return height
        pos, axes, size = self._pos[variant], self._axes[variant], self._size[variant]
        # The plane of each rug's upper face, and where (x, y) falls on it.
        normal, top = axes[..., 2, :], pos + axes[..., 2, :] * size[..., 2:]
        away = xy[..., None, :] - top[..., :2]
        rise = -jnp.sum(normal[..., :2] * away, axis=-1) / normal[..., 2]
        offset = jnp.concatenate([away, rise[..., None]], axis=-1)
        local = jnp.sum(axes[..., :2, :] * offset[..., None, :], axis=-1)
        on = jnp.all(jnp.abs(local) <= size[..., :2], axis=-1)
        return jnp.maximum(height, jnp.max(jnp.where(on, top[..., 2] + rise, -jnp.inf), axis=-1))

    def _field(self, variant: Array, xy: Array) -> Array:
        """Linear over the two triangles into which MuJoCo cuts each cell of the grid."""
        if self._heights is None:
            return jnp.zeros(xy.shape[:-1], xy.dtype)
        cells = self._heights.shape[-1] - 1
        place = jnp.clip((xy + self._half) * (cells / (2 * self._half)), 0.0, cells)
        corner = jnp.minimum(jnp.floor(place).astype(jnp.int32), cells - 1)
        u, v = jnp.moveaxis(place - corner, -1, 0)
        column, row = jnp.moveaxis(corner, -1, 0)
        low, high = self._heights[variant, row, column], self._heights[variant, row + 1, column + 1]
        right, left = self._heights[variant, row, column + 1], self._heights[variant, row + 1, column]
        below = low + u * (right - low) + v * (high - right)
        above = low + v * (left - low) + u * (high - left)
        return jnp.where(u > v, below, above)

    def clearance(self, variant: Int[Array, "*b"], qpos: Float[Array, "*b 36"]) -> Float[Array, "*b"]:
        """Height (m) above the ground of the lowest sole sphere; negative where a foot is inside it."""
        corners = soles(qpos)
        below = self(jnp.broadcast_to(variant[..., None, None], corners.shape[:-1]), corners[..., :2])
        return jnp.min(corners[..., 2] - below, axis=(-2, -1))

    def near_edge(self, xy: Float[Array, "*b 2"]) -> Array:
        """[*b]: less than half a metre is left of the height field (a plane has no edge)."""
        if self._heights is None:
            return jnp.zeros(xy.shape[:-1], bool)
        return jnp.any(jnp.abs(xy) > self._half - MARGIN, axis=-1)


def ground_of(models: Sequence[mujoco.MjModel]) -> Ground | None:
    """The ground of a pool of models; None where it is a plane without rugs."""
    uneven = models[0].nhfield or any(models[0].geom(i).name.startswith("rug_") for i in range(models[0].ngeom))
    return Ground(models) if uneven else None
