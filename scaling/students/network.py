"""What the networks of all families share: which entries they read, the action's head, and the auxiliary one."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling
from jaxtyping import Array, Bool, Float

from scaling.contract.layout import STATE_DIM
from scaling.students.config import StudentConfig

HEAD_SCALE = 0.01  # initial actions stay near zero: the student starts on the reference, not away from it


class Dense(nn.Dense):
    """A linear map of rows: its gradients are plain products, which need no transposed copies of what goes in."""

    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b out"]:
        return super().__call__(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self.features)


def dense(config: StudentConfig, width: int, scale: float = 1.0) -> nn.Dense:
    """Linear map without bias in the config's dtype."""
    init = variance_scaling(scale, "fan_in", "truncated_normal")
    return Dense(width, use_bias=False, dtype=jnp.dtype(config.dtype), kernel_init=init)


class Network(nn.Module):
    """Observation sequence to action sequence, causal; `step` gives the same actions frame by frame.

    A family implements `features` and `advance`, both float32.
    """

    config: StudentConfig

    def setup(self) -> None:
        self.head = self._quiet(self.config.action_dim)
        if self.config.auxiliary:
            self.auxiliary = self._quiet(STATE_DIM)

    def _quiet(self, width: int) -> nn.Dense:
        """A linear map in float32, initialised at HEAD_SCALE of the usual spread."""
        return Dense(width, kernel_init=variance_scaling(HEAD_SCALE**2, "fan_in", "truncated_normal"))

    def features(self, obs: Float[Array, "B T in"], start: Bool[Array, "B T"] | None) -> Float[Array, "B T w"]:
        """What the heads read, over whole sequences."""
        raise NotImplementedError

    def advance(
        self, state: Any, obs: Float[Array, "B in"], done: Bool[Array, "B"] | None
    ) -> tuple[Float[Array, "B w"], Any]:
        """The same of the present frame, and the state that has seen it."""
        raise NotImplementedError

    def _seen(self, obs: Float[Array, "*b obs"]) -> Float[Array, "*b in"]:
        return obs if self.config.seen is None else obs[..., self.config.seen]

    def __call__(
        self, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B T act"]:
        """Actions for whole sequences; nothing crosses a frame where `start` is True (an episode begins there)."""
        return self.head(self.features(self._seen(obs), start))

    def both(
        self, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T act"], Float[Array, "B T 64"]]:
        """Actions, and how the sensed state will have changed a frame later, in units of `CHANGE_SCALE`."""
        x = self.features(self._seen(obs), start)
        return self.head(x), self.auxiliary(x)

    def step(
        self, state: Any, obs: Float[Array, "B obs"], done: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B act"], Any]:
        """Action for the present frame; rows where `done` first forget everything before it."""
        x, state = self.advance(state, self._seen(obs), done)
        return self.head(x), state
