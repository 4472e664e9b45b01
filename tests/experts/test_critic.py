"""The critic of a roll-out's tail: its returns by hand, whose gradient goes where, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.experts.actor import OBS
from scaling.experts.critic import CriticConfig, init, learn, objective, returns, value

CONFIG = CriticConfig(hidden=(8,), discount=0.9, trace=0.5, learning_rate=1e-2)


def test_returns_by_hand():
    reward = jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    counts = jnp.array([[True, True], [True, False], [True, False]])
    values = jnp.array([[0.5, 0.5], [0.6, 0.6], [0.7, 0.7], [0.8, 0.8]])
    found = np.asarray(returns(CONFIG, reward, counts, values))
    last = 0.1 * 3 + 0.9 * 0.8
    middle = 0.1 * 2 + 0.9 * (0.5 * 0.7 + 0.5 * last)
    first = 0.1 * 1 + 0.9 * (0.5 * 0.6 + 0.5 * middle)
    np.testing.assert_allclose(found[:, 0], [first, middle, last], rtol=1e-6)
    cut = 0.1 * 1 + 0.9 * (0.5 * 0.6 + 0.5 * 0.6)  # the second step does not count: its state's value ends the roll-out
    np.testing.assert_allclose(found[0, 1], cut, rtol=1e-6)


def test_the_actor_feels_reward_and_tail_and_the_critic_its_error_alone():
    state = init(CONFIG, jax.random.key(0))
    loud = state._replace(slow=jax.tree.map(lambda x: x + 0.1, state.slow))
    obs = jax.random.normal(jax.random.key(1), (3, 2, OBS))
    reward, counts = jnp.ones((2, 2)), jnp.ones((2, 2), bool)

    def loss(params, obs, reward):
        return objective(CONFIG, params, loud, obs, reward, counts)

    critic, seen, gain = jax.grad(loss, (0, 1, 2))(state.params, obs, reward)
    np.testing.assert_allclose(gain, -np.array([[1.0, 1.0], [0.9, 0.9]]) / 4, rtol=1e-6)
    assert float(jnp.abs(seen[-1]).min()) > 0 and float(jnp.abs(seen[:-1]).max()) == 0.0
    assert float(jnp.abs(critic.kernels[-1]).max()) > 0
    quiet = jax.grad(lambda p: objective(CONFIG, p, loud, obs, reward, jnp.zeros((2, 2), bool)))(state.params)
    assert float(jnp.abs(quiet.kernels[-1]).max()) == 0.0


def test_it_learns_what_a_constant_reward_is_worth():
    obs = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (16, OBS)), (5, 16, OBS))
    reward, counts = jnp.full((4, 16), 0.7), jnp.ones((4, 16), bool)

    @jax.jit
    def update(state, _):
        grads = jax.grad(lambda p: objective(CONFIG, p, state, obs, reward, counts))(state.params)
        return learn(CONFIG, state, grads), None

    state, _ = jax.lax.scan(update, init(CONFIG, jax.random.key(0)), None, length=1500)
    np.testing.assert_allclose(value(state.slow, obs), 0.7, atol=0.1)


@pytest.mark.parametrize("change", [{"discount": 1.0}, {"trace": 1.5}, {"hidden": ()}, {"learning_rate": 0.0}])
def test_a_config_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError, match=r"above 0|shares"):
        CriticConfig(**change)
