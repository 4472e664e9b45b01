"""The networks that a dreaming trainer may train: the experts' are dense, a student brings its own."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.experts.bank import BANK_POLICY, Bank
from scaling.robot.g1 import NUM_JOINTS
from scaling.tracking.evaluate import Policy

OBS = observation_dim(EXPERT_TERMS)


class Actors(Protocol):
    """A kind of policy network; `memory` is how many control steps back its action depends on, beside the present."""

    memory: int
    policy: Policy

    def init(self, key: Key[Array, ""]) -> Any:
        """Fresh parameters that play the reference."""
        ...

    def params(self, actor: Any, normaliser: Normaliser) -> Any:
        """What `policy.act` takes; the normaliser is of all terms of the observation."""
        ...


class Dense(NamedTuple):
    """A network of dense layers, first to last."""

    kernels: tuple[Float[Array, "i o"], ...]
    biases: tuple[Float[Array, "o"], ...]


def init_dense(key: Key[Array, ""], sizes: tuple[int, ...], last: float = 1e-4) -> Dense:
    """Fresh layers between these sizes; the last one's variance is scaled by `last`."""
    shapes = list(pairwise(sizes))
    scales = [1.0] * (len(shapes) - 1) + [last]
    kernels = [
        jax.nn.initializers.variance_scaling(scale, "fan_in", "uniform")(one, shape)
        for scale, one, shape in zip(scales, jax.random.split(key, len(shapes)), shapes, strict=True)
    ]
    return Dense(tuple(kernels), tuple(jnp.zeros(outputs) for _, outputs in shapes))


def dense(
    layers: Dense, x: Float[Array, "*b i"], activation: Callable[[Array], Array] = jax.nn.swish
) -> Float[Array, "*b o"]:
    """The network's output; `activation` between layers."""
    for kernel, bias in zip(layers.kernels[:-1], layers.biases[:-1], strict=True):
        x = activation(x @ kernel + bias)
    return x @ layers.kernels[-1] + layers.biases[-1]


class ExpertActors:
    """The experts of a bank: dense layers that see everything and remember nothing."""

    memory = 0
    policy = BANK_POLICY

    def __init__(self, hidden: tuple[int, ...]) -> None:
        self.hidden = hidden

    def init(self, key: Key[Array, ""]) -> Dense:
        """See `Actors`: the last layer is near zero."""
        return init_dense(key, (OBS, *self.hidden, NUM_JOINTS))

    def params(self, actor: Dense, normaliser: Normaliser) -> Bank:
        """See `Actors`."""
        return Bank(actor.kernels, actor.biases, normaliser)
