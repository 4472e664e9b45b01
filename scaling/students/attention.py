"""Rotary positions that never lose precision, and banded causal attention over a sequence or over a ring of keys."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# Positions are counted modulo PERIODS * context, and each frequency is a whole number of turns per that period: the
# phase is exact integer arithmetic however long the robot runs, and the ring's slot follows from the same counter.
PERIODS = 128
LONGEST_WAVE = 32  # longest wavelength, in contexts


def period(context: int) -> int:
    """Positions p and p + period rotate alike."""
    return PERIODS * context


def turns(context: int, head_dim: int) -> np.ndarray:
    """Whole turns per period of each rotated pair: from 1 rad per frame down to a wave of 32 contexts, geometric."""
    fastest = max(period(context) / (2 * np.pi), 1.0)
    return np.rint(np.geomspace(fastest, PERIODS / LONGEST_WAVE, head_dim // 2)).astype(np.int32)


def rotation(
    position: Int[Array, "*b"], context: int, head_dim: int
) -> tuple[Float[Array, "*b half"], Float[Array, "*b half"]]:
    """Cosine and sine by which queries and keys at `position` are rotated."""
    whole = period(context)
    phase = (position[..., None] % whole) * jnp.asarray(turns(context, head_dim)) % whole
    angle = phase.astype(jnp.float32) * (2 * np.pi / whole)
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Float[Array, "*b h d"], cos: Float[Array, "*b half"], sin: Float[Array, "*b half"]) -> Any:
    """Rotate the pairs (i, i + d/2) of each head, in float32."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1).astype(x.dtype)


def _blocks(x: Any, size: int) -> Any:
    """[B, T, ...] -> [B, n, size, ...], zero-padded at the end."""
    pad = -x.shape[1] % size
    x = jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))
    return x.reshape(x.shape[0], -1, size, *x.shape[2:])


def _with_previous(x: Any) -> Any:
    """[B, n, size, ...] -> [B, n, 2 size, ...]: each block after the one before it (zeros before the first)."""
    before = jnp.pad(x, [(0, 0), (1, 0)] + [(0, 0)] * (x.ndim - 2))[:, :-1]
    return jnp.concatenate([before, x], axis=2)


def keys_per_query(length: int, context: int) -> int:
    """Keys that `attend` multiplies each query with (masked ones included) in a sequence of `length` frames."""
    return length if length <= 2 * context else 2 * context


def attend(
    query: Float[Array, "B T h d"],
    key: Float[Array, "B T h d"],
    value: Float[Array, "B T h d"],
    episode: Int[Array, "B T"],
    context: int,
) -> Float[Array, "B T h d"]:
    """Attention of each frame to itself and the context - 1 before it in the same episode; linear in T when long."""
    batch, length, heads, head_dim = query.shape
    whole = length <= 2 * context
    size = length if whole else context
    query, key, value, episode = (_blocks(x, size) for x in (query, key, value, episode))
    time = jnp.arange(1, query.shape[1] * size + 1).reshape(1, -1, size)  # from 1: the pad before the first block is 0
    key_time, key_episode = time, episode
    if not whole:
        key, value, key_time, key_episode = (_with_previous(x) for x in (key, value, time, episode))
    lag = time[..., :, None] - key_time[..., None, :]
    mask = (lag >= 0) & (lag < context) & (key_time[..., None, :] > 0)
    mask &= episode[..., :, None] == key_episode[..., None, :]
    scores = jnp.einsum("bnqhd,bnkhd->bnhqk", query, key, preferred_element_type=jnp.float32)
    weights = _softmax(scores * head_dim**-0.5, mask[:, :, None]).astype(value.dtype)
    out = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, value)
    return out.reshape(batch, -1, heads, head_dim)[:, :length]


def attend_ring(
    query: Float[Array, "B h d"],
    keys: Float[Array, "B h c d"],
    values: Float[Array, "B h c d"],
    valid: Bool[Array, "B c"],
) -> Float[Array, "B h d"]:
    """Attention of the present frame to the valid slots of a ring that already holds it, in any order."""
    # A row that diverged leaves NaN in slots that a reset only marks invalid, and 0 * NaN would carry it over.
    values = jnp.where(valid[:, None, :, None], values, 0)
    scores = jnp.einsum("bhd,bhcd->bhc", query, keys, preferred_element_type=jnp.float32)
    weights = _softmax(scores * query.shape[-1] ** -0.5, valid[:, None]).astype(values.dtype)
    return jnp.einsum("bhc,bhcd->bhd", weights, values)


def _softmax(scores: Any, mask: Any) -> Any:
    """Softmax over the last axis where `mask`, exactly 0 elsewhere."""
    return jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), axis=-1)
