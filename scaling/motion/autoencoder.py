"""A periodic auto-encoder of motion (Starke et al. 2022, DeepPhase): a clip as a few sinusoids of its own choosing."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from scaling.errors import InputError
from scaling.record.progress import Progress

WINDOW_S = 4.0
FIGURES = ("amplitude", "frequency", "mean", "spread")
_CHUNK = 50  # updates in one program, and windows times eight that are encoded at a time
_LEAST = 0.05  # of a figure's spread over all channels: what a channel that is never used is scaled by


@dataclass(frozen=True)
class PeriodicConfig:
    """Size and training of the auto-encoder: windows of 4 s at `rate_hz`, kernels of `kernel_s`.

    Bodies move below 5 Hz, so 12.5 Hz shows all of it. `hop_s` is the time between the windows that describe a segment.
    """

    channels: int = 8
    hidden: int = 24
    kernel_s: float = 0.7
    rate_hz: float = 12.5
    hop_s: float = 0.5
    updates: int = 1000
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.channels, self.hidden, self.updates, self.batch) < 1:
            raise ValueError(f"channels, hidden, updates and batch must be at least 1: {self}")
        if min(self.kernel_s, self.hop_s, self.learning_rate) <= 0 or not 5.0 <= self.rate_hz <= 50.0:
            raise ValueError(f"kernel_s, hop_s and learning_rate above 0, rate_hz from 5 to 50: {self}")

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return round(WINDOW_S * self.rate_hz)


class Wave(NamedTuple):
    """The sinusoid that stands for each latent channel: amplitude, frequency (Hz), mean, phase (turns) mid-window."""

    amplitude: Float[Array, "*b M"]
    frequency: Float[Array, "*b M"]
    mean: Float[Array, "*b M"]
    phase: Float[Array, "*b M"]


def wave_of(latent: Float[Array, "*b N M"], rate_hz: float) -> Wave:
    """Amplitude by the variance, frequency by the mean of the Hann-windowed power, phase by projection on it.

    The paper learns the phase by a linear layer; here it is the latent curve's own.
    """
    count = latent.shape[-2]
    mean = latent.mean(axis=-2)
    rest = latent - mean[..., None, :]
    amplitude = jnp.sqrt(2.0 * jnp.square(rest).mean(axis=-2) + 1e-12)
    power = jnp.square(jnp.abs(jnp.fft.rfft(rest * jnp.hanning(count)[:, None], axis=-2)))
    power = power.at[..., 0, :].set(0.0)
    bins = jnp.fft.rfftfreq(count, 1.0 / rate_hz)
    frequency = (power * bins[:, None]).sum(axis=-2) / (power.sum(axis=-2) + 1e-12)
    angle = 2.0 * jnp.pi * _times(count, rate_hz)[:, None] * frequency[..., None, :]
    phase = jnp.arctan2((rest * jnp.cos(angle)).sum(axis=-2), (rest * jnp.sin(angle)).sum(axis=-2) + 1e-12)
    return Wave(amplitude, frequency, mean, phase / (2.0 * jnp.pi))


def curve_of(wave: Wave, count: int, rate_hz: float) -> Float[Array, "*b N M"]:
    """The sinusoids over a window of `count` frames."""
    turns = _times(count, rate_hz)[:, None] * wave.frequency[..., None, :] + wave.phase[..., None, :]
    return wave.amplitude[..., None, :] * jnp.sin(2.0 * jnp.pi * turns) + wave.mean[..., None, :]


def _times(count: int, rate_hz: float) -> Float[Array, "N"]:
    """Seconds from the middle of a window."""
    return (jnp.arange(count) - (count - 1) / 2) / rate_hz


class Taps(nn.Module):
    """A convolution over time as one product: on a CPU several times as fast as XLA's."""

    features: int
    taps: int

    @nn.compact
    def __call__(self, x: Float[Array, "*b N C"]) -> Float[Array, "*b N F"]:
        """The same number of frames, zeros beyond both ends."""
        count, reach = x.shape[-2], self.taps // 2
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(reach, reach), (0, 0)])
        shifted = [padded[..., place : place + count, :] for place in range(2 * reach + 1)]
        return nn.Dense(self.features)(jnp.concatenate(shifted, axis=-1))


class PeriodicAutoencoder(nn.Module):
    """Windows [*b, N, C] to sinusoids, one a latent channel, and back."""

    config: PeriodicConfig
    width: int

    def setup(self) -> None:
        taps = max(3, round(self.config.kernel_s * self.config.rate_hz))
        self.encoder = [Taps(size, taps) for size in (self.config.hidden, self.config.channels)]
        self.decoder = [Taps(size, taps) for size in (self.config.hidden, self.width)]

    def encode(self, windows: Float[Array, "*b N C"]) -> Wave:
        """The sinusoids of windows."""
        return wave_of(self.encoder[1](nn.tanh(self.encoder[0](windows))), self.config.rate_hz)

    def __call__(self, windows: Float[Array, "*b N C"]) -> Float[Array, "*b N C"]:
        """Windows as they come back."""
        curve = curve_of(self.encode(windows), windows.shape[-2], self.config.rate_hz)
        return self.decoder[1](nn.tanh(self.decoder[0](curve)))


