"""The TCN student: residual blocks whose convolutions join each frame with one 1, 2, 4, ... frames before it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from scaling.students.config import StudentConfig
from scaling.students.network import Dense, Network, dense


@struct.dataclass
class TcnState:
    """Ring of each convolution's last inputs; `filled` counts each row's frames since its episode began."""

    rings: tuple[Float[Array, "B dil w"], ...]
    position: Int[Array, ""]
    filled: Int[Array, "B"]


class Block(nn.Module):
    """Pre-norm causal convolution of two taps and a linear map, on a float32 residual stream."""

    config: StudentConfig
    dilation: int

    def setup(self) -> None:
        self.norm = nn.RMSNorm()
        self.convolution = Dense(self.config.width, dtype=jnp.dtype(self.config.dtype))
        self.feed_forward = dense(self.config, self.config.width, 0.5 / self.config.depth)

    def _inputs(self, x: Array) -> Array:
        return self.norm(x).astype(self.config.dtype)

    def _outputs(self, before: Array, now: Array) -> Array:
        return self.feed_forward(nn.silu(self.convolution(jnp.concatenate([before, now], axis=-1))))

    def __call__(self, x: Array, episode: Array) -> Array:
        now, shift = self._inputs(x), [(0, 0), (self.dilation, 0)]
        before = jnp.pad(now, [*shift, (0, 0)])[:, : now.shape[1]]
        same = jnp.pad(episode, shift, constant_values=-1)[:, : now.shape[1]] == episode
        return x + self._outputs(jnp.where(same[..., None], before, 0), now)

    def step(self, x: Array, ring: Array, slot: Array, valid: Array) -> tuple[Array, Array]:
        now = self._inputs(x)
        # The slot to be written still holds the input of `dilation` frames ago.
        before = jax.lax.dynamic_index_in_dim(ring, slot, axis=1, keepdims=False)
        ring = jax.lax.dynamic_update_index_in_dim(ring, now, slot, axis=1)
        return x + self._outputs(jnp.where(valid[:, None], before, 0), now), ring


class Tcn(Network):
    """Blocks of dilated causal convolutions; depth and context give the dilations."""

    def setup(self) -> None:
        super().setup()
        block = nn.remat(Block) if self.config.remat else Block
        self.embed = Dense(self.config.width, dtype=jnp.dtype(self.config.dtype))
        self.blocks = [block(self.config, dilation) for dilation in self.config.dilations]
        self.final_norm = nn.RMSNorm()

    def features(self, obs: Float[Array, "B T in"], start: Bool[Array, "B T"] | None) -> Float[Array, "B T w"]:
        """See `Network`."""
        episode = jnp.zeros(obs.shape[:2], jnp.int32) if start is None else jnp.cumsum(start, axis=1, dtype=jnp.int32)
        x = self.embed(obs).astype(jnp.float32)
        for block in self.blocks:
            x = block(x, episode)
        return self.final_norm(x)

    def advance(
        self, state: TcnState, obs: Float[Array, "B in"], done: Bool[Array, "B"] | None
    ) -> tuple[Float[Array, "B w"], TcnState]:
        """See `Network`."""
        filled = state.filled if done is None else jnp.where(done, 0, state.filled)
        x = self.embed(obs).astype(jnp.float32)
        rings = []
        for block, dilation, ring in zip(self.blocks, self.config.dilations, state.rings, strict=True):
            x, ring = block.step(x, ring, state.position % dilation, filled >= dilation)
            rings.append(ring)
        longest = max(self.config.dilations)
        after = TcnState(tuple(rings), (state.position + 1) % longest, jnp.minimum(filled + 1, longest))
        return self.final_norm(x), after


def init_state(config: StudentConfig, batch: int) -> TcnState:
    """Empty rings for `batch` rows."""
    rings = tuple(jnp.zeros((batch, dilation, config.width), config.dtype) for dilation in config.dilations)
    return TcnState(rings, jnp.zeros((), jnp.int32), jnp.zeros(batch, jnp.int32))


def parameters(config: StudentConfig) -> dict[str, int]:
    """By group, without heads."""
    width, depth = config.width, config.depth
    return {
        "embed": (config.input_dim + 1) * width,
        "mixing": depth * (2 * width + 1) * width,
        "feed_forward": depth * width**2,
        "norm": (depth + 1) * width,
    }


def products(config: StudentConfig, length: int | None) -> int:
    """Multiply-adds of one frame, without heads."""
    return config.input_dim * config.width + config.depth * 3 * config.width**2
