"""The periodic auto-encoder: sinusoids keep their frequency, and what it says of a clip is free of place and phase."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.motion.augment import AugmentConfig, augment
from scaling.motion.autoencoder import PeriodicConfig, Wave, comparable, curve_of, describe, train_autoencoder, wave_of
from scaling.motion.corpus import CorpusConfig, build_corpus
from scaling.motion.embed import EmbedConfig, embed_corpus
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import corpus_motions

TINY = PeriodicConfig(channels=2, hidden=6, kernel_s=0.5, rate_hz=12.5, updates=300, batch=16, learning_rate=5e-3)
FREQUENCIES = (0.6, 1.1, 1.9)


def test_a_wave_gives_its_sinusoid_back() -> None:
    truth = Wave(*(jnp.array([row]) for row in ([0.5, 2.0], [0.85, 1.6], [0.3, -1.0], [0.1, -0.4])))
    found = wave_of(curve_of(truth, 100, 25.0), 25.0)
    np.testing.assert_allclose(found.frequency, truth.frequency, atol=0.01)
    np.testing.assert_allclose(found.mean, truth.mean, atol=0.2)  # parts of a period remain in the mean
    np.testing.assert_allclose(found.amplitude, truth.amplitude, rtol=0.12)
    np.testing.assert_allclose(found.phase, truth.phase, atol=0.03)


@pytest.fixture(scope="module")
def sinusoids() -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Five-channel signals of one frequency each, begun and scaled at random; windows and true frequencies."""
    rng = np.random.default_rng(0)
    truth = np.repeat(FREQUENCIES, 12)
    lag = rng.uniform(size=5)
    pieces = []
    for frequency in truth:
        turns = frequency * np.arange(2 * TINY.frames)[:, None] / TINY.rate_hz + rng.uniform() + lag
        pieces.append(rng.uniform(0.5, 1.5) * np.sin(2 * np.pi * turns))
    starts = [len(pieces[0]) * place + np.arange(0, TINY.frames, 10) for place in range(len(pieces))]
    return np.concatenate(pieces), starts, truth


def test_it_learns_the_frequency_of_sinusoids(sinusoids: tuple[np.ndarray, list[np.ndarray], np.ndarray]) -> None:
    signal, starts, truth = sinusoids
    trained = train_autoencoder(signal, np.concatenate(starts), TINY)
    untrained = train_autoencoder(signal, np.concatenate(starts), replace(TINY, updates=1))
    assert trained.left < 0.25 < 0.9 < untrained.left
    figures = describe(trained, signal, starts)
    assert figures.shape == (len(truth), 4, 2)
    loud = figures[:, 0].argmax(axis=1)
    found = figures[np.arange(len(truth)), 1, loud]
    assert np.abs(found - truth).max() < 0.25
    assert np.corrcoef(found, truth)[0, 1] > 0.97


def test_scales_come_from_training_segments_and_dead_channels_stay_quiet() -> None:
    figures = np.random.default_rng(0).standard_normal((20, 4, 3)) * [[1.0], [10.0], [0.1], [1.0]]
    figures[:, :, 2] *= 1e-6
    train = np.arange(12)
    scaled = comparable(figures, train).reshape(20, 4, 3)
    np.testing.assert_allclose(scaled[train].std(axis=0)[:, :2], 1.0)
    assert np.abs(scaled[:, :, 2]).max() < 1e-3
    other = figures.copy()
    other[12:] += 5.0
    np.testing.assert_array_equal(comparable(other, train)[:12].reshape(12, 4, 3), scaled[:12])


def test_the_embedding_does_not_know_the_heading_and_a_seed_is_a_seed() -> None:
    corpus = build_corpus(corpus_motions(40.0, 0, take_seconds=5.0), CorpusConfig(SegmentConfig(2.0, 5.0, 8.0)))
    more = augment(corpus, AugmentConfig(headings=1))
    config = EmbedConfig("periodic", replace(TINY, updates=10))
    features = embed_corpus(more, config)
    assert features.shape == (len(more), 8)
    np.testing.assert_array_equal(features, embed_corpus(more, config))
    for index in np.flatnonzero(~more.unique):
        np.testing.assert_allclose(features[index], features[more.names.index(more.origins[index])], atol=0.01)
    assert features.std(axis=0).min() > 0.1


@pytest.mark.parametrize("values", [{"channels": 0}, {"rate_hz": 60.0}, {"hop_s": 0.0}])
def test_impossible_settings_are_named(values: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}={next(iter(values.values()))}"):
        PeriodicConfig(**values)
    with pytest.raises(ValueError, match="'fourier'"):
        EmbedConfig("fourier")  # type: ignore[arg-type]
