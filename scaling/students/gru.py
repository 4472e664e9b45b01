"""The GRU student: residual layers of gated recurrence, whose hidden states are all that it remembers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.linen.initializers import variance_scaling
from jaxtyping import Array, Bool, Float

from scaling.students.config import StudentConfig
from scaling.students.network import Dense, Network


@struct.dataclass
class GruState:
    """Hidden state of each layer, float32; zero where an episode begins."""

    hidden: tuple[Float[Array, "B w"], ...]


class Recurrence(nn.Module):
    """Pre-norm GRU layer (reset after the product, as in cuDNN) on a float32 residual stream."""

    config: StudentConfig

    def setup(self) -> None:
        width = self.config.width
        self.norm = nn.RMSNorm()
        self.gates = Dense(3 * width, dtype=jnp.dtype(self.config.dtype))
        init = variance_scaling(1.0, "fan_in", "truncated_normal")
        self.recurrent = self.param("recurrent", init, (width, 3 * width), jnp.float32)

    def _inputs(self, x: Array) -> Array:
        return self.gates(self.norm(x)).astype(jnp.float32)

    def _cell(self, hidden: Array, inputs: Array) -> Array:
        dtype = jnp.dtype(self.config.dtype)
        own = jnp.dot(hidden.astype(dtype), self.recurrent.astype(dtype), preferred_element_type=jnp.float32)
        reset, update, new = jnp.split(inputs, 3, axis=-1)
        reset_own, update_own, new_own = jnp.split(own, 3, axis=-1)
        update = nn.sigmoid(update + update_own)
        return update * hidden + (1 - update) * jnp.tanh(new + nn.sigmoid(reset + reset_own) * new_own)

    def __call__(self, x: Array, start: Array) -> Array:
        # The inputs' products run over all frames at once; only the hidden state's own wait for each other.
        def body(hidden: Array, frame: tuple[Array, Array]) -> tuple[Array, Array]:
            inputs, first = frame
            hidden = self._cell(jnp.where(first[:, None], 0, hidden), inputs)
            return hidden, hidden

        frames = (jnp.moveaxis(self._inputs(x), 1, 0), jnp.moveaxis(start, 1, 0))
        _, hidden = jax.lax.scan(body, jnp.zeros_like(x[:, 0]), frames)
        return x + jnp.moveaxis(hidden, 0, 1)

    def step(self, x: Array, hidden: Array) -> tuple[Array, Array]:
        hidden = self._cell(hidden, self._inputs(x))
        return x + hidden, hidden


class Gru(Network):
    """Layers of gated recurrence over one token a frame."""

    def setup(self) -> None:
        super().setup()
        layer = nn.remat(Recurrence) if self.config.remat else Recurrence
        self.embed = Dense(self.config.width, dtype=jnp.dtype(self.config.dtype))
        self.layers = [layer(self.config) for _ in range(self.config.depth)]
        self.final_norm = nn.RMSNorm()

    def features(self, obs: Float[Array, "B T in"], start: Bool[Array, "B T"] | None) -> Float[Array, "B T w"]:
        """See `Network`."""
        start = jnp.zeros(obs.shape[:2], bool) if start is None else start
        x = self.embed(obs).astype(jnp.float32)
        for layer in self.layers:
            x = layer(x, start)
        return self.final_norm(x)

    def advance(
        self, state: GruState, obs: Float[Array, "B in"], done: Bool[Array, "B"] | None
    ) -> tuple[Float[Array, "B w"], GruState]:
        """See `Network`."""
        x = self.embed(obs).astype(jnp.float32)
        after = []
        for layer, hidden in zip(self.layers, state.hidden, strict=True):
            x, hidden = layer.step(x, hidden if done is None else jnp.where(done[:, None], 0, hidden))
            after.append(hidden)
        return self.final_norm(x), GruState(tuple(after))


def init_state(config: StudentConfig, batch: int) -> GruState:
    """Hidden states of zero for `batch` rows."""
    return GruState(tuple(jnp.zeros((batch, config.width)) for _ in range(config.depth)))


def parameters(config: StudentConfig) -> dict[str, int]:
    """By group, without heads."""
    width, depth = config.width, config.depth
    return {
        "embed": (config.input_dim + 1) * width,
        "mixing": depth * (6 * width + 3) * width,
        "norm": (depth + 1) * width,
    }


def products(config: StudentConfig, length: int | None) -> int:
    """Multiply-adds of one frame, without heads."""
    return config.input_dim * config.width + config.depth * 6 * config.width**2
