"""The network that predicts one control step's change of velocity, and roll-outs of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from scaling.contract.normaliser import Normaliser
from scaling.dynamics.gray import free_step
from scaling.dynamics.soles import sole_features
from scaling.dynamics.state import (
    features,
    integrate,
    local_velocity,
    mean_velocity,
    velocity_change,
)
from scaling.robot.g1 import NV
from scaling.tracking.physics import PhysicsState

_LEAST = 1e-4  # of a standard deviation: a feature that hardly moves in the data must not explode outside it

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": nn.elu,
    "mish": jax.nn.mish,
    "relu": nn.relu,
    "silu": nn.silu,
}


@dataclass(frozen=True)
class ModelConfig:
    """A network of `depth` hidden layers; with `drift` it also predicts what `blend` leaves of the displacement,
    and with `soles` it sees where the corners of the feet are and how they move.

    Over the four solver steps of 20 ms the final velocity alone misses a quarter to half of what a position gains
    over `velocity * dt`, so without `drift` the positions are wrong whatever the network learns. With `gray` the motion
    of a robot that touches nothing is computed (`gray.free_step`) and the network learns what contacts add to it.
    """

    width: int = 512
    depth: int = 3
    activation: str = "silu"
    drift: bool = True
    soles: bool = True
    gray: bool = False

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r}: one of {sorted(ACTIVATIONS)}")
        if self.width < 1 or self.depth < 1:
            raise ValueError(f"width {self.width}, depth {self.depth}: both at least 1")


DEFAULT = ModelConfig()


class Scales(NamedTuple):
    """Normalisation and integration constants, taken from data and never trained."""

    inputs: Normaliser
    change_mean: Float[Array, "35"]
    change_std: Float[Array, "35"]
    drift_std: Float[Array, "35"]
    blend: Float[Array, "35"]


class Dream(NamedTuple):
    """A learned simulator: the network's parameters and its constants."""

    params: Any
    scales: Scales


class Network(nn.Module):
    """Normalised inputs [*b, in] to normalised velocity change [*b, 35], then drift [*b, 35] if configured."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b out"]:
        for layer in range(self.config.depth):
            x = ACTIVATIONS[self.config.activation](nn.Dense(self.config.width, name=f"hidden_{layer}")(x))
        # Near zero at first: an untrained model predicts the mean change, and its first gradients are not noise.
        small = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        return nn.Dense(NV * (1 + self.config.drift), kernel_init=small, name="head")(x)


def inputs_of(config: ModelConfig, state: PhysicsState, ctrl: Float[Array, "*b 29"]) -> Float[Array, "*b in"]:
    """What the network of this config is shown, in SI units."""
    seen = features(state, ctrl)
    return jnp.concatenate([seen, sole_features(state)], axis=-1) if config.soles else seen


def known_motion(
    config: ModelConfig, state: PhysicsState, ctrl: Float[Array, "*b 29"]
) -> tuple[Float[Array, "*b 35"], Float[Array, "*b 35"]]:
    """What needs no learning of the local velocity change and of the mean velocity's gain: 0 but for a gray box."""
    if not config.gray:
        return jnp.zeros_like(state.qvel), jnp.zeros_like(state.qvel)
    free = free_step(state, ctrl)
    return velocity_change(state, free), mean_velocity(state, free) - local_velocity(state)


@partial(jax.jit, static_argnums=0)
def measure_scales(
    config: ModelConfig, before: PhysicsState, ctrl: Float[Array, "N 29"], after: PhysicsState
) -> Scales:
    """The constants of a set of transitions; `blend` is each degree of freedom's least-squares figure."""
    inputs, (known, known_gain) = inputs_of(config, before, ctrl), known_motion(config, before, ctrl)
    change = velocity_change(before, after) - known
    gain = mean_velocity(before, after) - local_velocity(before) - known_gain
    blend = jnp.sum(gain * change, axis=0) / jnp.maximum(jnp.sum(change * change, axis=0), _LEAST)
    return Scales(
        Normaliser(jnp.mean(inputs, axis=0), jnp.maximum(jnp.std(inputs, axis=0), _LEAST)),
        jnp.mean(change, axis=0),
        jnp.maximum(jnp.std(change, axis=0), _LEAST),
        jnp.maximum(jnp.std(gain - blend * change, axis=0), _LEAST),
        blend,
    )


def init(config: ModelConfig, key: Key[Array, ""], scales: Scales) -> Dream:
    """An untrained model."""
    return Dream(Network(config).init(key, jnp.zeros((1, scales.inputs.mean.shape[-1])))["params"], scales)


def predict(
    config: ModelConfig, dream: Dream, state: PhysicsState, ctrl: Float[Array, "*b 29"]
) -> tuple[Float[Array, "*b 35"], Float[Array, "*b 35"]]:
    """The local velocity change over a control step (m/s, rad/s), and the drift of the mean velocity."""
    scales = dream.scales
    out: Any = Network(config).apply({"params": dream.params}, scales.inputs(inputs_of(config, state, ctrl)))
    change = scales.change_mean + scales.change_std * out[..., :NV]
    drift = scales.drift_std * out[..., NV:] if config.drift else jnp.zeros_like(change)
    if config.gray:
        known, gain = known_motion(config, state, ctrl)
        change, drift = change + known, drift + gain - scales.blend * known
    return change, drift


def step(config: ModelConfig, dream: Dream, state: PhysicsState, ctrl: Float[Array, "*b 29"]) -> PhysicsState:
    """The state one control step (20 ms) later."""
    change, drift = predict(config, dream, state, ctrl)
    return integrate(state, change, dream.scales.blend, drift)


def unroll(
    config: ModelConfig,
    dream: Dream,
    start: PhysicsState,
    ctrl: Float[Array, "B W 29"],
    cotangent_limit: float | None = None,
) -> PhysicsState:
    """The states [B, W, ...] after each of W control steps; see `clip_cotangent` for the limit."""

    def body(state: PhysicsState, target: Array) -> tuple[PhysicsState, PhysicsState]:
        if cotangent_limit is not None:
            state = clip_cotangent(cotangent_limit, state)
        state = step(config, dream, state, target)
        return state, state

    _, states = jax.lax.scan(body, start, jnp.swapaxes(ctrl, 0, 1))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), states)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def clip_cotangent(limit: float, state: PhysicsState) -> PhysicsState:
    """`state` itself; the gradient that flows back through each row is scaled down to a norm of at most `limit`."""
    return state


def _forward(limit: float, state: PhysicsState) -> tuple[PhysicsState, None]:
    return state, None


def _backward(limit: float, _: None, grad: PhysicsState) -> tuple[PhysicsState]:
    norm = jnp.sqrt(sum(jnp.sum(x * x, axis=-1, keepdims=True) for x in grad) + 1e-20)
    return (jax.tree.map(lambda x: x * jnp.minimum(1.0, limit / norm), grad),)


clip_cotangent.defvjp(_forward, _backward)
