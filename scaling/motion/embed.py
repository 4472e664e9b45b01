"""Embeddings of a clip that do not know where it was or which way it faced: spectral, or learned and periodic."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float

from scaling.motion.autoencoder import PeriodicConfig, comparable, describe, train_autoencoder
from scaling.motion.clip import velocities
from scaling.motion.corpus import Corpus
from scaling.robot.rotations import rotate_inverse, yaw_quat

# Band edges (Hz) of the power features; windows of 4 s resolve a quarter of a hertz.
BANDS_HZ = (0.2, 0.6, 1.2, 2.5, 5.0, 10.0)
WINDOW_S = 4.0
_NAMES = ("mean", "spread", *(f"{low:g}-{high:g} Hz" for low, high in pairwise(BANDS_HZ)))


@dataclass(frozen=True)
class EmbedConfig:
    """Which embedding: "spectral" costs milliseconds a clip, "periodic" a training of the auto-encoder first."""

    kind: Literal["spectral", "periodic"] = "spectral"
    periodic: PeriodicConfig = PeriodicConfig()

    def __post_init__(self) -> None:
        if self.kind not in ("spectral", "periodic"):
            raise ValueError(f"kind {self.kind!r}: 'spectral' or 'periodic'")


def channels(qpos: Float[np.ndarray, "T 36"], rate_hz: float) -> Float[np.ndarray, "T 37"]:
    """What a clip does, free of place and heading: 29 joints, root height, gravity and root velocity seen from it."""
    qvel = velocities(qpos, rate_hz)
    quat = qpos[:, 3:7]
    down = np.broadcast_to(np.array([0.0, 0.0, -1.0]), (len(qpos), 3))
    gravity = rotate_inverse(quat, down)
    linear = rotate_inverse(yaw_quat(quat), qvel[:, :3])
    turning = np.sum(-gravity * qvel[:, 3:6], axis=1, keepdims=True)  # angular speed about the vertical
    return np.concatenate([qpos[:, 7:], qpos[:, 2:3], gravity, linear, turning], axis=1)


def embed(qpos: Float[np.ndarray, "T 36"], rate_hz: float) -> Float[np.ndarray, "F"]:
    """Per channel: mean, spread, and root power in five bands, averaged over half-overlapping 4 s Hann windows."""
    signal = channels(np.asarray(qpos, dtype=np.float64), rate_hz)
    count = len(signal)
    size = min(count, round(WINDOW_S * rate_hz))
    starts = np.unique(np.linspace(0, count - size, max(1, round(2 * (count - size) / size) + 1)).astype(int))
    window = np.hanning(size + 2)[1:-1, None]
    window = window / np.sqrt((window**2).mean())
    frequency = np.fft.rfftfreq(size, 1.0 / rate_hz)
    power = np.zeros((len(frequency), signal.shape[1]))
    for start in starts:
        piece = signal[start : start + size]
        power += np.abs(np.fft.rfft((piece - piece.mean(axis=0)) * window, axis=0) / size) ** 2 * 2.0
    power /= len(starts)
    bands = [np.sqrt(power[(frequency >= low) & (frequency < high)].sum(axis=0)) for low, high in pairwise(BANDS_HZ)]
    return np.concatenate([signal.mean(axis=0), signal.std(axis=0), *bands])


def embed_corpus(corpus: Corpus, config: EmbedConfig | None = None) -> Float[np.ndarray, "S F"]:
    """Embeddings of all segments on comparable scales; what is learned is learned from the training segments alone."""
    config = config or EmbedConfig()
    return _spectral(corpus) if config.kind == "spectral" else _periodic(corpus, config.periodic)


def _spectral(corpus: Corpus) -> Float[np.ndarray, "S F"]:
    """Each kind of figure (mean, spread, a band) is scaled as a whole, so that channels that hardly move stay quiet."""
    raw = np.stack([embed(corpus.segment(index), corpus.rate_hz) for index in range(len(corpus))])
    train = raw[corpus.indices("train")]
    table = (raw - train.mean(axis=0)).reshape(len(raw), len(_NAMES), -1)
    units = _channel_units(table.shape[2])
    scaled = table / units
    reference = scaled[corpus.indices("train")]
    spread = np.sqrt((reference**2).mean(axis=(0, 2), keepdims=True))
    return (scaled / np.maximum(spread, 1e-9)).reshape(len(raw), -1)


def _periodic(corpus: Corpus, config: PeriodicConfig) -> Float[np.ndarray, "S F"]:
    """Amplitude, frequency, mean and spread of the sinusoids that the auto-encoder makes of each segment."""
    step = round(corpus.rate_hz / config.rate_hz)
    pieces, starts, begin = [], [], 0
    for index in range(len(corpus)):
        signal = channels(corpus.segment(index).astype(np.float64), corpus.rate_hz)
        whole = len(signal) // step * step
        slow = signal[:whole].reshape(-1, step, signal.shape[1]).mean(axis=1)
        slow = np.pad(slow, ((0, max(0, config.frames - len(slow))), (0, 0)), mode="edge")
        count = round((len(slow) - config.frames) / (config.hop_s * config.rate_hz)) + 1
        starts.append(begin + np.linspace(0, len(slow) - config.frames, count).astype(int))
        pieces.append(slow.astype(np.float32))
        begin += len(slow)
    train = corpus.indices("train")
    middle = np.concatenate([pieces[index] for index in train]).mean(axis=0)
    signal = (np.concatenate(pieces) - middle) / _channel_units(len(middle)).astype(np.float32)
    trained = train_autoencoder(signal, np.concatenate([starts[index] for index in train]), config)
    return comparable(describe(trained, signal, starts), train)


def _channel_units(count: int) -> Float[np.ndarray, "C"]:
    """A typical size of each channel, so that metres, radians and metres a second can be compared."""
    units = np.full(count, 0.3)  # rad, joints
    units[29] = 0.1  # m, root height
    units[30:33] = 0.15  # gravity direction
    units[33:36] = 0.4  # m/s
    units[36] = 0.6  # rad/s
    return units
