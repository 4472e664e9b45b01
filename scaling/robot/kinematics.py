"""Forward kinematics of the G1 in array code (NumPy or JAX), without MuJoCo."""

from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.robot.figures import BODIES, JOINTS
from scaling.robot.g1 import BODY_INDEX, FEET_INDEX, FOOT_SPHERE_RADIUS, FOOT_SPHERES
from scaling.robot.rotations import cross, from_rotation_vector, namespace, normalise, quat_mul, rotate

Array = Any

_PARENT = np.array([BODY_INDEX.get(body.parent, -1) for body in BODIES])
_POS = np.array([body.pos for body in BODIES])
_QUAT = np.array([body.quat for body in BODIES]) / np.linalg.norm([body.quat for body in BODIES], axis=1)[:, None]
# Every body but the pelvis turns about one joint, and joints are listed in the order of their bodies.
_AXES = np.array([joint.axis for joint in JOINTS])


def _levels() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """The tree by depth: bodies of each level, where their parents stand in the level above, and the way back.

    A whole level is one batched product, so a pose takes ten of them and not thirty.
    """
    depth = np.zeros(len(BODIES), int)
    for body, parent in enumerate(_PARENT):
        depth[body] = 0 if parent < 0 else depth[parent] + 1
    bodies = [np.flatnonzero(depth == level) for level in range(depth.max() + 1)]
    above = [
        np.array([np.flatnonzero(bodies[level - 1] == _PARENT[body])[0] for body in bodies[level]])
        for level in range(1, len(bodies))
    ]
    return bodies, above, np.argsort(np.concatenate(bodies))


_LEVELS, _ABOVE, _ORDER = _levels()
if [joint.body for joint in JOINTS] != [body.name for body in BODIES[1:]]:
    raise ImportError("scaling.robot.figures: joints must be listed in the order of their bodies")


def _settle(xp: Any, *values: Array) -> tuple[Array, ...]:
    """Keeps XLA from fusing a level into all of its descendants, which recomputes the whole chain for each body."""
    if xp is np:
        return values
    import jax

    return tuple(jax.lax.optimization_barrier(values))


def _constant(xp: Any, values: np.ndarray, like: Array) -> Array:
    """A table of figures, broadcast over the leading axes of `like` [..., d]."""
    return xp.broadcast_to(xp.asarray(values, dtype=like.dtype), (*like.shape[:-1], *values.shape))


def forward_kinematics(qpos: Float[Array, "*b 36"]) -> tuple[Float[Array, "*b 30 3"], Float[Array, "*b 30 4"]]:
    """World position (m) and orientation (wxyz) of each body in `BODY_NAMES` order; MuJoCo's `xpos` and `xquat`."""
    xp = namespace(qpos)
    offset = _constant(xp, _POS[1:], qpos)
    turn = from_rotation_vector(qpos[..., 7:, None] * _constant(xp, _AXES, qpos))
    local = quat_mul(_constant(xp, _QUAT[1:], qpos), turn)
    offset, local = _settle(xp, offset, local)
    position, quat = qpos[..., None, :3], normalise(qpos[..., None, 3:7])
    positions, quats = [position], [quat]
    for bodies, above in zip(_LEVELS[1:], _ABOVE, strict=True):
        parent = quat[..., above, :]
        position = position[..., above, :] + rotate(parent, offset[..., bodies - 1, :])
        quat = quat_mul(parent, local[..., bodies - 1, :])
        position, quat = _settle(xp, position, quat)
        positions.append(position)
        quats.append(quat)
    return xp.concatenate(positions, axis=-2)[..., _ORDER, :], xp.concatenate(quats, axis=-2)[..., _ORDER, :]


def body_velocities(
    qvel: Float[Array, "*b 35"], positions: Float[Array, "*b 30 3"], quats: Float[Array, "*b 30 4"]
) -> tuple[Float[Array, "*b 30 3"], Float[Array, "*b 30 3"]]:
    """World linear (m/s, of the body origin) and angular (rad/s) velocity of each body.

    `qvel` as MuJoCo's: world linear, body-frame angular; `positions` and `quats` from `forward_kinematics`.
    """
    xp = namespace(qvel)
    arm = positions[..., 1:, :] - positions[..., _PARENT[1:], :]
    spin = rotate(quats[..., 1:, :], _constant(xp, _AXES, qvel)) * qvel[..., 6:, None]
    arm, spin = _settle(xp, arm, spin)
    linear, angular = qvel[..., None, :3], rotate(quats[..., :1, :], qvel[..., None, 3:6])
    linears, angulars = [linear], [angular]
    for bodies, above in zip(_LEVELS[1:], _ABOVE, strict=True):
        parent = angular[..., above, :]
        linear = linear[..., above, :] + cross(parent, arm[..., bodies - 1, :])
        angular = parent + spin[..., bodies - 1, :]
        linear, angular = _settle(xp, linear, angular)
        linears.append(linear)
        angulars.append(angular)
    return xp.concatenate(linears, axis=-2)[..., _ORDER, :], xp.concatenate(angulars, axis=-2)[..., _ORDER, :]


def soles(qpos: Float[Array, "*b 36"]) -> Float[Array, "*b 2 4 3"]:
    """World positions (m) of the lowest points of the sole spheres: feet left, right by four corners."""
    xp = namespace(qpos)
    pos, quat = forward_kinematics(qpos)
    feet_pos = pos[..., FEET_INDEX, :][..., None, :]
    feet_quat = quat[..., FEET_INDEX, :][..., None, :]
    corners = xp.asarray(np.array(FOOT_SPHERES), dtype=qpos.dtype)
    shape = (*feet_pos.shape[:-2], len(FOOT_SPHERES))
    world = feet_pos + rotate(xp.broadcast_to(feet_quat, (*shape, 4)), xp.broadcast_to(corners, (*shape, 3)))
    return world - xp.asarray(np.array([0.0, 0.0, FOOT_SPHERE_RADIUS]), dtype=qpos.dtype)
