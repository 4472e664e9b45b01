"""The PPO loss: Brax's own, to rounding, in value and gradient, and a behaviour that has not moved has a KL of zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.training import types
from brax.training.agents.ppo import losses

from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.experts.loss import Rollout, Weights, log_probability, policy, ppo_loss
from scaling.experts.ppo import PPOConfig, make_networks

E, T, OBS = 6, 5, observation_dim(EXPERT_TERMS)
WEIGHTS = Weights(gamma=0.97, gae_lambda=0.9, clip=0.1, entropy=0.01)
NETWORKS = make_networks(PPOConfig(hidden=(16,), value_hidden=(16,)))


def params_of(seed):
    """Networks whose mean head is not near zero, so that every term has something to say."""
    policy_key, value_key, head_key = jax.random.split(jax.random.key(seed), 3)
    actor = NETWORKS.policy_network.init(policy_key)
    head = actor["params"]["Dense_0"]
    head["kernel"] = 0.1 * jax.random.normal(head_key, head["kernel"].shape)
    return losses.PPONetworkParams(policy=actor, value=NETWORKS.value_network.init(value_key))


@pytest.fixture(scope="module")
def played():
    """`(rollout, next observations, behaviour's std)` of a made-up iteration, with failures and truncations in it."""
    rng = np.random.default_rng(0)
    obs, following = (jnp.asarray(rng.normal(size=(E, T, OBS)), jnp.float32) for _ in range(2))
    mean, std = policy(NETWORKS, None, params_of(0).policy, obs)
    action = mean + std * jnp.asarray(rng.normal(size=mean.shape), jnp.float32)
    failed = jnp.asarray(rng.random((E, T)) < 0.2)
    truncated = jnp.asarray(rng.random((E, T)) < 0.2) & ~failed
    reward = jnp.asarray(rng.normal(size=(E, T)), jnp.float32)
    rollout = Rollout(
        obs, action, mean, log_probability(action, mean, std), reward, failed, truncated, following[:, -1]
    )
    return rollout, following, std


def test_it_is_the_loss_of_brax(played):
    rollout, following, std = played
    now = params_of(1)
    data = types.Transition(
        observation=rollout.obs,
        action=rollout.action,
        reward=rollout.reward,
        discount=1.0 - rollout.failed,
        next_observation=following,
        extras={
            "policy_extras": {
                "log_prob": rollout.log_prob,
                "raw_action": rollout.action,
                "distribution_params": (rollout.mean, jnp.broadcast_to(std, rollout.mean.shape)),
            },
            "state_extras": {"truncation": rollout.truncated.astype(jnp.float32)},
        },
    )

    def theirs(params):
        return losses.compute_ppo_loss(
            params, None, data, jax.random.key(0), ppo_network=NETWORKS, entropy_cost=WEIGHTS.entropy,
            discounting=WEIGHTS.gamma, gae_lambda=WEIGHTS.gae_lambda, clipping_epsilon=WEIGHTS.clip, vf_coefficient=0.5,
        )  # fmt: skip

    (mine, parts), my_grads = jax.value_and_grad(ppo_loss, has_aux=True)(now, rollout, std, NETWORKS, WEIGHTS)
    (value, aux), grads = jax.value_and_grad(theirs, has_aux=True)(now)
    np.testing.assert_allclose(mine, value, rtol=1e-5)
    np.testing.assert_allclose(parts.value, aux["v_loss"], rtol=1e-5)
    np.testing.assert_allclose(parts.std, aux["policy_dist_mean_std"], rtol=1e-4)
    np.testing.assert_allclose(parts.kl, aux["kl_mean"], atol=2 * 29 * 1e-5)  # theirs adds 1e-5 inside each logarithm
    for one, other in zip(jax.tree.leaves(my_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_the_behaviour_itself_has_no_divergence(played):
    rollout, _, std = played
    _, parts = ppo_loss(params_of(0), rollout, std, NETWORKS, WEIGHTS)
    assert abs(parts.kl) < 1e-5


def test_the_probability_is_that_of_a_normal_distribution(played):
    rollout, _, std = played
    expected = jax.scipy.stats.norm.logpdf(rollout.action, rollout.mean, std).sum(axis=-1)
    np.testing.assert_allclose(rollout.log_prob, expected, rtol=1e-5)
