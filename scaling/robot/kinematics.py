"""Forward kinematics of the G1 in array code (NumPy or JAX), without MuJoCo."""

from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.robot.figures import BODIES, JOINTS
from scaling.robot.g1 import BODY_INDEX, FEET_INDEX, FOOT_SPHERE_RADIUS, FOOT_SPHERES
from scaling.robot.rotations import cross, from_rotation_vector, namespace, quat_mul, rotate

Array = Any

_PARENT = [BODY_INDEX.get(body.parent, -1) for body in BODIES]
_POS = np.array([body.pos for body in BODIES])
_QUAT = np.array([body.quat for body in BODIES]) / np.linalg.norm([body.quat for body in BODIES], axis=1)[:, None]
_JOINT_OF_BODY = {BODY_INDEX[joint.body]: (index, np.array(joint.axis)) for index, joint in enumerate(JOINTS)}


def _levels() -> list[list[int]]:
    """Bodies by depth in the tree (pelvis left out), so that one batched product serves a whole level."""
    depth = [0] * len(BODIES)
    for body, parent in enumerate(_PARENT):
        depth[body] = 0 if parent < 0 else depth[parent] + 1
    return [[body for body in range(len(BODIES)) if depth[body] == level] for level in range(1, max(depth) + 1)]


_LEVELS = _levels()


def _settle(xp: Any, *values: Array) -> tuple[Array, ...]:
    """Keeps XLA from fusing a level into all of its descendants, which recomputes the whole chain for each body."""
    if xp is np:
        return values
    import jax

    return tuple(jax.lax.optimization_barrier(values))


def forward_kinematics(qpos: Float[Array, "*b 36"]) -> tuple[Float[Array, "*b 30 3"], Float[Array, "*b 30 4"]]:
    """World position (m) and orientation (wxyz) of each body in `BODY_NAMES` order; MuJoCo's `xpos` and `xquat`."""
    xp = namespace(qpos)
    dtype = qpos.dtype
    positions: list[Any] = [None] * len(BODIES)
    quats: list[Any] = [None] * len(BODIES)
    root = qpos[..., 3:7]
    positions[0] = qpos[..., :3]
    quats[0] = root / xp.sqrt(xp.sum(root * root, axis=-1, keepdims=True))
    for level in _LEVELS:
        joints = [_JOINT_OF_BODY[body][0] for body in level]
        axes = xp.asarray(np.stack([_JOINT_OF_BODY[body][1] for body in level]), dtype=dtype)
        parents = [_PARENT[body] for body in level]
        parent_pos = xp.stack([positions[parent] for parent in parents], axis=-2)
        parent_quat = xp.stack([quats[parent] for parent in parents], axis=-2)
        angle = xp.stack([qpos[..., 7 + joint] for joint in joints], axis=-1)
        offset = xp.asarray(_POS[level], dtype=dtype)
        fixed = xp.asarray(_QUAT[level], dtype=dtype)
        level_pos = parent_pos + rotate(parent_quat, xp.broadcast_to(offset, parent_pos.shape))
        turn = quat_mul(xp.broadcast_to(fixed, parent_quat.shape), from_rotation_vector(angle[..., None] * axes))
        level_quat = quat_mul(parent_quat, turn)
        level_pos, level_quat = _settle(xp, level_pos, level_quat)
        for index, body in enumerate(level):
            positions[body] = level_pos[..., index, :]
            quats[body] = level_quat[..., index, :]
    return xp.stack(positions, axis=-2), xp.stack(quats, axis=-2)


def body_velocities(
    qvel: Float[Array, "*b 35"], positions: Float[Array, "*b 30 3"], quats: Float[Array, "*b 30 4"]
) -> tuple[Float[Array, "*b 30 3"], Float[Array, "*b 30 3"]]:
    """World linear (m/s, of the body origin) and angular (rad/s) velocity of each body.

    `qvel` as MuJoCo's: world linear, body-frame angular; `positions` and `quats` from `forward_kinematics`.
    """
    xp = namespace(qvel)
    linear: list[Any] = [None] * len(BODIES)
    angular: list[Any] = [None] * len(BODIES)
    linear[0] = qvel[..., :3]
    angular[0] = rotate(quats[..., 0, :], qvel[..., 3:6])
    for level in _LEVELS:
        joints = np.array([_JOINT_OF_BODY[body][0] for body in level])
        axes = xp.asarray(np.stack([_JOINT_OF_BODY[body][1] for body in level]), dtype=qvel.dtype)
        index, parents = np.array(level), np.array([_PARENT[body] for body in level])
        parent_linear = xp.stack([linear[parent] for parent in parents], axis=-2)
        parent_angular = xp.stack([angular[parent] for parent in parents], axis=-2)
        arm = positions[..., index, :] - positions[..., parents, :]
        quat = quats[..., index, :]
        level_linear = parent_linear + cross(parent_angular, arm)
        spin = rotate(quat, xp.broadcast_to(axes, arm.shape)) * qvel[..., 6 + joints][..., None]
        level_angular = parent_angular + spin
        level_linear, level_angular = _settle(xp, level_linear, level_angular)
        for position, body in enumerate(level):
            linear[body] = level_linear[..., position, :]
            angular[body] = level_angular[..., position, :]
    return xp.stack(linear, axis=-2), xp.stack(angular, axis=-2)


def sole_height(qpos: Float[Array, "*b 36"]) -> Float[Array, "*b 2 4"]:
    """Height (m) above z = 0 of the lowest point of each sole sphere: feet left, right by four corners."""
    xp = namespace(qpos)
    pos, quat = forward_kinematics(qpos)
    feet_pos = pos[..., FEET_INDEX, :][..., None, :]
    feet_quat = quat[..., FEET_INDEX, :][..., None, :]
    corners = xp.asarray(np.array(FOOT_SPHERES), dtype=qpos.dtype)
    shape = (*feet_pos.shape[:-2], len(FOOT_SPHERES))
    world = feet_pos + rotate(xp.broadcast_to(feet_quat, (*shape, 4)), xp.broadcast_to(corners, (*shape, 3)))
    return world[..., 2] - FOOT_SPHERE_RADIUS
