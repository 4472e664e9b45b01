"""The MLP student: the last `history` observations stacked, SiLU layers of one width."""

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from scaling.students.config import StudentConfig
from scaling.students.head import action_head


@struct.dataclass
class MlpState:
    """Last observations, oldest first; a `fresh` row has seen none of its episode yet."""

    history: Float[Array, "B hist obs"]
    fresh: Bool[Array, "B"]


def stack_history(
    obs: Float[Array, "B T obs"], start: Bool[Array, "B T"] | None, history: int
) -> Float[Array, "B T hist*obs"]:
    """Each frame after the history - 1 before it, oldest first; an episode's first frame stands for those before it."""
    first = jnp.arange(obs.shape[1]) == 0 if start is None else start.at[:, 0].set(True)
    first = jnp.broadcast_to(first, obs.shape[:2])[..., None]
    frames = [obs]
    for _ in range(history - 1):
        # One frame further back is what the frame before had at one lag less: shifts and selects, no gather.
        before = jnp.pad(frames[-1], ((0, 0), (1, 0), (0, 0)))[:, :-1]
        frames.append(jnp.where(first, obs, before))
    return jnp.concatenate(frames[::-1], axis=-1)


class Mlp(nn.Module):
    """Observation sequence to action sequence, causal; `step` gives the same actions frame by frame."""

    config: StudentConfig

    def setup(self) -> None:
        # remat has nothing to save here: one activation per layer is what a rematerialised layer would keep.
        dtype = jnp.dtype(self.config.dtype)
        self.embed = nn.Dense(self.config.width, dtype=dtype)
        self.feed_forward = [nn.Dense(self.config.width, dtype=dtype) for _ in range(self.config.depth - 1)]
        self.head = action_head(self.config)

    def _layers(self, stacked: Float[Array, "*b hist*obs"]) -> Float[Array, "*b act"]:
        x = nn.silu(self.embed(stacked))
        for layer in self.feed_forward:
            x = nn.silu(layer(x))
        return self.head(x.astype(jnp.float32))

    def __call__(
        self, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B T act"]:
        """Actions for whole sequences; nothing crosses a frame where `start` is True (an episode begins there)."""
        return self._layers(stack_history(obs, start, self.config.history))

    def step(
        self, state: MlpState, obs: Float[Array, "B obs"], done: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B act"], MlpState]:
        """Action for the present frame; rows where `done` first forget everything before it."""
        fresh = state.fresh if done is None else state.fresh | done
        shifted = jnp.concatenate([state.history[:, 1:], obs[:, None]], axis=1)
        history = jnp.where(fresh[:, None, None], obs[:, None], shifted)
        action = self._layers(history.reshape(obs.shape[0], -1))
        return action, MlpState(history, jnp.zeros_like(fresh))


def init_state(config: StudentConfig, batch: int) -> MlpState:
    """Rows that have seen nothing."""
    return MlpState(jnp.zeros((batch, config.history, config.obs_dim)), jnp.ones(batch, bool))
