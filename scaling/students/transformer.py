"""The causal Transformer student: one token per observation, pre-norm blocks, rotary positions, a band of context."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from scaling.students.attention import attend, attend_ring, keys_per_query, period, rotate, rotation
from scaling.students.config import StudentConfig
from scaling.students.network import Dense, Network, dense


@struct.dataclass
class TransformerState:
    """Ring of rotated keys and of values per layer; `filled` counts each row's frames since its episode began."""

    keys: tuple[Float[Array, "B h c d"], ...]
    values: tuple[Float[Array, "B h c d"], ...]
    position: Int[Array, ""]
    filled: Int[Array, "B"]


class Attention(nn.Module):
    """Multi-head banded attention with rotary positions, over a sequence or one step at a time."""

    config: StudentConfig

    def setup(self) -> None:
        self.qkv = dense(self.config, 3 * self.config.width)
        self.out = dense(self.config, self.config.width, 0.5 / self.config.depth)

    def _project(self, x: Array, cos: Array, sin: Array) -> tuple[Array, Array, Array]:
        shape = (*x.shape[:-1], 3, self.config.heads, self.config.head_dim)
        query, key, value = jnp.moveaxis(self.qkv(x).reshape(shape), -3, 0)
        return rotate(query, cos, sin), rotate(key, cos, sin), value

    def __call__(self, x: Array, cos: Array, sin: Array, episode: Array) -> Array:
        query, key, value = self._project(x, cos, sin)
        out = attend(query, key, value, episode, self.config.context)
        return self.out(out.reshape(x.shape))

    def step(
        self, x: Array, cos: Array, sin: Array, keys: Array, values: Array, slot: Array, valid: Array
    ) -> tuple[Array, Array, Array]:
        query, key, value = self._project(x, cos, sin)
        keys = jax.lax.dynamic_update_index_in_dim(keys, key[:, :, None], slot, axis=2)
        values = jax.lax.dynamic_update_index_in_dim(values, value[:, :, None], slot, axis=2)
        out = attend_ring(query, keys, values, valid)
        return self.out(out.reshape(x.shape)), keys, values


class FeedForward(nn.Module):
    """Two layers with SiLU between."""

    config: StudentConfig

    def setup(self) -> None:
        self.up = dense(self.config, self.config.hidden)
        self.down = dense(self.config, self.config.width, 0.5 / self.config.depth)

    def __call__(self, x: Array) -> Array:
        return self.down(nn.silu(self.up(x)))


class Block(nn.Module):
    """Pre-norm attention and feed-forward on a float32 residual stream."""

    config: StudentConfig

    def setup(self) -> None:
        self.attention_norm = nn.RMSNorm()
        self.attention = Attention(self.config)
        self.feed_forward_norm = nn.RMSNorm()
        self.feed_forward = FeedForward(self.config)

    def __call__(self, x: Array, cos: Array, sin: Array, episode: Array) -> Array:
        x = x + self.attention(self.attention_norm(x), cos, sin, episode)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def step(
        self, x: Array, cos: Array, sin: Array, keys: Array, values: Array, slot: Array, valid: Array
    ) -> tuple[Array, Array, Array]:
        out, keys, values = self.attention.step(self.attention_norm(x), cos, sin, keys, values, slot, valid)
        x = x + out
        return x + self.feed_forward(self.feed_forward_norm(x)), keys, values


class Transformer(Network):
    """Blocks of attention and feed-forward over one token a frame."""

    def setup(self) -> None:
        super().setup()
        # Unrolled, not scanned: a scan would copy each layer's weights out of the stack at every decode step.
        block = nn.remat(Block) if self.config.remat else Block
        self.embed = Dense(self.config.width, dtype=jnp.dtype(self.config.dtype))
        self.blocks = [block(self.config) for _ in range(self.config.depth)]
        self.final_norm = nn.RMSNorm()

    def features(self, obs: Float[Array, "B T in"], start: Bool[Array, "B T"] | None) -> Float[Array, "B T w"]:
        """See `Network`."""
        length = obs.shape[1]
        episode = jnp.zeros(obs.shape[:2], jnp.int32) if start is None else jnp.cumsum(start, axis=1, dtype=jnp.int32)
        cos, sin = rotation(jnp.arange(length), self.config.context, self.config.head_dim)
        x = self.embed(obs).astype(jnp.float32)
        for block in self.blocks:
            x = block(x, cos, sin, episode)
        return self.final_norm(x)

    def advance(
        self, state: TransformerState, obs: Float[Array, "B in"], done: Bool[Array, "B"] | None
    ) -> tuple[Float[Array, "B w"], TransformerState]:
        """See `Network`."""
        context = self.config.context
        filled = state.filled if done is None else jnp.where(done, 0, state.filled)
        filled = jnp.minimum(filled + 1, context)
        slot = state.position % context
        valid = (slot - jnp.arange(context)) % context < filled[:, None]
        cos, sin = rotation(state.position, context, self.config.head_dim)
        x = self.embed(obs).astype(jnp.float32)
        keys, values = [], []
        for block, old_keys, old_values in zip(self.blocks, state.keys, state.values, strict=True):
            x, new_keys, new_values = block.step(x, cos, sin, old_keys, old_values, slot, valid)
            keys.append(new_keys)
            values.append(new_values)
        position = (state.position + 1) % period(context)
        return self.final_norm(x), TransformerState(tuple(keys), tuple(values), position, filled)


def init_state(config: StudentConfig, batch: int) -> TransformerState:
    """Empty rings for `batch` rows."""
    shape = (batch, config.heads or 1, config.context, config.head_dim)
    # Separate buffers for keys and values: a donated state must not name one buffer twice.
    keys, values = (tuple(jnp.zeros(shape, config.dtype) for _ in range(config.depth)) for _ in range(2))
    return TransformerState(keys, values, jnp.zeros((), jnp.int32), jnp.zeros(batch, jnp.int32))


def parameters(config: StudentConfig) -> dict[str, int]:
    """By group, without heads."""
    width, depth = config.width, config.depth
    return {
        "embed": (config.input_dim + 1) * width,
        "mixing": depth * 4 * width**2,
        "feed_forward": depth * 2 * width * config.hidden,
        "norm": (2 * depth + 1) * width,
    }


def products(config: StudentConfig, length: int | None) -> int:
    """Multiply-adds of one frame, without heads; keys as `count.flops_per_token` says."""
    width = config.width
    keys = config.context if length is None else keys_per_query(length, config.context)
    return config.input_dim * width + config.depth * (4 * width**2 + 2 * width * config.hidden + 2 * width * keys)
