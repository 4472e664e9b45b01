"""Step-wise decoding is the training-time forward, past the window, past the counter's wrap and across resets."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.students import decode, model
from scaling.students.attention import period
from scaling.students.ladder import ladder

forward = jax.jit(model.forward, static_argnums=0)
decode_sequence = jax.jit(decode.unroll, static_argnums=0)

LENGTH = 600


@pytest.fixture(scope="module")
def sequence():
    """Observations [3,600,7] and episode starts: none, one in the middle, many (some a frame apart)."""
    obs = jax.random.normal(jax.random.key(1), (3, LENGTH, 7))
    start = jax.random.bernoulli(jax.random.key(2), 0.3, (3, LENGTH))
    start = start.at[0].set(False).at[1].set(jnp.arange(LENGTH) == 301)
    return obs, start


def test_decode_equals_forward_with_resets(tiny, sequence):
    config, params = tiny
    assert period(4) < LENGTH  # the position counter wraps inside the sequence
    full, stepped = forward(config, params, *sequence), decode_sequence(config, params, *sequence)
    assert float(jnp.abs(full).max()) > 0.5
    np.testing.assert_allclose(stepped, full, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "context"), [("transformer", 16), ("transformer", 64), ("mlp", 32), ("tcn", 32), ("gru", 32)]
)
def test_smallest_rung_decodes_500_steps_exactly(family, context, loud):
    config = ladder(family, "0.05M", 200, context=context)
    params = loud(config, jax.random.key(3))
    obs, start = jax.random.normal(jax.random.key(4), (2, 500, 200)), jnp.zeros((2, 500), bool)
    full = forward(config, params, obs)
    assert float(jnp.abs(full).max()) > 0.5
    np.testing.assert_allclose(decode_sequence(config, params, obs, start), full, atol=1e-5, rtol=0)


def test_start_cuts_a_sequence_as_two_calls_would(tiny, sequence):
    config, params = tiny
    obs, start = sequence
    whole = forward(config, params, obs[1:2], start[1:2])
    after = forward(config, params, obs[1:2, 301:])
    np.testing.assert_allclose(whole[:, 301:], after, atol=1e-5, rtol=0)
    uncut = forward(config, params, obs[1:2], jnp.zeros_like(start[1:2]))
    assert float(jnp.abs(uncut - whole)[:, 301].max()) > 1e-2  # the cut does change what follows it


def test_reset_forgets_a_diverged_row(tiny):
    config, params = tiny
    step = jax.jit(partial(decode.step, config))
    obs, none = jax.random.normal(jax.random.key(5), (2, 7)), jnp.zeros(2, bool)
    state = decode.init_state(config, 2)
    for _ in range(3):
        action, state = step(params, state, obs.at[0].set(jnp.nan), none)
    assert bool(jnp.isnan(action[0]).all())
    assert bool(jnp.isfinite(action[1]).all())
    action, _ = step(params, state, obs, jnp.array([True, False]))
    fresh, _ = step(params, decode.init_state(config, 2), obs, none)
    np.testing.assert_allclose(action[0], fresh[0], atol=1e-5)


def test_many_runs_in_one_vmapped_program(tiny, sequence, loud):
    config, _ = tiny
    obs, start = sequence
    stacked = jax.vmap(partial(loud, config))(jax.random.split(jax.random.key(6), 3))
    together = jax.vmap(partial(forward, config), in_axes=(0, None, None))(stacked, obs, start)
    stepped = jax.vmap(partial(decode_sequence, config), in_axes=(0, None, None))(stacked, obs, start)
    np.testing.assert_allclose(stepped, together, atol=1e-5, rtol=0)
    for run in range(3):
        alone = forward(config, jax.tree.map(lambda leaf, run=run: leaf[run], stacked), obs, start)
        np.testing.assert_allclose(together[run], alone, atol=1e-5, rtol=0)


def test_act_normalises_then_steps(tiny):
    config, params = tiny
    raw = 5 + 3 * jax.random.normal(jax.random.key(7), (2, 7))
    normaliser = Normaliser(jnp.full(7, 5.0), jnp.full(7, 3.0))
    state = decode.init_state(config, 2)
    expected, _ = decode.step(config, params, state, (raw - 5) / 3)
    donating = jax.jit(partial(decode.act, config), donate_argnums=2)  # as a rollout calls it
    action, _ = donating(params, normaliser, state, raw)
    np.testing.assert_allclose(action, expected, atol=1e-6)
