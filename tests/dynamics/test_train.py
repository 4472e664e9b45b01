"""Training lowers the loss, its gradients reach through a window, and bad data is refused in a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.dynamics.data import gather, window_starts
from scaling.dynamics.model import Dream, ModelConfig, unroll
from scaling.dynamics.soles import SOLE_FEATURES
from scaling.dynamics.state import FEATURES
from scaling.dynamics.train import TrainConfig, losses, train
from scaling.errors import InputError
from tests.dynamics.conftest import SHORT, TINY


def test_the_loss_starts_at_one_and_falls(trained):
    assert trained.loss.shape == (150,)
    assert trained.loss[0] == pytest.approx(1.0, abs=0.5)  # another batch than the one that was balanced
    assert trained.loss[-10:].mean() < 0.75 * trained.loss[:5].mean()


def test_training_is_a_function_of_its_key(data, trained):
    again = train(jax.random.key(0), data, SHORT, TINY)
    other = train(jax.random.key(1), data, SHORT, TINY)
    np.testing.assert_array_equal(again.loss, trained.loss)
    assert not np.array_equal(other.loss, trained.loss)


def test_terms_are_balanced_at_the_start(data, dream):
    config = TrainConfig(window=2, batch=32)
    from scaling.dynamics import train as room

    window = gather(jax.tree.map(jnp.asarray, data), jnp.asarray(window_starts(data, 2)[:32]), 2)
    weights = room._weights(TINY, config, dream, window)
    shares = [weights[name] * value for name, value in losses(TINY, config, dream, window).items()]
    np.testing.assert_allclose(shares, np.full(6, 1 / 6), rtol=1e-4)


def test_gradients_flow_through_eight_steps_and_are_finite(data, dream):
    window = gather(jax.tree.map(jnp.asarray, data), jnp.asarray(window_starts(data, 8)[:16]), 8)

    def last_height(ctrl, dream, limit):
        return jnp.sum(unroll(TINY, dream, window.start, ctrl, limit).qpos[:, -1, 2])

    by_ctrl, by_dream = jax.jit(jax.grad(last_height, argnums=(0, 1)), static_argnums=2)(window.ctrl, dream, None)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((by_ctrl, by_dream)))
    # The very first target moves the height eight steps later; so does every layer.
    assert float(jnp.abs(by_ctrl[:, 0]).max()) > 1e-6
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(by_dream.params))

    clipped = jax.jit(jax.grad(last_height), static_argnums=2)(window.ctrl, dream, 1e-6)
    assert 0 < float(jnp.abs(clipped[:, 0]).max()) < float(jnp.abs(by_ctrl[:, 0]).max())


def test_going_on_keeps_the_scales_and_improves(data, trained):
    more = train(jax.random.key(2), data, SHORT, TINY, start=trained.dream)
    np.testing.assert_array_equal(more.dream.scales.blend, trained.dream.scales.blend)
    assert more.loss[-10:].mean() < more.loss[:10].mean()


@pytest.mark.slow
def test_a_model_with_soles_and_without_drift_trains_through_a_window(data):
    sighted = ModelConfig(width=8, depth=1, drift=False, soles=True)
    found = train(jax.random.key(0), data, TrainConfig(window=2, updates=2, batch=8), sighted)
    assert found.dream.params["hidden_0"]["kernel"].shape[0] == FEATURES + SOLE_FEATURES
    assert found.dream.params["head"]["kernel"].shape == (8, 35)
    assert np.isfinite(found.gradient_norm).all() and found.gradient_norm.min() > 0


def test_bad_data_and_a_diverging_model_are_refused_in_a_sentence(data, trained):
    with pytest.raises(InputError, match="no failure in 600 transitions"):
        train(jax.random.key(0), data._replace(failed=np.zeros_like(data.failed)), SHORT, TINY)
    bad = Dream(jax.tree.map(lambda x: x * jnp.nan, trained.dream.params), trained.dream.scales)
    with pytest.raises(InputError, match="not finite at update 1:"):
        train(jax.random.key(0), data, SHORT, TINY, start=bad)
    for wrong in ({"window": 0}, {"optimiser": "sgd"}, {"learning_rate": 0.0}, {"cotangent_limit": -1.0}):
        name, value = next(iter(wrong.items()))
        with pytest.raises(ValueError, match=f"{name} .*{value}"):
            TrainConfig(**wrong)
