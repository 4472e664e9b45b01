"""How far a robot is from its reference: the quantities that rewards, terminations and metrics share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scaling.contract.observation import gravity_direction
from scaling.robot.g1 import END_EFFECTORS, KEYPOINT_INDEX, KEYPOINTS
from scaling.robot.kinematics import body_velocities, forward_kinematics
from scaling.robot.rotations import angle_between, quat_conj, quat_mul, rotate, rotation_vector, yaw_quat

_TORSO = KEYPOINTS.index("torso_link")
_ENDS = [KEYPOINTS.index(name) for name in END_EFFECTORS]


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


class KeyBodies(NamedTuple):
    """A state and the motion of its 14 key bodies: what two states are compared by."""

    qpos: Float[Array, "*b 36"]
    qvel: Float[Array, "*b 35"]
    position: Float[Array, "*b 14 3"]  # m, world
    quat: Float[Array, "*b 14 4"]
    linear: Float[Array, "*b 14 3"]  # m/s, world axes
    angular: Float[Array, "*b 14 3"]  # rad/s, world axes


def key_bodies(qpos: Float[Array, "*b 36"], qvel: Float[Array, "*b 35"]) -> KeyBodies:
    """The key bodies of a state."""
    pos, quat = forward_kinematics(qpos)
    bodies = jnp.concatenate([pos, quat, *body_velocities(qvel, pos, quat)], axis=-1)[..., KEYPOINT_INDEX, :]
    return KeyBodies(qpos, qvel, *jnp.split(bodies, (3, 7, 10), axis=-1))


def tracking_errors(
    qpos: Float[Array, "*b 36"],
    qvel: Float[Array, "*b 35"],
    reference_qpos: Float[Array, "*b 36"],
    reference_qvel: Float[Array, "*b 35"],
) -> TrackingErrors:
    """Errors between a robot and its reference at the same instant (state t against reference t)."""
    both = key_bodies(jnp.stack([qpos, reference_qpos]), jnp.stack([qvel, reference_qvel]))
    return compare(*(jax.tree.map(lambda x, i=i: x[i], both) for i in range(2)))


def compare(robot: KeyBodies, reference: KeyBodies) -> TrackingErrors:
    """Errors between a robot and its reference, of which the kinematics are known."""
    torso, torso_at = robot.quat[..., _TORSO, :], robot.position[..., _TORSO, :]
    wanted, wanted_at = reference.quat[..., _TORSO, :], reference.position[..., _TORSO, :]

    # BeyondMimic: the reference's bodies are carried to the robot's torso (its xy and heading, own height).
    turn = yaw_quat(quat_mul(torso, quat_conj(wanted)))
    anchor = jnp.concatenate([torso_at[..., :2], wanted_at[..., 2:]], axis=-1)
    turns = jnp.broadcast_to(turn[..., None, :], reference.quat.shape)
    carried_pos = anchor[..., None, :] + rotate(turns, reference.position - wanted_at[..., None, :])
    carried_quat = quat_mul(turns, reference.quat)

    heights = robot.position[..., _ENDS, 2] - reference.position[..., _ENDS, 2]
    return TrackingErrors(
        torso_position=_norm(torso_at - wanted_at),
        torso_height=jnp.abs(torso_at[..., 2] - wanted_at[..., 2]),
        torso_angle=angle_between(torso, wanted),
        torso_gravity=jnp.abs(gravity_direction(torso)[..., 2] - gravity_direction(wanted)[..., 2]),
        pelvis_height=jnp.abs(robot.qpos[..., 2] - reference.qpos[..., 2]),
        pelvis_angle=angle_between(robot.quat[..., 0, :], reference.quat[..., 0, :]),
        end_effector_height=jnp.abs(heights),
        body_position=robot.position - carried_pos,
        body_turn=rotation_vector(quat_mul(quat_conj(robot.quat), carried_quat)),
        body_linear=robot.linear - reference.linear,
        body_angular=robot.angular - reference.angular,
        local_position=_norm(_local(robot) - _local(reference)),
        own_frame_axes=jnp.mean(jnp.abs(_heading_frame(robot) - _heading_frame(reference)), axis=-1),
        joint_position=robot.qpos[..., 7:] - reference.qpos[..., 7:],
        joint_velocity=robot.qvel[..., 6:] - reference.qvel[..., 6:],
        root_velocity=jnp.mean(jnp.abs(robot.qvel[..., :3] - reference.qvel[..., :3]), axis=-1),
    )


def _local(bodies: KeyBodies) -> Float[Array, "*b 14 3"]:
    root = jnp.broadcast_to(bodies.quat[..., :1, :], bodies.quat.shape)
    return rotate(quat_conj(root), bodies.position - bodies.position[..., :1, :])


def _heading_frame(bodies: KeyBodies) -> Float[Array, "*b 14 3"]:
    inverse = quat_conj(yaw_quat(bodies.quat[..., 0, :]))[..., None, :]
    origin = bodies.position[..., :1, :] * jnp.array([1.0, 1.0, 0.0])
    return rotate(jnp.broadcast_to(inverse, bodies.quat.shape), bodies.position - origin)
