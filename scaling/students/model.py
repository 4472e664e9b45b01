"""One door to both families: build, initialise, and map whole sequences."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from scaling.students.config import StudentConfig
from scaling.students.mlp import Mlp
from scaling.students.transformer import Transformer

Params = Any

_MODULES: dict[str, type[nn.Module]] = {"mlp": Mlp, "transformer": Transformer}


def build(config: StudentConfig) -> nn.Module:
    """The linen module: `apply({"params": p}, obs [B,T,obs], start [B,T] | None) -> actions [B,T,act]`, causal."""
    return _MODULES[config.family](config=config)


def init(config: StudentConfig, key: Key[Array, ""]) -> Params:
    """Fresh float32 parameters; `jax.vmap(partial(init, config))(keys)` stacks those of many runs."""
    return build(config).init(key, jnp.zeros((1, 1, config.obs_dim)))["params"]


def abstract_params(config: StudentConfig) -> Params:
    """Shapes and dtypes of the parameters, without memory or compile."""
    return jax.eval_shape(lambda key: init(config, key), jax.random.key(0))


def forward(
    config: StudentConfig, params: Params, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"] | None = None
) -> Float[Array, "B T act"]:
    """Actions at every frame of normalised observations; an episode begins where `start` (always at frame 0)."""
    actions: Array = build(config).apply({"params": params}, obs, start)  # type: ignore[assignment]
    return actions
