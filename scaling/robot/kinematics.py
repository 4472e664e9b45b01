"""Forward kinematics of the G1 in array code (NumPy or JAX), without MuJoCo."""

from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.robot.figures import BODIES, JOINTS
from scaling.robot.g1 import BODY_INDEX, FEET_INDEX, FOOT_SPHERE_RADIUS, FOOT_SPHERES
from scaling.robot.rotations import cross, from_rotation_vector, namespace, normalise, quat_conj, quat_mul, rotate

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


def _ancestry() -> np.ndarray:
    """[30, 29]: 1 where the joint moves the body."""
    moves = np.zeros((len(BODIES), len(JOINTS)))
    for body in range(1, len(BODIES)):
        moves[body] = moves[_PARENT[body]]
        moves[body, body - 1] = 1.0
    return moves


_LEVELS, _ABOVE, _ORDER = _levels()
_UNDER = _ancestry()
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
    return _chain(qpos) if namespace(qpos) is np else _differentiable()(qpos)


def _chain(qpos: Array) -> tuple[Array, Array]:
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


@cache
def _differentiable() -> Any:
    """`_chain` under JAX. How a pose changes is a velocity, so its derivative needs no walk back along the chain."""
    import jax

    poses = jax.custom_jvp(_chain)

    @poses.defjvp
    def tangent(given: Any, moved: Any) -> Any:
        (qpos,), (rate,) = given, moved
        positions, quats = poses(qpos)
        root = qpos[..., 3:7]
        turn = 2.0 * quat_mul(rate[..., 3:7], quat_conj(root))[..., 1:] / (root * root).sum(axis=-1, keepdims=True)
        linear, angular = _velocities(rate[..., :3], turn, rate[..., 7:], positions, quats)
        xp = namespace(qpos)
        spin = xp.concatenate([xp.zeros_like(angular[..., :1]), angular], axis=-1)
        return (positions, quats), (linear, 0.5 * quat_mul(spin, quats))

    return poses


def body_velocities(
    qvel: Float[Array, "*b 35"], positions: Float[Array, "*b 30 3"], quats: Float[Array, "*b 30 4"]
) -> tuple[Float[Array, "*b 30 3"], Float[Array, "*b 30 3"]]:
    """World linear (m/s, of the body origin) and angular (rad/s) velocity of each body.

    `qvel` as MuJoCo's: world linear, body-frame angular; `positions` and `quats` from `forward_kinematics`.
    """
    return _velocities(qvel[..., :3], rotate(quats[..., 0, :], qvel[..., 3:6]), qvel[..., 6:], positions, quats)


def _velocities(linear: Array, angular: Array, rates: Array, positions: Array, quats: Array) -> tuple[Array, Array]:
    """Of all bodies, from the pelvis's (world axes) and the joints' (rad/s): sums over the joints above each body."""
    xp = namespace(rates)
    arms = positions - positions[..., :1, :]
    spin = rotate(quats[..., 1:, :], _constant(xp, _AXES, rates)) * rates[..., None]
    above = xp.asarray(_UNDER, dtype=rates.dtype)
    exact = {} if xp is np else {"precision": "highest"}
    sums = xp.matmul(above, xp.concatenate([spin, cross(spin, arms[..., 1:, :])], axis=-1), **exact)
    angulars = angular[..., None, :] + sums[..., :3]
    return linear[..., None, :] + cross(angulars, arms) - sums[..., 3:], angulars


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
