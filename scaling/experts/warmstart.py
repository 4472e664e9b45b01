"""A first policy worth improving: servos made stiffer by feedback, cloned into the actor before PPO begins.

The published gains are soft (an arm sags by half a radian), so open-loop playback mostly measures gravity. A
policy that adds `gain` times the joint error to the targets tracks far better and is linear in the observation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from scaling.contract.action import ACTION_LIMIT
from scaling.contract.observation import TERMS
from scaling.robot.g1 import ACTION_SCALE
from scaling.tracking.env import Task, TrackingEnv

_ROUNDS = 3
_STEPS = 24
_UPDATES = 150
_BATCH = 512
_NOISE = 0.2


def _term(obs: Array, name: str) -> Array:
    start = 0
    for term in TERMS.values():
        if term.name == name:
            return obs[..., start : start + term.dim]
        start += term.dim
    raise KeyError(name)


def stiffening_action(obs: Float[Array, "*b obs"], gain: float) -> Float[Array, "*b 29"]:
    """The action that multiplies the servos' stiffness by `1 + gain` about the reference."""
    scale = jnp.asarray(np.asarray(ACTION_SCALE), obs.dtype)
    return jnp.clip(gain * _term(obs, "joint_error") / scale, -ACTION_LIMIT, ACTION_LIMIT)


def clone(
    key: Key[Array, ""], env: TrackingEnv, task: Task, envs: int, gain: float, init: Any, normaliser: Any, apply: Any
) -> tuple[Any, Any]:
    """`(actor parameters, normaliser)` that act as `stiffening_action` on its own noisy episodes.

    `apply(normaliser, params, obs)` gives the mean action; `normaliser` is a pair (state, update function).
    """
    state, update = normaliser
    start_key, roll_key, fit_key = jax.random.split(key, 3)
    episodes, obs = env.reset(start_key, task, envs)

    def act(carry: Any, key: Array) -> tuple[Any, Array]:
        episodes, obs = carry
        noise_key, step_key = jax.random.split(key)
        action = stiffening_action(obs, gain)
        action = action + _NOISE * jax.random.normal(noise_key, action.shape)
        episodes, step = env.step(step_key, task, episodes, action)
        return (episodes, step.obs), obs

    _, seen = jax.lax.scan(act, (episodes, obs), jax.random.split(roll_key, _ROUNDS * _STEPS))
    seen = seen.reshape(-1, seen.shape[-1])
    state = update(state, seen)
    schedule = optax.cosine_decay_schedule(3e-3, _ROUNDS * _UPDATES)
    optimiser = optax.adam(schedule)

    def loss(params: Any, batch: Array) -> Array:
        return jnp.mean((apply(state, params, batch) - stiffening_action(batch, gain)) ** 2)

    def fit(carry: Any, key: Array) -> tuple[Any, Array]:
        params, moments = carry
        batch = seen[jax.random.randint(key, (_BATCH,), 0, seen.shape[0])]
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, moments = optimiser.update(grads, moments)
        return (optax.apply_updates(params, updates), moments), value

    keys = jax.random.split(fit_key, _ROUNDS * _UPDATES)
    (params, _), _ = jax.lax.scan(fit, (init, optimiser.init(init)), keys)
    return params, state