@dataclass(frozen=True)
class Trained:
    """A trained auto-encoder, and the share of the windows' variance that it leaves, at the end of training."""

    model: PeriodicAutoencoder
    params: Any
    left: float


def train_autoencoder(
    signal: Float[np.ndarray, "T C"], starts: Int[np.ndarray, "W"], config: PeriodicConfig
) -> Trained:
    """Train on the windows of `signal` (`rate_hz`, scaled) that begin at `starts`; the rate falls by a cosine.

    Raises `InputError` where the loss is not finite.
    """
    model = PeriodicAutoencoder(config, signal.shape[1])
    key, first = jax.random.split(jax.random.key(config.seed))
    frames = jnp.asarray(signal, jnp.float32)
    within = jnp.arange(config.frames)
    params = model.init(first, jnp.zeros((1, config.frames, signal.shape[1])))
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.updates))
    begin = jnp.asarray(starts)

    def loss(params: Any, windows: Float[Array, "B N C"]) -> Float[Array, ""]:
        back: Any = model.apply(params, windows)
        centred = windows - windows.mean(axis=(0, 1))
        return jnp.square(back - windows).mean() / jnp.square(centred).mean()

    def update(carry: tuple, key: Array) -> tuple[tuple, Float[Array, ""]]:
        params, state = carry
        windows = frames[jax.random.choice(key, begin, (config.batch,))[:, None] + within]
        value, gradient = jax.value_and_grad(loss)(params, windows)
        step, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, step), state), value

    run = jax.jit(lambda carry, keys: jax.lax.scan(update, carry, keys))
    carry, left = (params, optimiser.init(params)), np.inf
    keys = jax.random.split(key, config.updates)
    with Progress("periodic auto-encoder", config.updates) as progress:
        for done in range(0, config.updates, _CHUNK):
            carry, values = run(carry, keys[done : done + _CHUNK])
            left = float(values.mean())
            if not np.isfinite(left):
                raise InputError(
                    f"the auto-encoder's loss is not finite after {done + _CHUNK} updates; lower its learning_rate "
                    f"of {config.learning_rate}"
                )
            progress.update(min(done + _CHUNK, config.updates), message=f"{100 * left:.0f} % of the variance left")
    return Trained(model, carry[0], left)


def describe(
    trained: Trained, signal: Float[np.ndarray, "T C"], starts: list[Int[np.ndarray, "w"]]
) -> Float[np.ndarray, "S 4 M"]:
    """`FIGURES` of each segment's latent channels: means over its windows (of the frequency weighted by power), and the
    standard deviation of the channel's sinusoids over all of them."""
    config = trained.model.config
    encode = jax.jit(partial(trained.model.apply, method="encode"))
    within = np.arange(config.frames)
    every = np.concatenate(starts)
    size = 8 * _CHUNK
    padded = np.pad(every, (0, -len(every) % size), mode="edge")
    parts = [
        encode(trained.params, jnp.asarray(signal[block[:, None] + within], jnp.float32))
        for block in padded.reshape(-1, size)
    ]
    amplitude, frequency, middle, _ = (
        np.concatenate([np.asarray(part[place]) for part in parts])[: len(every)] for place in range(4)
    )
    segment = np.repeat(np.arange(len(starts)), [len(one) for one in starts])
    count = np.bincount(segment)[:, None]

    def mean(values: Float[np.ndarray, "W M"]) -> Float[np.ndarray, "S M"]:
        sums = np.zeros((len(starts), values.shape[1]))
        np.add.at(sums, segment, values)
        return sums / count

    power = np.square(amplitude)
    centre = mean(middle)
    spread = np.sqrt(np.maximum(mean(power / 2 + np.square(middle)) - np.square(centre), 0.0))
    return np.stack([mean(amplitude), mean(power * frequency) / np.maximum(mean(power), 1e-12), centre, spread], axis=1)


def comparable(figures: Float[np.ndarray, "S 4 M"], train: Int[np.ndarray, "n"]) -> Float[np.ndarray, "S F"]:
    """The figures centred and scaled by their spread over the training segments, channel by channel: a latent's unit is
    arbitrary. A channel that is never used stays quiet."""
    centred = figures - figures[train].mean(axis=0)
    scale = centred[train].std(axis=0)
    floor = _LEAST * np.sqrt(np.square(scale).mean(axis=1, keepdims=True))
    return (centred / np.maximum(np.maximum(scale, floor), 1e-9)).reshape(len(figures), -1)
