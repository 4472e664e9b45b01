"""Leg angles that put flat or turned soles where they should be: damped Newton over all frames of both legs at once."""

import numpy as np
from jaxtyping import Float

from scaling.robot.figures import BODIES, JOINTS
from scaling.robot.g1 import KNEES_BENT_JOINTS
from scaling.robot.rotations import cross, matrix, normalise

_BODY = {body.name: body for body in BODIES}
_AXES = np.array([joint.axis for joint in JOINTS[:6]])
_LINKS = [[_BODY[joint.body] for joint in JOINTS[first : first + 6]] for first in (0, 6)]
_OFFSETS = np.array([[link.pos for link in leg] for leg in _LINKS])  # [2, 6, 3]
_FIXED = np.array([[matrix(normalise(np.array(link.quat))) for link in leg] for leg in _LINKS])  # [2, 6, 3, 3]
_TILTED = np.abs(_FIXED - np.eye(3)).max(axis=(2, 3)) > 1e-12
_MAX_STEP_RAD = 0.35
TOLERANCE_M = 1e-6


def leg_chain(
    angles: Float[np.ndarray, "n 6"], side: int
) -> tuple[Float[np.ndarray, "n 6 3"], Float[np.ndarray, "n 6 3"], Float[np.ndarray, "n 3 3"]]:
    """Joint origins and axes (pelvis frame, m) and the foot's rotation of one leg (0 left, 1 right)."""
    count = len(angles)
    origins, axes = np.empty((count, 6, 3)), np.empty((count, 6, 3))
    # Each link turns about one coordinate axis: three columns and two products a joint.
    columns = [np.broadcast_to(column, (count, 3)) for column in np.eye(3)]
    position = np.zeros((count, 3))
    for joint in range(6):
        offset = _OFFSETS[side, joint]
        position = position + columns[0] * offset[0] + columns[1] * offset[1] + columns[2] * offset[2]
        if _TILTED[side, joint]:
            fixed = _FIXED[side, joint]
            columns = [sum(columns[row] * fixed[row, column] for row in range(3)) for column in range(3)]
        axis = int(np.argmax(_AXES[joint]))
        first, second = (axis + 1) % 3, (axis + 2) % 3
        cosine, sine = np.cos(angles[:, joint])[:, None], np.sin(angles[:, joint])[:, None]
        u, v = columns[first], columns[second]
        columns[first], columns[second] = u * cosine + v * sine, v * cosine - u * sine
        origins[:, joint], axes[:, joint] = position, columns[axis]
    return origins, axes, np.stack(columns, axis=-1)


def solve_leg(
    foot_position: Float[np.ndarray, "n 3"],
    foot_rotation: Float[np.ndarray, "n 3 3"],
    side: int,
    start: Float[np.ndarray, "n 6"] | None = None,
    iterations: int = 30,
) -> Float[np.ndarray, "n 6"]:
    """Angles (rad) of one leg for a foot pose in the pelvis frame; a pose out of reach is a `ValueError`."""
    first = 6 * side
    if start is None:
        start = np.broadcast_to(KNEES_BENT_JOINTS[first : first + 6], (len(foot_position), 6))
    angles = np.array(start, dtype=np.float64)
    active = np.arange(len(angles))
    for _ in range(iterations):
        origins, axes, rotation = leg_chain(angles[active], side)
        foot = origins[:, 5]
        error = np.concatenate([foot_position[active] - foot, _turn(rotation, foot_rotation[active])], axis=1)
        far = np.abs(error).max(axis=1) > TOLERANCE_M
        if not far.any():
            return angles
        active = active[far]
        jacobian = np.concatenate([cross(axes[far], foot[far, None] - origins[far]), axes[far]], axis=2)
        step = np.linalg.solve(np.swapaxes(jacobian, 1, 2), error[far, :, None])[..., 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        angles[active] += step * np.minimum(1.0, _MAX_STEP_RAD / size)
    raise ValueError(f"{len(active)} of {len(angles)} foot poses are out of the leg's reach")


def _turn(now: Float[np.ndarray, "n 3 3"], goal: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """Small rotation (rad, pelvis frame) from `now` to `goal`: half the sum of the columns' vector products."""
    return 0.5 * np.sum(cross(np.swapaxes(now, 1, 2), np.swapaxes(goal, 1, 2)), axis=1)
