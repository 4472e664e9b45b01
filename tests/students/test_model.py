"""What a student may look at, proved by gradient; remat; precision; the first actions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.students import decode, model
from scaling.students.ladder import ladder

forward = jax.jit(model.forward, static_argnums=0)

LENGTH = 21


def influence(config, params, start):
    """[T out, T in]: sum of |d action[t] / d obs[s]|."""
    obs = jax.random.normal(jax.random.key(1), (1, LENGTH, config.obs_dim))
    jacobian = jax.jit(jax.jacrev(lambda x: model.forward(config, params, x, start)[0]))(obs)
    return np.abs(np.asarray(jacobian[:, :, 0])).sum((1, 3))


def test_action_depends_on_its_receptive_field_alone(tiny):
    config, params = tiny
    start = jnp.zeros((1, LENGTH), bool).at[0, 13].set(True)
    touched = influence(config, params, start)
    out, into = np.indices(touched.shape)
    episode = np.arange(LENGTH) >= 13
    reach = (into <= out) & (out - into < config.receptive_field) & (episode[out] == episode[into])
    assert (touched[~reach] == 0).all()
    assert (touched[reach] > 0).all()


def test_one_layer_reaches_exactly_its_band(transformer, loud):
    config = replace(transformer[0], depth=1)
    touched = influence(config, loud(config, jax.random.key(0)), None)
    out, into = np.indices(touched.shape)
    np.testing.assert_array_equal(touched > 0, (into <= out) & (out - into < config.context))


def test_short_and_long_sequences_agree(transformer):
    """The dense path (up to twice the context) and the blocked path give the same frames."""
    config, params = transformer
    obs = jax.random.normal(jax.random.key(1), (2, LENGTH, 7))
    np.testing.assert_allclose(forward(config, params, obs[:, :8]), forward(config, params, obs)[:, :8], atol=1e-6)


def test_remat_on_equals_remat_off(transformer):
    plain, params = transformer
    obs = jax.random.normal(jax.random.key(1), (2, LENGTH, 7))

    def gradient(config):
        return jax.grad(lambda p: jnp.square(model.forward(config, p, obs)).mean())

    marked = replace(plain, remat=True)
    assert "remat" in str(jax.make_jaxpr(gradient(marked))(params))
    assert "remat" not in str(jax.make_jaxpr(gradient(plain))(params))
    off, on = jax.jit(gradient(plain))(params), jax.jit(gradient(marked))(params)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(off))  # every parameter learns
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), off, on)


def test_first_actions_are_near_zero_and_shaped(tiny):
    config, _ = tiny
    obs = jax.random.normal(jax.random.key(1), (2, LENGTH, 7))
    action = forward(config, model.init(config, jax.random.key(0)), obs)
    assert action.shape == (2, LENGTH, 3)
    assert 0 < float(jnp.abs(action).max()) < 0.05


def test_bfloat16_products_stay_near_float32(tiny):
    config, params = tiny
    obs = jax.random.normal(jax.random.key(1), (2, LENGTH, 7))
    half, full = replace(config, dtype="bfloat16"), forward(config, params, obs)
    stepped = jax.jit(decode.unroll, static_argnums=0)(half, params, obs, jnp.zeros((2, LENGTH), bool))
    for low in (forward(half, params, obs), stepped):
        assert low.dtype == jnp.float32
        assert 0 < float(jnp.abs(low - full).max()) < 0.05 * float(jnp.abs(full).max())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"family": "cnn"}, "'cnn'"),
        ({"width": 0}, "width is 0"),
        ({"heads": None}, "heads is None"),
        ({"heads": 3}, "width is 16"),
        ({"dtype": "int8"}, "'int8'"),
        ({"family": "mlp"}, "heads is 2"),
    ],
)
def test_a_bad_config_is_named(transformer, change, said):
    with pytest.raises(InputError, match=said):
        replace(transformer[0], **change)


@pytest.mark.parametrize(("rung", "family", "obs_dim"), [("2M", "mlp", 200), ("S", "gru", 200), ("0.05M", "mlp", 3000)])
def test_a_size_that_cannot_be_met_is_refused(rung, family, obs_dim):
    with pytest.raises(InputError):
        ladder(family, rung, obs_dim)
