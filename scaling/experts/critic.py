"""What a state is worth beyond the end of an imagined roll-out: a critic for the tail."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from scaling.experts.actor import OBS, Dense, dense, init_dense


@dataclass(frozen=True)
class CriticConfig:
    """Of the network, of the return it learns (TD(`trace`)), and of its slow copy, which judges the tail."""

    hidden: tuple[int, ...] = (256, 128)
    discount: float = 0.985
    trace: float = 0.95
    learning_rate: float = 1e-3
    average: float = 0.98
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 < self.discount < 1.0 and 0.0 <= self.trace <= 1.0 and 0.0 <= self.average < 1.0):
            raise ValueError(
                f"discount {self.discount}, trace {self.trace}, average {self.average}: shares below 1 (trace at most)"
            )
        if not self.hidden or min(self.hidden) < 1 or self.learning_rate <= 0:
            raise ValueError(f"hidden {self.hidden}, learning_rate {self.learning_rate}: all above 0")


class CriticState(NamedTuple):
    """A critic in training; `slow` follows `params`."""

    params: Dense
    slow: Dense
    optimiser: Any


def _optimiser(config: CriticConfig) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.learning_rate))


def init(config: CriticConfig, key: Key[Array, ""]) -> CriticState:
    """A critic that values every state at nearly 0."""
    params = init_dense(key, (OBS, *config.hidden, 1))
    return CriticState(params, params, _optimiser(config).init(params))


def value(layers: Dense, obs: Float[Array, "*b obs"]) -> Float[Array, "*b"]:
    """The discounted mean reward from here on (a return times `1 - discount`), of normalised observations."""
    return dense(layers, obs)[..., 0]


def learn(config: CriticConfig, state: CriticState, grads: Dense) -> CriticState:
    """One step down the gradient."""
    change, moments = _optimiser(config).update(grads, state.optimiser, state.params)
    params = optax.apply_updates(state.params, change)
    slow = jax.tree.map(lambda a, p: config.average * a + (1.0 - config.average) * p, state.slow, params)
    return CriticState(params, slow, moments)


def returns(
    config: CriticConfig, reward: Float[Array, "H B"], counts: Bool[Array, "H B"], values: Float[Array, "H+1 B"]
) -> Float[Array, "H B"]:
    """TD(lambda) returns times `1 - discount`; where a roll-out stops counting its last state's value ends it."""

    def body(later: Array, given: Any) -> tuple[Array, Array]:
        reward, counts, here, after = given
        mixed = (1.0 - config.trace) * after + config.trace * later
        now = (1.0 - config.discount) * reward + config.discount * mixed
        now = jnp.where(counts, now, here)
        return now, now

    _, found = jax.lax.scan(body, values[-1], (reward, counts, values[:-1], values[1:]), reverse=True)
    return found


def objective(
    config: CriticConfig,
    params: Dense,
    state: CriticState,
    obs: Float[Array, "H+1 B obs"],
    reward: Float[Array, "H B"],
    counts: Bool[Array, "H B"],
) -> Float[Array, ""]:
    """The actor's loss through `obs` and `reward` and the critic's through `params`, summed: neither feels the other's.

    The actor's is minus the discounted sum of rewards and the slow critic's value at the end, per step.
    """
    horizon = reward.shape[0]
    steps = jnp.arange(horizon)
    discounts = config.discount ** steps.astype(reward.dtype)
    lasts = jnp.all(counts, axis=0)
    tail = config.discount**horizon * value(state.slow, obs[-1]) / (1.0 - config.discount)
    gained = jnp.sum(jnp.where(counts, discounts[:, None] * reward, 0.0), axis=0) + jnp.where(lasts, tail, 0.0)
    actor = -jnp.sum(gained) / jnp.maximum(jnp.sum(counts), 1)

    obs, reward = jax.lax.stop_gradient((obs, reward))
    wanted = returns(config, reward, counts, value(state.slow, obs))
    missed = (value(params, obs[:-1]) - jax.lax.stop_gradient(wanted)) ** 2
    return actor + jnp.sum(jnp.where(counts, missed, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
