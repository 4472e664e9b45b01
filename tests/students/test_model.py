"""What a student may look at, proved by gradient; remat; precision; the first actions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.layout import AHEAD, STATE_DIM, entries
from scaling.contract.observation import STUDENT_TERMS, TERMS, observation_dim
from scaling.errors import InputError
from scaling.students import count, decode, model
from scaling.students.ladder import ladder
from scaling.students.network import dense
from tests.students.conftest import TINY

forward = jax.jit(model.forward, static_argnums=0)

LENGTH = 21
OBS = observation_dim(STUDENT_TERMS)


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


@pytest.mark.parametrize("family", ["transformer", "tcn", "gru"])
def test_remat_on_equals_remat_off(family, loud):
    plain = TINY[family]
    params = loud(plain, jax.random.key(0))
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


def test_half_precision_products_are_summed_in_float32():
    """4,096 ones: a sum in bfloat16 stops at 256, forward (over inputs) and in gradients (over frames)."""
    count, layer = 4096, dense(replace(TINY["mlp"], dtype="bfloat16"), 4)

    def total(kernel, x):
        out = layer.apply({"params": {"kernel": kernel}}, x)
        assert out.dtype == jnp.bfloat16
        return out.astype(jnp.float32)

    kernel, x = jnp.ones((count, 4)), jnp.ones((3, count))
    np.testing.assert_array_equal(jax.jit(total)(kernel, x), count)
    over_frames = jax.jit(jax.grad(lambda kernel, x: total(kernel, x).sum()))
    np.testing.assert_array_equal(over_frames(kernel[:3], jnp.ones((count, 3))), count)


def test_look_ahead_off_reads_what_is_shown_of_now_alone(loud):
    config = ladder("mlp", "0.05M", OBS, look_ahead=())
    shown = [entries(name) for name in AHEAD]
    hidden = np.isin(np.arange(OBS), np.concatenate([np.r_[where] for where in shown]))
    obs = jax.random.normal(jax.random.key(1), (1, 5, OBS))
    params = jax.jit(loud, static_argnums=0)(config, jax.random.key(0))
    gradient = jax.jit(jax.grad(lambda x: jnp.abs(model.forward(config, params, x)).sum()))(obs)
    touched = np.abs(np.asarray(gradient)).sum((0, 1)) > 0
    np.testing.assert_array_equal(touched, ~hidden)
    half = replace(config, look_ahead=(10,))
    assert half.input_dim == config.input_dim + hidden.sum() // 2
    assert all(TERMS[name].measured for name in STUDENT_TERMS)  # whatever is read, a robot can measure


@pytest.mark.parametrize("family", ["mlp", "gru"])
def test_the_second_head_shares_the_trunk_and_leaves_actions_alone(family):
    plain = replace(TINY[family], obs_dim=OBS)
    config = replace(plain, auxiliary=0.5)
    init = jax.jit(model.init, static_argnums=0)
    params = init(config, jax.random.key(0))
    without = {name: value for name, value in params.items() if name != "auxiliary"}
    jax.tree.map(np.testing.assert_array_equal, without, init(plain, jax.random.key(0)))
    obs = jax.random.normal(jax.random.key(1), (2, 6, OBS))

    @jax.jit
    def both(params):
        def total(params):
            action, change = model.forward_both(config, params, obs)
            return jnp.square(change).sum(), (action, change)

        return jax.grad(total, has_aux=True)(params)

    touched, (action, change) = both(params)
    assert change.shape == (2, 6, STATE_DIM)
    np.testing.assert_allclose(action, forward(config, params, obs), atol=1e-7)
    for name in without.keys() - {"head"}:
        assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(touched[name])), name
    assert count.closed_form(config) == count.parameters_by_group(model.abstract_params(config))
    assert count.parameters(config) - count.parameters(plain) == STATE_DIM * (plain.width + 1)
    assert count.flops_per_token(config) == count.flops_per_token(plain)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"family": "cnn"}, "'cnn'"),
        ({"width": 0}, "width is 0"),
        ({"heads": None}, "heads is None"),
        ({"heads": 3}, "width is 16"),
        ({"dtype": "int8"}, "'int8'"),
        ({"family": "mlp"}, "heads is 2"),
        ({"look_ahead": (5, 6)}, "look_ahead"),
        ({"look_ahead": (10, 5)}, "look_ahead"),
        ({"look_ahead": ()}, "obs_dim is 7"),
        ({"auxiliary": 1.0}, "obs_dim is 7"),
        ({"auxiliary": -1.0}, "auxiliary is -1"),
        ({"family": "tcn", "heads": None, "context": 1}, "context is 1"),
    ],
)
def test_a_bad_config_is_named(transformer, change, said):
    with pytest.raises(InputError, match=said):
        replace(transformer[0], **change)


@pytest.mark.parametrize(
    ("rung", "family", "obs_dim"), [("2M", "mlp", 200), ("S", "lstm", 200), ("0.05M", "mlp", 3000)]
)
def test_a_size_that_cannot_be_met_is_refused(rung, family, obs_dim):
    with pytest.raises(InputError):
        ladder(family, rung, obs_dim)
