"""The MLP student: the last `history` observations stacked, SiLU layers of one width."""

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from scaling.students.config import StudentConfig
from scaling.students.network import Dense, Network


@struct.dataclass
class MlpState:
    """Last observations, oldest first; a `fresh` row has seen none of its episode yet."""

    history: Float[Array, "B hist in"]
    fresh: Bool[Array, "B"]


def stack_history(
    obs: Float[Array, "B T in"], start: Bool[Array, "B T"] | None, history: int
) -> Float[Array, "B T hist*in"]:
    """Each frame after the history - 1 before it, oldest first; an episode's first frame stands for those before it."""
    first = jnp.arange(obs.shape[1]) == 0 if start is None else start.at[:, 0].set(True)
    first = jnp.broadcast_to(first, obs.shape[:2])[..., None]
    frames = [obs]
    for _ in range(history - 1):
        # One frame further back is what the frame before had at one lag less: shifts and selects, no gather.
        before = jnp.pad(frames[-1], ((0, 0), (1, 0), (0, 0)))[:, :-1]
        frames.append(jnp.where(first, obs, before))
    return jnp.concatenate(frames[::-1], axis=-1)


class Mlp(Network):
    """Dense layers over the stacked observations."""

    def setup(self) -> None:
        # remat has nothing to save here: one activation per layer is what a rematerialised layer would keep.
        super().setup()
        dtype = jnp.dtype(self.config.dtype)
        self.embed = Dense(self.config.width, dtype=dtype)
        self.feed_forward = [Dense(self.config.width, dtype=dtype) for _ in range(self.config.depth - 1)]

    def _layers(self, stacked: Float[Array, "*b hist*in"]) -> Float[Array, "*b w"]:
        x = nn.silu(self.embed(stacked))
        for layer in self.feed_forward:
            x = nn.silu(layer(x))
        return x.astype(jnp.float32)

    def features(self, obs: Float[Array, "B T in"], start: Bool[Array, "B T"] | None) -> Float[Array, "B T w"]:
        """See `Network`."""
        return self._layers(stack_history(obs, start, self.config.history))

    def advance(
        self, state: MlpState, obs: Float[Array, "B in"], done: Bool[Array, "B"] | None
    ) -> tuple[Float[Array, "B w"], MlpState]:
        """See `Network`."""
        fresh = state.fresh if done is None else state.fresh | done
        shifted = jnp.concatenate([state.history[:, 1:], obs[:, None]], axis=1)
        history = jnp.where(fresh[:, None, None], obs[:, None], shifted)
        return self._layers(history.reshape(obs.shape[0], -1)), MlpState(history, jnp.zeros_like(fresh))


def init_state(config: StudentConfig, batch: int) -> MlpState:
    """Rows that have seen nothing."""
    return MlpState(jnp.zeros((batch, config.history, config.input_dim)), jnp.ones(batch, bool))


def parameters(config: StudentConfig) -> dict[str, int]:
    """By group, without heads."""
    width = config.width
    embed = (config.history * config.input_dim + 1) * width
    return {"embed": embed, "feed_forward": (config.depth - 1) * (width + 1) * width}


def products(config: StudentConfig, length: int | None) -> int:
    """Multiply-adds of one frame, without heads."""
    return config.history * config.input_dim * config.width + (config.depth - 1) * config.width**2
