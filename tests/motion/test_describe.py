"""Diversity, complexity and names: what each figure must say of sets whose answer is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.motion.augment import mirror, time_warp, turn
from scaling.motion.clip import Motion
from scaling.motion.cluster import kmeans
from scaling.motion.corpus import CorpusConfig, build_corpus
from scaling.motion.describe import Yardstick, cluster_names, complexity
from scaling.motion.embed import embed_corpus
from scaling.motion.read import read_motion
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import corpus_motions
from scaling.robot.g1 import standing_qpos


def test_diversity_of_a_known_gaussian() -> None:
    rows = np.random.default_rng(0).standard_normal((20_000, 3)) * [1.0, 2.0, 4.0]
    found = Yardstick(rows).measure(rows)
    assert found.axes == 3
    assert found.geometric_std == pytest.approx(2.0, rel=0.02)
    assert found.log_volume == pytest.approx(np.log(8.0), abs=0.03)


def test_a_set_is_measured_on_the_axes_of_the_whole() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 6))
    ruler = Yardstick(rows, axes=4)
    whole, half = ruler.measure(rows), ruler.measure(0.5 * rows)
    assert half.geometric_std == pytest.approx(0.5 * whole.geometric_std)
    assert half.log_volume == pytest.approx(whole.log_volume + 4 * np.log(0.5))
    line = rows[:1] + np.linspace(0, 1, 50)[:, None] * (rows[1:2] - rows[:1])
    assert ruler.measure(line).geometric_std > 0
    assert ruler.measure(line).log_volume < whole.log_volume - 10
    assert ruler.measure(rows[:3]).log_volume == ruler.measure(rows[:1]).log_volume == float("-inf")
    assert np.isnan(Yardstick(rows[:1]).measure(rows).geometric_std)


def test_complexity_knows_no_place_side_or_heading_and_grows_with_pace(turning: Motion) -> None:
    usual = complexity(turning.qpos, 50.0)
    for same in (mirror(turning.qpos), turn(turning.qpos, 1.3)):
        assert complexity(same, 50.0) == pytest.approx(usual, rel=1e-6)
    assert complexity(time_warp(turning.qpos, 1.5), 50.0) == pytest.approx(1.5 * usual, rel=0.1)
    assert complexity(np.tile(standing_qpos(), (50, 1)), 50.0) == 0.0


def test_a_dance_is_more_complex_than_a_walk(shared: Path) -> None:
    lafan = shared / "motions" / "g1_29dof" / "lafan1"
    walk, dance = (read_motion(lafan / f"{name}_subject1.csv.gz") for name in ("walk1", "dance1"))
    assert complexity(dance.qpos, dance.rate_hz) > 1.3 * complexity(walk.qpos, walk.rate_hz) > 0


def test_clusters_are_named_by_family_and_nearest_takes() -> None:
    corpus = build_corpus(corpus_motions(96.0, 0, take_seconds=6.0), CorpusConfig(SegmentConfig(2.0, 3.0, 6.0)))
    features = embed_corpus(corpus)
    found = kmeans(features, 4, 0)
    for k, name in enumerate(cluster_names(corpus, features, found)):
        members = np.flatnonzero(found.labels == k)
        nearest = members[np.argmin(((features[members] - found.centres[k]) ** 2).sum(axis=1))]
        family, _, takes = name.rpartition(": ")
        assert takes.split(", ")[0] == corpus.takes[nearest]
        shares = {its: sum(corpus.length[i] for i in members if corpus.families[i] == its) for its in corpus.families}
        top = max(shares, key=lambda its: shares[its])
        assert family == (top if shares[top] >= 0.6 * corpus.length[members].sum() else "")
    nameless = replace(corpus, families=("",) * len(corpus))
    assert not any(":" in name for name in cluster_names(nameless, features, found))
