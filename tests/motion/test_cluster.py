"""Embedding and K-means: blind to place and heading, planted clusters found, none ever empty."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from scaling.errors import InputError
from scaling.motion.cluster import kmeans
from scaling.motion.corpus import CorpusConfig, build_corpus
from scaling.motion.embed import embed, embed_corpus
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import FAMILIES, corpus_motions, generate
from scaling.robot.rotations import from_rotation_vector, quat_mul, rotate


def moved(qpos: np.ndarray, x: float, y: float, turn: float) -> np.ndarray:
    """The clip elsewhere on the floor and facing another way."""
    spin = np.broadcast_to(from_rotation_vector(np.array([0.0, 0.0, turn])), (len(qpos), 4))
    there = qpos.copy()
    there[:, :3] = rotate(spin, qpos[:, :3]) + np.array([x, y, 0.0])
    there[:, 3:7] = quat_mul(spin, qpos[:, 3:7])
    return there


def planted(count: int = 30, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Well separated blobs and their labels."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(k), count)
    return 20.0 * rng.standard_normal((k, 6))[truth] + rng.standard_normal((k * count, 6)), truth


@pytest.mark.parametrize("family", ["turn", "reach"])
@pytest.mark.parametrize("turn", [0.4, np.pi, -2.5])
def test_the_embedding_does_not_know_place_or_heading(family: str, turn: float) -> None:
    qpos = generate(family, 6.0, 2).qpos
    np.testing.assert_allclose(embed(moved(qpos, 5.0, -30.0, turn), 50.0), embed(qpos, 50.0), atol=1e-9)


def test_the_embedding_does_not_know_the_quaternions_sign() -> None:
    qpos = generate("turn", 6.0, 2).qpos
    flipped = qpos.copy()
    flipped[40:90, 3:7] *= -1.0
    np.testing.assert_allclose(embed(flipped, 50.0), embed(qpos, 50.0), atol=1e-9)


def test_the_embedding_sees_rhythm_in_its_band_at_any_rate() -> None:
    def arm(rate_hz: float, frequency: float) -> np.ndarray:
        qpos = np.repeat(generate("squat", 6.0, 0).qpos[:1], round(8 * rate_hz), axis=0)
        qpos[:, 22] += 0.5 * np.sin(2 * np.pi * frequency * np.arange(len(qpos)) / rate_hz)
        return embed(qpos, rate_hz).reshape(7, -1)[2:, 15]

    for frequency, band in ((0.85, 1), (1.8, 2), (3.5, 3)):
        slow, fast = arm(30.0, frequency), arm(50.0, frequency)
        np.testing.assert_allclose(slow, fast, atol=0.005)
        assert np.linalg.norm(fast) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
        assert fast[band] > 4 * np.delete(fast, band).max()


def test_clips_of_any_length_have_the_same_features() -> None:
    qpos = generate("reach", 9.0, 0).qpos
    sizes = {embed(qpos[:frames], 50.0).shape for frames in (32, 150, 200, 450)}
    assert len(sizes) == 1
    assert np.isfinite(embed(qpos[:32], 50.0)).all()


def test_clusters_of_generated_motion_tell_families_apart() -> None:
    corpus = build_corpus(corpus_motions(360.0, 0, take_seconds=10.0), CorpusConfig(SegmentConfig(2.0, 5.0, 10.0)))
    features = embed_corpus(corpus)
    assert features.shape[0] == len(corpus)
    clusters = kmeans(features, 4, seed=0, fit=corpus.indices("train"))
    families = np.array([FAMILIES.index(family) for family in corpus.families])
    stepping = np.isin(families, [FAMILIES.index("step_in_place"), FAMILIES.index("turn")])
    share = np.array([stepping[clusters.labels == k].mean() for k in range(4)])
    purity = sum(max(s, 1 - s) * n for s, n in zip(share, clusters.sizes, strict=True)) / len(corpus)
    assert purity > 0.9
    assert clusters.sizes.min() >= 1
    assert clusters.balance > 0.6


def test_planted_clusters_are_found_from_any_seed() -> None:
    features, truth = planted()
    for seed in range(3):
        found = kmeans(features, 4, seed)
        assert adjusted_rand_score(found.labels, truth) == pytest.approx(1.0)
        assert found.stability_ari == pytest.approx(1.0)
        assert found.balance == pytest.approx(1.0)
        np.testing.assert_array_equal(found.sizes, [30, 30, 30, 30])
        np.testing.assert_allclose(found.centres[found.labels[0]], features[:30].mean(axis=0))


def test_the_same_seed_gives_the_same_clusters() -> None:
    features = np.random.default_rng(1).standard_normal((80, 5))
    np.testing.assert_array_equal(kmeans(features, 7, 3).labels, kmeans(features, 7, 3).labels)


@pytest.mark.parametrize("k", [1, 2, 9, 10])
def test_no_cluster_is_ever_empty_even_among_copies(k: int) -> None:
    copies = np.zeros((10, 3))
    copies[0] = 1.0
    found = kmeans(copies, k, 0)
    assert found.sizes.min() >= 1
    assert found.sizes.sum() == 10
    np.testing.assert_array_equal(np.bincount(found.labels, minlength=k), found.sizes)


def test_as_many_clusters_as_segments_gives_each_its_own() -> None:
    features, _ = planted(5)
    found = kmeans(features, len(features), 0)
    assert sorted(found.labels.tolist()) == list(range(len(features)))
    assert found.inertia == pytest.approx(0.0)


def test_held_out_rows_move_no_centre_and_join_the_nearest() -> None:
    features, truth = planted()
    fit = np.arange(0, 120, 2)
    found = kmeans(features, 4, 0, fit=fit)
    strange = features.copy()
    strange[1::2] += 1.0
    np.testing.assert_array_equal(found.centres, kmeans(strange, 4, 0, fit=fit).centres)
    assert adjusted_rand_score(found.labels, truth) == pytest.approx(1.0)


def test_one_cluster_has_no_balance_or_stability() -> None:
    report = kmeans(planted()[0], 1, 0).report()
    assert np.isnan(report["balance"])
    assert np.isnan(report["stability_ari"])
    assert report["sizes"] == [120]


@pytest.mark.parametrize("k", [0, 11, -1])
def test_impossible_k_is_told(k: int) -> None:
    with pytest.raises(InputError, match=f"{k} clusters cannot be made of 10 segments"):
        kmeans(np.zeros((10, 2)), k, 0)
