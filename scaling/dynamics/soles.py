"""Where the corners of the feet are and how they move, seen from the pelvis: geometry that a network cannot guess."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scaling.contract.observation import gravity_direction
from scaling.robot.figures import BODIES, JOINTS
from scaling.robot.g1 import BODY_INDEX, FOOT_SPHERE_RADIUS, FOOT_SPHERES
from scaling.robot.rotations import cross, from_rotation_vector, quat_mul, rotate, rotate_inverse
from scaling.tracking.physics import PhysicsState

SOLE_FEATURES = 8 * 4
"""Height and velocity (3) of each sole corner, left foot first."""

_DEPTH = 0.005  # m: over this height above the floor the arsinh turns from linear to logarithmic
_LEG = 6  # joints, hip to ankle
_LEGS = np.arange(2 * _LEG).reshape(2, _LEG).T  # [6, 2]: joint of each level, left and right
_BODIES = [[BODIES[BODY_INDEX[JOINTS[joint].body]] for joint in level] for level in _LEGS]
_POS = np.array([[body.pos for body in level] for level in _BODIES])  # [6, 2, 3]
_QUAT = np.array([[np.array(body.quat) / np.linalg.norm(body.quat) for body in level] for level in _BODIES])
_AXIS = np.array([[JOINTS[joint].axis for joint in level] for level in _LEGS])

_Link = tuple[Array, Array, Array, Array]  # position, orientation, linear and angular velocity


def sole_motion(state: PhysicsState) -> tuple[Float[Array, "*b 2 4"], Float[Array, "*b 2 4 3"]]:
    """Height (m) above the floor and velocity (m/s, pelvis frame) of each sole corner.

    Two legs at once down a scan of six joints: the whole robot's kinematics, differentiated through a window, takes
    XLA minutes to compile.
    """
    qpos, qvel = state
    lead, dtype = qpos.shape[:-1], qpos.dtype
    legs = jnp.asarray(_LEGS)
    angle = jnp.moveaxis(qpos[..., 7 + legs], -2, 0)  # [6, *b, 2]
    speed = jnp.moveaxis(qvel[..., 6 + legs], -2, 0)
    shape = (*lead, 2)
    spin = jnp.broadcast_to(qvel[..., None, 3:6], (*shape, 3))
    linear = rotate_inverse(qpos[..., 3:7], qvel[..., :3])
    start = (
        jnp.zeros((*shape, 3), dtype),
        jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0, 0.0], dtype), (*shape, 4)),
        jnp.broadcast_to(linear[..., None, :], (*shape, 3)),
        spin,
    )

    def down(carry: _Link, level: tuple[Array, ...]) -> tuple[_Link, None]:
        pos, quat, velocity, spin = carry
        offset, fixed, axis, angle, speed = level
        arm = rotate(quat, jnp.broadcast_to(offset, pos.shape))
        turn = from_rotation_vector(angle[..., None] * axis)
        quat = quat_mul(quat, quat_mul(jnp.broadcast_to(fixed, quat.shape), turn))
        velocity = velocity + cross(spin, arm)
        spin = spin + speed[..., None] * rotate(quat, jnp.broadcast_to(axis, pos.shape))
        return (pos + arm, quat, velocity, spin), None

    levels = (*(jnp.asarray(x, dtype) for x in (_POS, _QUAT, _AXIS)), angle, speed)
    (pos, quat, velocity, spin), _ = jax.lax.scan(down, start, levels)
    corners = jnp.broadcast_to(jnp.asarray(np.array(FOOT_SPHERES), dtype), (*shape, 4, 3))
    arms = rotate(jnp.broadcast_to(quat[..., None, :], (*shape, 4, 4)), corners)
    up = -gravity_direction(qpos[..., 3:7])[..., None, None, :]
    height = qpos[..., 2][..., None, None] + jnp.sum(up * (pos[..., None, :] + arms), axis=-1) - FOOT_SPHERE_RADIUS
    return height, velocity[..., None, :] + cross(jnp.broadcast_to(spin[..., None, :], arms.shape), arms)


def sole_features(state: PhysicsState) -> Float[Array, "*b 32"]:
    """Of each sole corner: arsinh of its height over 5 mm (contact turns on within millimetres), and its velocity."""
    height, velocity = sole_motion(state)
    seen = jnp.concatenate([jnp.arcsinh(height / _DEPTH)[..., None], velocity], axis=-1)
    return seen.reshape((*seen.shape[:-3], SOLE_FEATURES))
