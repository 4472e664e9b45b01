"""One door to all families: build, initialise, and map whole sequences."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from scaling.students.config import StudentConfig
from scaling.students.family import KINDS
from scaling.students.network import Network

Params = Any


def build(config: StudentConfig) -> Network:
    """The linen module: `apply({"params": p}, obs [B,T,obs], start [B,T] | None) -> actions [B,T,act]`, causal."""
    return KINDS[config.family].network(config=config)


def init(config: StudentConfig, key: Key[Array, ""]) -> Params:
    """Fresh float32 parameters; `jax.vmap(partial(init, config))(keys)` stacks those of many runs."""
    method = "both" if config.auxiliary else None
    return build(config).init(key, jnp.zeros((1, 1, config.obs_dim)), method=method)["params"]


def abstract_params(config: StudentConfig) -> Params:
    """Shapes and dtypes of the parameters, without memory or compile."""
    return jax.eval_shape(lambda key: init(config, key), jax.random.key(0))


def forward(
    config: StudentConfig, params: Params, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"] | None = None
) -> Float[Array, "B T act"]:
    """Actions at every frame of normalised observations; an episode begins where `start` (always at frame 0)."""
    actions: Array = build(config).apply({"params": params}, obs, start)  # type: ignore[assignment]
    return actions


def forward_both(
    config: StudentConfig, params: Params, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"] | None = None
) -> tuple[Float[Array, "B T act"], Float[Array, "B T 64"]]:
    """`forward`, and the auxiliary head's change of the sensed state until the next frame (`CHANGE_SCALE`)."""
    out: tuple[Array, Array] = build(config).apply({"params": params}, obs, start, method="both")  # type: ignore[assignment]
    return out
