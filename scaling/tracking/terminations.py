"""When an episode has failed, by preset."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from scaling.tracking.errors import TrackingErrors


def _beyondmimic(errors: TrackingErrors) -> Array:
    ends = jnp.max(errors.end_effector_height, axis=-1)
    return (errors.torso_height > 0.25) | (errors.torso_gravity > 0.8) | (ends > 0.25)


def _sonic(errors: TrackingErrors) -> Array:
    ends = jnp.max(errors.end_effector_height, axis=-1)
    return (errors.pelvis_height > 0.25) | (ends > 0.25) | (errors.pelvis_angle > 1.0)


def _humanoid_gpt(errors: TrackingErrors) -> Array:
    height = jnp.maximum(errors.pelvis_height, errors.torso_height)
    angle = jnp.maximum(errors.pelvis_angle, errors.torso_angle)
    return (height > 0.25) | (angle > 1.0)


FAILURES: dict[str, Callable[[TrackingErrors], Bool[Array, "*b"]]] = {
    "beyondmimic": _beyondmimic,
    "sonic": _sonic,
    "humanoid-gpt": _humanoid_gpt,
}


def failed(preset: str, errors: TrackingErrors, qpos: Float[Array, "*b 36"]) -> Bool[Array, "*b"]:
    """True where the preset's limits are broken or the state is no longer finite."""
    return FAILURES[preset](errors) | ~jnp.all(jnp.isfinite(qpos), axis=-1)
