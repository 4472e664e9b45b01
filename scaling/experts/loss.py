"""The clipped PPO loss (Schulman et al. 2017) of one expert, environments first: Brax's, without its transpositions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax.training.agents.ppo import losses, networks
from jaxtyping import Array, Bool, Float


class Rollout(NamedTuple):
    """An iteration's episodes for the learner; `mean` and `log_prob` are the behaviour's, `last_obs` comes after.

    For the loss, `obs` and `last_obs` are whatever its networks read.
    """

    obs: Any
    action: Float[Array, "E T 29"]
    mean: Float[Array, "E T 29"]
    log_prob: Float[Array, "E T"]
    reward: Float[Array, "E T"]
    failed: Bool[Array, "E T"]
    truncated: Bool[Array, "E T"]
    last_obs: Any


class LossParts(NamedTuple):
    """What the log shows of a loss: KL from the behaviour to the policy, the critic's part, the mean of the std.

    `departure` is the KL (nat) from a distilled policy, of those that are held to one.
    """

    kl: Float[Array, ""]
    value: Float[Array, ""]
    std: Float[Array, ""]
    departure: Float[Array, ""] | None = None


class Weights(NamedTuple):
    """Figures of the loss: discount and lambda of GAE, the ratio's clip, and the price of entropy."""

    gamma: float
    gae_lambda: float
    clip: float
    entropy: float


_VALUE = 0.25  # Brax's: a half for the square and a half for the coefficient


def log_probability(
    action: Float[Array, "*b 29"], mean: Float[Array, "*b 29"], std: Float[Array, "29"]
) -> Float[Array, "*b"]:
    """Of an action under a normal distribution with the same deviations everywhere."""
    scaled = (action - mean) / std
    return -0.5 * jnp.sum(scaled * scaled, axis=-1) - jnp.sum(jnp.log(std) + 0.5 * jnp.log(2 * jnp.pi))


def policy(
    ppo: networks.PPONetworks, statistics: Any, params: Any, obs: Float[Array, "*b obs"]
) -> tuple[Float[Array, "*b 29"], Float[Array, "29"]]:
    """Mean action, and the deviations, which do not depend on the observation."""
    mean, std = ppo.policy_network.apply(statistics, params, obs)
    return mean, std[(0,) * (std.ndim - 1)]


def ppo_loss(
    params: losses.PPONetworkParams,
    rollout: Rollout,
    behaviour_std: Float[Array, "29"],
    ppo: networks.PPONetworks,
    weights: Weights,
) -> tuple[Float[Array, ""], LossParts]:
    """The loss of a minibatch of whole unrolls, its observations normalised.

    Advantages are GAE (Schulman et al. 2016) under the critic as it is.
    """
    mean, std = policy(ppo, None, params.policy, rollout.obs)
    values = ppo.value_network.apply(None, params.value, rollout.obs)
    bootstrap = ppo.value_network.apply(None, params.value, rollout.last_obs)
    returns, advantages = losses.compute_gae(
        truncation=rollout.truncated.T.astype(values.dtype),
        termination=rollout.failed.T.astype(values.dtype),
        rewards=rollout.reward.T,
        values=values.T,
        bootstrap_value=bootstrap,
        lambda_=weights.gae_lambda,
        discount=weights.gamma,
    )
    advantages = advantages.T
    advantages = (advantages - jnp.mean(advantages)) / (jnp.std(advantages) + 1e-8)
    ratio = jnp.exp(log_probability(rollout.action, mean, std) - rollout.log_prob)
    clipped = jnp.clip(ratio, 1.0 - weights.clip, 1.0 + weights.clip)
    policy_loss = -jnp.mean(jnp.minimum(ratio * advantages, clipped * advantages))
    value_loss = _VALUE * jnp.mean((returns.T - values) ** 2)
    entropy = jnp.sum(0.5 + 0.5 * jnp.log(2 * jnp.pi) + jnp.log(std))
    moved = jnp.mean(jnp.sum(((rollout.mean - mean) / std) ** 2, axis=-1))
    kl = jnp.sum(jnp.log(std / behaviour_std) + 0.5 * (behaviour_std / std) ** 2 - 0.5) + 0.5 * moved
    total = policy_loss + value_loss - weights.entropy * entropy
    return total, jax.lax.stop_gradient(LossParts(kl, value_loss, jnp.mean(std)))
