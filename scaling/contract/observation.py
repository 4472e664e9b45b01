"""Observation terms: named, ordered, with units and frames, in array code that runs under NumPy and JAX."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from scaling.robot.rotations import namespace, quat_conj, quat_mul, rotate_inverse, rotation_vector, yaw_quat

Array = Any

LOOK_AHEAD = (5, 10)
"""Frames (at 50 Hz) ahead of now at which the reference is shown as well."""


class Sensors(NamedTuple):
    """What the robot measures: IMU orientation (wxyz), gyro (rad/s, body frame), joints (rad, rad/s)."""

    quat: Float[Array, "*b 4"]
    gyro: Float[Array, "*b 3"]
    joint_pos: Float[Array, "*b 29"]
    joint_vel: Float[Array, "*b 29"]


class Reference(NamedTuple):
    """The motion to follow: now, and at each frame of `LOOK_AHEAD` (axis before the last)."""

    qpos: Float[Array, "*b 36"]
    qvel: Float[Array, "*b 35"]
    ahead_qpos: Float[Array, "*b A 36"]
    ahead_qvel: Float[Array, "*b A 35"]


class Privileged(NamedTuple):
    """What only a simulator knows: root position (m, world) and linear velocity (m/s, world)."""

    root_pos: Float[Array, "*b 3"]
    root_lin_vel: Float[Array, "*b 3"]


class Inputs(NamedTuple):
    """Everything a term may read; `privileged` is None wherever a robot could be."""

    sensors: Sensors
    reference: Reference
    last_action: Float[Array, "*b 29"]
    privileged: Privileged | None = None


@dataclass(frozen=True)
class Term:
    """One block of the observation: `measured` terms exist on the robot, the others only in a simulator.

    `noise` is the half-width of the uniform noise added in training (same unit). Those `of_reference` read nothing
    but the motion to follow, so that a robot knows them before its sensors have spoken.
    """

    name: str
    dim: int
    unit: str
    frame: str
    measured: bool
    noise: float
    compute: Callable[[Inputs], Array]
    of_reference: bool = False


def gravity_direction(quat: Float[Array, "*b 4"]) -> Float[Array, "*b 3"]:
    """Unit vector of gravity in the body frame."""
    xp = namespace(quat)
    down = xp.broadcast_to(xp.asarray(np.array([0.0, 0.0, -1.0]), dtype=quat.dtype), (*quat.shape[:-1], 3))
    return rotate_inverse(quat, down)


def _flat(x: Array) -> Array:
    return x.reshape((*x.shape[:-2], x.shape[-2] * x.shape[-1]))


def _ahead_joints(inputs: Inputs) -> Array:
    reference = inputs.reference
    return _flat(reference.ahead_qpos[..., 7:] - reference.qpos[..., None, 7:])


def _ahead_orientation(inputs: Inputs) -> Array:
    ahead = inputs.reference.ahead_qpos[..., 3:7]
    now = inputs.sensors.quat[..., None, :]
    return _flat(rotation_vector(quat_mul(quat_conj(now), ahead)))


def _ahead_displacement(inputs: Inputs) -> Array:
    reference = inputs.reference
    heading = yaw_quat(reference.qpos[..., 3:7])[..., None, :]
    return _flat(rotate_inverse(heading, reference.ahead_qpos[..., :3] - reference.qpos[..., None, :3]))


def _orientation_error(inputs: Inputs) -> Array:
    return rotation_vector(quat_mul(quat_conj(inputs.sensors.quat), inputs.reference.qpos[..., 3:7]))


def _reference_gravity(inputs: Inputs) -> Array:
    return gravity_direction(inputs.reference.qpos[..., 3:7])


def _reference_lin_vel(inputs: Inputs) -> Array:
    reference = inputs.reference
    return rotate_inverse(reference.qpos[..., 3:7], reference.qvel[..., :3])


def _known(inputs: Inputs) -> Privileged:
    if inputs.privileged is None:
        raise ValueError("a privileged observation term was asked for where only the robot's sensors exist")
    return inputs.privileged


def _root_pos_error(inputs: Inputs) -> Array:
    heading = yaw_quat(inputs.sensors.quat)
    return rotate_inverse(heading, inputs.reference.qpos[..., :3] - _known(inputs).root_pos)


def _root_lin_vel(inputs: Inputs) -> Array:
    return rotate_inverse(inputs.sensors.quat, _known(inputs).root_lin_vel)


def _root_lin_vel_error(inputs: Inputs) -> Array:
    return rotate_inverse(inputs.sensors.quat, inputs.reference.qvel[..., :3] - _known(inputs).root_lin_vel)


_AHEAD = len(LOOK_AHEAD)

TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        Term("gravity", 3, "1", "body", True, 0.05, lambda i: gravity_direction(i.sensors.quat)),
        Term("gyro", 3, "rad/s", "body", True, 0.2, lambda i: i.sensors.gyro),
        Term("joint_error", 29, "rad", "joint", True, 0.01, lambda i: i.reference.qpos[..., 7:] - i.sensors.joint_pos),
        Term("joint_vel", 29, "rad/s", "joint", True, 0.5, lambda i: i.sensors.joint_vel),
        Term("last_action", 29, "action", "joint", True, 0.0, lambda i: i.last_action),
        Term("orientation_error", 3, "rad", "body", True, 0.05, _orientation_error),
        Term("reference_joint_pos", 29, "rad", "joint", True, 0.0, lambda i: i.reference.qpos[..., 7:], True),
        Term("reference_joint_vel", 29, "rad/s", "joint", True, 0.0, lambda i: i.reference.qvel[..., 6:], True),
        Term("reference_gravity", 3, "1", "body", True, 0.0, _reference_gravity, True),
        Term("reference_height", 1, "m", "world", True, 0.0, lambda i: i.reference.qpos[..., 2:3], True),
        Term("reference_lin_vel", 3, "m/s", "reference body", True, 0.0, _reference_lin_vel, True),
        Term("reference_ang_vel", 3, "rad/s", "reference body", True, 0.0, lambda i: i.reference.qvel[..., 3:6], True),
        Term("ahead_joints", 29 * _AHEAD, "rad", "joint", True, 0.0, _ahead_joints, True),
        Term("ahead_orientation", 3 * _AHEAD, "rad", "body", True, 0.05, _ahead_orientation),
        Term("ahead_displacement", 3 * _AHEAD, "m", "reference heading", True, 0.0, _ahead_displacement, True),
        Term("root_pos_error", 3, "m", "heading", False, 0.0, _root_pos_error),
        Term("root_lin_vel", 3, "m/s", "body", False, 0.0, _root_lin_vel),
        Term("root_lin_vel_error", 3, "m/s", "body", False, 0.0, _root_lin_vel_error),
    )
}

STUDENT_TERMS: tuple[str, ...] = tuple(term.name for term in TERMS.values() if term.measured)
EXPERT_TERMS: tuple[str, ...] = tuple(TERMS)


def observation_dim(terms: tuple[str, ...]) -> int:
    """Length of the observation vector of these terms."""
    return sum(TERMS[name].dim for name in terms)


def reference_terms(terms: tuple[str, ...], reference: Reference) -> dict[str, Array]:
    """Those of the terms that are known from the motion to follow alone."""
    nobody = Sensors(*[reference.qpos[..., :0]] * 4)
    inputs = Inputs(nobody, reference, nobody.quat)
    return {name: TERMS[name].compute(inputs) for name in terms if TERMS[name].of_reference}


def observe(
    terms: tuple[str, ...], inputs: Inputs, known: Mapping[str, Array] = MappingProxyType({})
) -> Float[Array, "*b obs"]:
    """The observation vector: the terms in the given order; those that are `known` are not computed again.

    Raises ValueError for a privileged term without `inputs.privileged`.
    """
    xp = namespace(inputs.last_action)
    return xp.concatenate([known[name] if name in known else TERMS[name].compute(inputs) for name in terms], axis=-1)


def noise_scale(terms: tuple[str, ...]) -> Float[np.ndarray, "obs"]:
    """Half-width of each entry's uniform training noise."""
    return np.concatenate([np.full(TERMS[name].dim, TERMS[name].noise) for name in terms])
