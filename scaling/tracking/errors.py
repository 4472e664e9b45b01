"""How far a robot is from its reference: the quantities that rewards, terminations and metrics share."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from scaling.contract.observation import gravity_direction
from scaling.robot.g1 import END_EFFECTOR_INDEX, KEYPOINT_INDEX, TORSO
from scaling.robot.kinematics import body_velocities, forward_kinematics
from scaling.robot.rotations import angle_between, quat_conj, quat_mul, rotate, rotation_vector, yaw_quat


class TrackingErrors(NamedTuple):
    """Per robot, at one instant; bodies are the 14 key bodies, moved to the robot's heading where "relative"."""

    torso_position: Float[Array, "*b"]  # m
    torso_height: Float[Array, "*b"]  # m, absolute value
    torso_angle: Float[Array, "*b"]  # rad
    torso_gravity: Float[Array, "*b"]  # difference of the vertical component of projected gravity
    pelvis_height: Float[Array, "*b"]  # m, absolute value
    pelvis_angle: Float[Array, "*b"]  # rad
    end_effector_height: Float[Array, "*b 4"]  # m, absolute value: feet, wrists
    body_position: Float[Array, "*b 14 3"]  # m, world axes, relative (xy and heading of the torso)
    body_turn: Float[Array, "*b 14 3"]  # rad, rotation vector in the body's frame, relative
    body_linear: Float[Array, "*b 14 3"]  # m/s, world axes
    body_angular: Float[Array, "*b 14 3"]  # rad/s, world axes
    local_position: Float[Array, "*b 14"]  # m, root-relative (SONIC's mpjpe_l)
    own_frame_axes: Float[Array, "*b 14"]  # m, mean per-axis, each in its own xy-and-yaw frame (Humanoid-GPT)
    joint_position: Float[Array, "*b 29"]  # rad, signed
    joint_velocity: Float[Array, "*b 29"]  # rad/s, signed
    root_velocity: Float[Array, "*b"]  # m/s, mean per-axis


def _norm(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(x * x, axis=-1) + 1e-12)


def _heading_frame(pos: Array, quat: Array, root_pos: Array, root_quat: Array) -> Array:
    inverse = quat_conj(yaw_quat(root_quat))[..., None, :]
    origin = root_pos * jnp.array([1.0, 1.0, 0.0])
    return rotate(jnp.broadcast_to(inverse, (*pos.shape[:-1], 4)), pos - origin[..., None, :])


def tracking_errors(
    qpos: Float[Array, "*b 36"],
    qvel: Float[Array, "*b 35"],
    reference_qpos: Float[Array, "*b 36"],
    reference_qvel: Float[Array, "*b 35"],
) -> TrackingErrors:
    """Errors between a robot and its reference at the same instant (state t against reference t)."""
    both_qpos = jnp.stack([qpos, reference_qpos])
    both_qvel = jnp.stack([qvel, reference_qvel])
    pos, quat = forward_kinematics(both_qpos)
    linear, angular = body_velocities(both_qvel, pos, quat)
    torso_pos, torso_quat = pos[..., TORSO, :], quat[..., TORSO, :]
    key_pos, key_quat = pos[..., KEYPOINT_INDEX, :], quat[..., KEYPOINT_INDEX, :]
    key_linear, key_angular = linear[..., KEYPOINT_INDEX, :], angular[..., KEYPOINT_INDEX, :]

    # BeyondMimic: the reference's bodies are carried to the robot's torso (its xy and heading, own height).
    turn = yaw_quat(quat_mul(torso_quat[0], quat_conj(torso_quat[1])))
    anchor = jnp.concatenate([torso_pos[0, ..., :2], torso_pos[1, ..., 2:]], axis=-1)
    turns = jnp.broadcast_to(turn[..., None, :], key_quat[1].shape)
    carried_pos = anchor[..., None, :] + rotate(turns, key_pos[1] - torso_pos[1][..., None, :])
    carried_quat = quat_mul(turns, key_quat[1])

    ends = pos[..., END_EFFECTOR_INDEX, 2]
    own = _heading_frame(key_pos, key_quat, pos[..., 0, :], quat[..., 0, :])
    root_quat = jnp.broadcast_to(quat[..., :1, :], key_quat.shape)
    local = rotate(quat_conj(root_quat), key_pos - pos[..., :1, :])
    return TrackingErrors(
        torso_position=_norm(torso_pos[0] - torso_pos[1]),
        torso_height=jnp.abs(torso_pos[0, ..., 2] - torso_pos[1, ..., 2]),
        torso_angle=angle_between(torso_quat[0], torso_quat[1]),
        torso_gravity=jnp.abs(gravity_direction(torso_quat[0])[..., 2] - gravity_direction(torso_quat[1])[..., 2]),
        pelvis_height=jnp.abs(qpos[..., 2] - reference_qpos[..., 2]),
        pelvis_angle=angle_between(quat[0, ..., 0, :], quat[1, ..., 0, :]),
        end_effector_height=jnp.abs(ends[0] - ends[1]),
        body_position=key_pos[0] - carried_pos,
        body_turn=rotation_vector(quat_mul(quat_conj(key_quat[0]), carried_quat)),
        body_linear=key_linear[0] - key_linear[1],
        body_angular=key_angular[0] - key_angular[1],
        local_position=_norm(local[0] - local[1]),
        own_frame_axes=jnp.mean(jnp.abs(own[0] - own[1]), axis=-1),
        joint_position=qpos[..., 7:] - reference_qpos[..., 7:],
        joint_velocity=qvel[..., 6:] - reference_qvel[..., 6:],
        root_velocity=jnp.mean(jnp.abs(qvel[..., :3] - reference_qvel[..., :3]), axis=-1),
    )
