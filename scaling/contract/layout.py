"""Where things stand in a student's observation: the entries that a look-ahead shows, and the state that is sensed."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from scaling.contract.observation import LOOK_AHEAD, STUDENT_TERMS, TERMS
from scaling.errors import InputError
from scaling.robot.rotations import namespace

Array = Any

AHEAD = tuple(name for name in STUDENT_TERMS if name.startswith("ahead_"))
"""The terms that show the reference ahead of now, frame after frame."""
# Per 20 ms, gravity, gyro (rad/s), joints (rad) and their velocities (rad/s): what they change by, within a factor of
# three, in walks and dances of the G1.
_CHANGES = {"gravity": 0.005, "gyro": 0.2, "reference_joint_pos": 0.02, "joint_vel": 0.5}
CHANGE_SCALE = np.concatenate([np.full(TERMS[name].dim, size, np.float32) for name, size in _CHANGES.items()])
"""What one unit of a predicted change of `sensed_state` is."""
STATE_DIM = len(CHANGE_SCALE)


def entries(name: str) -> slice:
    """Where a term stands in the observation."""
    first = sum(TERMS[other].dim for other in STUDENT_TERMS[: STUDENT_TERMS.index(name)])
    return slice(first, first + TERMS[name].dim)


def seen(look_ahead: Sequence[int]) -> Int[np.ndarray, "n"]:
    """Entries left when the reference is shown now and at these of the frames of `LOOK_AHEAD` alone.

    Raises InputError for frames that the contract does not show.
    """
    return _seen(tuple(look_ahead))


@functools.cache  # every config of a student asks
def _seen(look_ahead: tuple[int, ...]) -> Int[np.ndarray, "n"]:
    if not set(look_ahead) <= set(LOOK_AHEAD) or list(look_ahead) != sorted(set(look_ahead)):
        raise InputError(f"look_ahead is {tuple(look_ahead)}; use frames of {LOOK_AHEAD}, rising, or none")
    kept = []
    for name in STUDENT_TERMS:
        where = np.r_[entries(name)]
        if name in AHEAD:
            where = where.reshape(len(LOOK_AHEAD), -1)[[LOOK_AHEAD.index(frame) for frame in look_ahead]].reshape(-1)
        kept.append(where)
    found = np.concatenate(kept)
    found.flags.writeable = False
    return found


def sensed_state(obs: Float[Array, "*b obs"]) -> Float[Array, "*b 64"]:
    """Gravity (body), gyro (rad/s, body), joint positions (rad) and velocities (rad/s) from a raw observation."""
    joints = obs[..., entries("reference_joint_pos")] - obs[..., entries("joint_error")]
    parts = (obs[..., entries("gravity")], obs[..., entries("gyro")], joints, obs[..., entries("joint_vel")])
    return namespace(obs).concatenate(parts, axis=-1)
