"""What the learned model sees and changes: heading- and translation-invariant features, and integration outside it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from scaling.contract.observation import gravity_direction
from scaling.robot.g1 import NUM_JOINTS
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import (
    from_rotation_vector,
    normalise,
    quat_conj,
    quat_mul,
    rotate,
    rotate_inverse,
    rotation_vector,
)
from scaling.tracking.physics import PhysicsState

FEATURES = 1 + 3 + 6 + 3 * NUM_JOINTS
"""Height, gravity, root velocities (6), joint positions, joint velocities, servo errors."""


def features(state: PhysicsState, ctrl: Float[Array, "*b 29"]) -> Float[Array, "*b 97"]:
    """The network's input in SI units; the same for any position on the floor and any heading.

    The joint targets enter as servo error `ctrl - q` (rad): the spring torque over kp, of one size in every pose.
    """
    qpos = state.qpos
    return jnp.concatenate(
        [
            qpos[..., 2:3],
            gravity_direction(qpos[..., 3:7]),
            local_velocity(state),
            qpos[..., 7:],
            ctrl - qpos[..., 7:],
        ],
        axis=-1,
    )


def local_velocity(state: PhysicsState) -> Float[Array, "*b 35"]:
    """`qvel` with the root's linear velocity in the body frame: m/s, rad/s, rad/s."""
    qpos, qvel = state
    return jnp.concatenate([rotate_inverse(qpos[..., 3:7], qvel[..., :3]), qvel[..., 3:]], axis=-1)


def velocity_change(state: PhysicsState, later: PhysicsState) -> Float[Array, "*b 35"]:
    """`qvel` of `later` less that of `state`, the linear part in the body frame of `state`."""
    change = later.qvel - state.qvel
    return jnp.concatenate([rotate_inverse(state.qpos[..., 3:7], change[..., :3]), change[..., 3:]], axis=-1)


def mean_velocity(state: PhysicsState, later: PhysicsState, dt: float = CONTROL_DT) -> Float[Array, "*b 35"]:
    """The constant local velocity (body frame of `state`) that carries `state` to `later` in `dt` seconds."""
    quat = state.qpos[..., 3:7]
    step = rotate_inverse(quat, later.qpos[..., :3] - state.qpos[..., :3])
    turn = rotation_vector(quat_mul(quat_conj(quat), later.qpos[..., 3:7]))
    return jnp.concatenate([step, turn, later.qpos[..., 7:] - state.qpos[..., 7:]], axis=-1) / dt


def integrate(
    state: PhysicsState,
    change: Float[Array, "*b 35"],
    blend: Float[Array, "35"] | float = 1.0,
    drift: Float[Array, "*b 35"] | float = 0.0,
    dt: float = CONTROL_DT,
) -> PhysicsState:
    """The state after a local velocity change; position moves at `velocity + blend * change + drift` for `dt` seconds.

    `blend` 1 and `drift` 0 is MuJoCo's semi-implicit step (`mj_integratePos` at the new velocity), exact for one
    solver step; over the four of a control step `blend` is each joint's best single figure and `drift` what is left.
    """
    qpos, qvel = state
    quat = qpos[..., 3:7]
    moving = local_velocity(state) + blend * change + drift
    after = jnp.concatenate(
        [
            qpos[..., :3] + dt * rotate(quat, moving[..., :3]),
            normalise(quat_mul(quat, from_rotation_vector(dt * moving[..., 3:6]))),
            qpos[..., 7:] + dt * moving[..., 6:],
        ],
        axis=-1,
    )
    linear = qvel[..., :3] + rotate(quat, change[..., :3])
    return PhysicsState(after, jnp.concatenate([linear, qvel[..., 3:] + change[..., 3:]], axis=-1))
