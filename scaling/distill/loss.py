"""The one definition of the distillation loss: SmoothL1 of normalised actions, over segments, then over families."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from scaling.contract.normaliser import Normaliser
from scaling.students import model
from scaling.students.config import StudentConfig


def smooth_l1(prediction: Float[Array, "*b act"], target: Float[Array, "*b act"]) -> Float[Array, "*b"]:
    """x^2 / 2 below 1, |x| - 1/2 above, of the difference; mean over the action's entries."""
    return jnp.mean(optax.huber_loss(prediction, target, delta=1.0), axis=-1)


def imitation_loss(
    student: StudentConfig,
    params: Any,
    normaliser: Normaliser,
    scale: Float[Array, "29"],
    obs: Float[Array, "B T obs"],
    start: Bool[Array, "B T"],
    label: Float[Array, "B T 29"],
) -> Float[Array, "B T"]:
    """SmoothL1 at every position between the network's output and the label in units of `scale`."""
    return smooth_l1(model.forward(student, params, normaliser(obs), start), label / scale)


def by_family(
    loss: Float[Array, "N T"], segment: Int[Array, "N T"], family: Int[Array, "G"], families: int
) -> Float[Array, "F"]:
    """Mean over the frames of each segment, then over the segments of each family; NaN where a family has no frame.

    `segment` numbers the G segments, `family[g]` is that of segment g.
    """
    count = family.shape[0]
    flat = segment.reshape(-1)
    total = jax.ops.segment_sum(loss.reshape(-1), flat, count)
    frames = jax.ops.segment_sum(jnp.ones(flat.shape), flat, count)
    seen = frames > 0
    mean = jnp.where(seen, total / jnp.maximum(frames, 1.0), 0.0)
    sums = jax.ops.segment_sum(mean, family, families)
    segments = jax.ops.segment_sum(seen.astype(jnp.float32), family, families)
    return jnp.where(segments > 0, sums / jnp.maximum(segments, 1.0), jnp.nan)


def over_families(losses: Float[np.ndarray, "*b F"]) -> Float[np.ndarray, "*b"]:
    """Mean over the families that have a loss, on the host; NaN where none has."""
    losses = np.asarray(losses, np.float64)
    known = np.isfinite(losses)
    total = np.where(known, losses, 0.0).sum(axis=-1)
    return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)
