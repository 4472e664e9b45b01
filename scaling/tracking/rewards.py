"""Reward presets of the field, each a table of named terms over `TrackingErrors`."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scaling.robot.g1 import KEYPOINTS, RANGE_HIGH, RANGE_LOW
from scaling.tracking.collisions import self_collisions
from scaling.tracking.errors import TrackingErrors


class RewardInputs(NamedTuple):
    """One control step: errors and state after it, the action and the one before."""

    errors: TrackingErrors
    qpos: Float[Array, "*b 36"]
    action: Float[Array, "*b 29"]
    last_action: Float[Array, "*b 29"]


class RewardTerm(NamedTuple):
    """`weight * value(inputs)` per second of simulated time is summed into the reward."""

    name: str
    weight: float
    value: Callable[[RewardInputs], Array]


def _gaussian(squared: Array, sigma: float) -> Array:
    """exp(-||e||^2 / sigma^2) of a squared error."""
    return jnp.exp(-squared / sigma**2)


def _body_gaussian(error: Array, sigma: float) -> Array:
    """The same of errors [*b, 14, 3], the mean over bodies in the exponent."""
    return _gaussian(jnp.mean(jnp.sum(error * error, axis=-1), axis=-1), sigma)


def _limit_excess(joint_pos: Array) -> Array:
    """Radians beyond 95 % of each joint's range, summed."""
    middle, half = 0.5 * (RANGE_LOW + RANGE_HIGH), 0.475 * (RANGE_HIGH - RANGE_LOW)
    low, high = jnp.asarray(middle - half, joint_pos.dtype), jnp.asarray(middle + half, joint_pos.dtype)
    return jnp.sum(jnp.maximum(low - joint_pos, 0.0) + jnp.maximum(joint_pos - high, 0.0), axis=-1)


def _action_rate(inputs: RewardInputs) -> Array:
    change = inputs.action - inputs.last_action
    return jnp.sum(change * change, axis=-1)


# BeyondMimic / mjlab tracking task (weights and scales: Liao et al. 2025), but for its self-collision.
_BODIES = (
    RewardTerm("torso_position", 0.5, lambda i: _gaussian(i.errors.torso_position**2, 0.3)),
    RewardTerm("torso_orientation", 0.5, lambda i: _gaussian(i.errors.torso_angle**2, 0.4)),
    RewardTerm("body_position", 1.0, lambda i: _body_gaussian(i.errors.body_position, 0.3)),
    RewardTerm("body_orientation", 1.0, lambda i: _body_gaussian(i.errors.body_turn, 0.4)),
    RewardTerm("body_linear_velocity", 1.0, lambda i: _body_gaussian(i.errors.body_linear, 1.0)),
    RewardTerm("body_angular_velocity", 1.0, lambda i: _body_gaussian(i.errors.body_angular, 3.14)),
    RewardTerm("action_rate", -0.1, _action_rate),
    RewardTerm("joint_limits", -10.0, lambda i: _limit_excess(i.qpos[..., 7:])),
)
_SELF_COLLISION = RewardTerm("self_collision", -10.0, lambda i: self_collisions(i.qpos))

BEYONDMIMIC = (*_BODIES, _SELF_COLLISION)

_LOWER = np.array(
    [1.0 if any(part in name for part in ("pelvis", "hip", "knee", "ankle")) else 0.0 for name in KEYPOINTS]
)
_LINK_WEIGHT = np.where(_LOWER > 0, 1.5, 0.75) / len(KEYPOINTS)


def _link_sum(error: Array, sharpness: float) -> Array:
    size = jnp.sum(jnp.abs(error), axis=-1)
    return jnp.sum(jnp.asarray(_LINK_WEIGHT, error.dtype) * jnp.exp(-sharpness * size), axis=-1)


# Humanoid-GPT: sum over links of w exp(-a ||e||_1); the penalties' weights are unpublished, ours are BeyondMimic's.
HUMANOID_GPT = (
    RewardTerm("link_position", 1.0, lambda i: _link_sum(i.errors.body_position, 1.0)),
    RewardTerm("link_rotation", 1.0, lambda i: _link_sum(i.errors.body_turn, 2.0)),
    RewardTerm("link_velocity", 1.0, lambda i: _link_sum(i.errors.body_linear, 0.03)),
    RewardTerm("action_rate", -0.1, _action_rate),
    _SELF_COLLISION,
)

_JOINTS = 0.15  # rad, the scale of the term on the joints

# Ours: BeyondMimic's terms and one on the joints, because body positions barely feel the sag of soft servos. Its
# self-collision is left out: a second pass of kinematics in every step, for poses that references rarely hold.
TRACKING = (
    *_BODIES,
    RewardTerm("joint_position", 2.0, lambda i: _gaussian(jnp.mean(i.errors.joint_position**2, axis=-1), _JOINTS)),
)


def _away(value: Callable[[RewardInputs], Array]) -> Callable[[RewardInputs], Array]:
    """Minus a size that is in units of its scale: its gradient is as steep far away as nearby."""
    return lambda inputs: -value(inputs)


def _mean_norm(error: Array) -> Array:
    """Of errors [*b, n, 3], the mean length."""
    return jnp.mean(jnp.sqrt(jnp.sum(error * error, axis=-1) + 1e-8), axis=-1)


# The terms of "tracking" as absolute errors over the same scales (SuperTrack's choice): for gradients through a model.
ABSOLUTE = (
    RewardTerm("torso_position", 0.5, _away(lambda i: i.errors.torso_position / 0.3)),
    RewardTerm("torso_orientation", 0.5, _away(lambda i: i.errors.torso_angle / 0.4)),
    RewardTerm("body_position", 1.0, _away(lambda i: _mean_norm(i.errors.body_position) / 0.3)),
    RewardTerm("body_orientation", 1.0, _away(lambda i: _mean_norm(i.errors.body_turn) / 0.4)),
    RewardTerm("body_linear_velocity", 1.0, _away(lambda i: _mean_norm(i.errors.body_linear) / 1.0)),
    RewardTerm("body_angular_velocity", 1.0, _away(lambda i: _mean_norm(i.errors.body_angular) / 3.14)),
    *(term for term in _BODIES if term.weight < 0),
    RewardTerm("joint_position", 2.0, _away(lambda i: jnp.mean(jnp.abs(i.errors.joint_position), axis=-1) / _JOINTS)),
)

PRESETS: dict[str, tuple[RewardTerm, ...]] = {
    "absolute": ABSOLUTE,
    "beyondmimic": BEYONDMIMIC,
    "humanoid-gpt": HUMANOID_GPT,
    "tracking": TRACKING,
}


def reward(preset: str, inputs: RewardInputs) -> Float[Array, "*b"]:
    """Reward of one 20 ms control step (weights are per second, as in the sources)."""
    total = sum(term.weight * term.value(inputs) for term in PRESETS[preset])
    return 0.02 * jnp.asarray(total)
