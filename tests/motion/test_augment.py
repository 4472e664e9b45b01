"""Augmentation: what a copy is, that it stays with its origin, and that it counts apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.augment import SPEEDS, AugmentConfig, augment, mirror, time_warp, turn
from scaling.motion.clip import Motion, resample, velocities
from scaling.motion.corpus import Corpus, CorpusConfig, build_corpus, nested_arms
from scaling.motion.embed import channels, embed
from scaling.motion.read import read_motion
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import FAMILIES, corpus_motions
from scaling.record.hashing import content_hash
from scaling.robot.g1 import BODY_NAMES, NQ
from scaling.robot.kinematics import forward_kinematics, soles
from scaling.study.config import MotionsConfig

ALL = AugmentConfig(speeds=SPEEDS, mirror=True, headings=1)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Sixteen short takes."""
    return build_corpus(corpus_motions(96.0, 0, take_seconds=6.0), CorpusConfig(SegmentConfig(2.0, 3.0, 6.0)))


@pytest.fixture(scope="module")
def more(corpus: Corpus) -> Corpus:
    return augment(corpus, ALL)


def anything(count: int = 50) -> np.ndarray:
    """Random poses that no symmetry helps."""
    qpos = np.random.default_rng(0).uniform(-1.0, 1.0, (count, NQ))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    return qpos


def test_the_mirror_twice_is_the_clip_to_the_last_bit() -> None:
    np.testing.assert_array_equal(mirror(mirror(anything())), anything())
    assert np.abs(mirror(anything()) - anything()).max() > 0.5


def test_in_the_mirror_every_body_is_where_its_other_side_was() -> None:
    """Forward kinematics knows nothing of the signs; the robot's own two sides differ by 10 um."""
    here, there = (forward_kinematics(qpos)[0] for qpos in (anything(), mirror(anything())))
    swapped = [name.replace("left", "R").replace("right", "left").replace("R", "right") for name in BODY_NAMES]
    sides = [BODY_NAMES.index(name) for name in swapped]
    np.testing.assert_allclose(there[:, sides] * [1.0, -1.0, 1.0], here, atol=2e-5)


def test_real_feet_are_as_high_in_the_mirror(shared: Path) -> None:
    motion = read_motion(shared / "motions" / "g1_29dof" / "lafan1" / "walk1_subject1.csv.gz")
    here, there = (soles(qpos)[..., 2].min(axis=-1) for qpos in (motion.qpos, mirror(motion.qpos)))
    np.testing.assert_allclose(there[:, ::-1], here, atol=2e-5)
    assert np.abs(here[:, 0] - here[:, 1]).max() > 0.05


@pytest.mark.parametrize("speed", [speed for speed in SPEEDS if speed != 1.0])
def test_a_warped_clip_does_the_same_sooner_or_later(turning: Motion, speed: float) -> None:
    warped = time_warp(turning.qpos, speed)
    assert len(warped) == int((turning.frames - 1) / speed + 1e-9) + 1
    np.testing.assert_array_equal(warped[0], turning.qpos[0])
    instants = np.arange(0, len(warped), 10)
    there = resample(turning, 50.0 / speed).qpos[instants]
    np.testing.assert_allclose(warped[instants], there, atol=1e-12)
    fast, usual = (np.abs(velocities(qpos, 50.0)[20:-20, 18:]).mean() for qpos in (warped, turning.qpos))
    assert fast / usual == pytest.approx(speed, rel=0.06)


def test_a_turned_clip_does_the_same_elsewhere(turning: Motion) -> None:
    there = turn(turning.qpos, 2.0)
    assert np.abs(there - turning.qpos)[:, 3:7].max() > 0.5
    np.testing.assert_allclose(turn(there, -2.0), turning.qpos, atol=1e-12)
    np.testing.assert_allclose(channels(there, 50.0), channels(turning.qpos, 50.0), atol=1e-9)
    np.testing.assert_array_equal(there[0, :3], turning.qpos[0, :3])


def test_as_it_stands_nothing_is_made_and_every_hash_is_as_it_was(corpus: Corpus) -> None:
    assert augment(corpus, AugmentConfig()) is corpus
    columns = {name: getattr(corpus, name) for name in ("names", "takes", "groups", "families", "splits", "licences")}
    arrays = {"qpos": corpus.qpos, "start": corpus.start, "length": corpus.length}
    assert corpus.content_hash == content_hash({**arrays, **columns})
    assert content_hash(MotionsConfig()) == content_hash(MotionsConfig(augment=AugmentConfig()))
    assert content_hash(MotionsConfig()) != content_hash(MotionsConfig(augment=ALL))


def test_copies_stay_with_their_origin_and_are_of_training_alone(corpus: Corpus, more: Corpus) -> None:
    copies = np.flatnonzero(~more.unique)
    assert len(copies) == 19 * len(corpus.indices("train"))
    place = {name: index for index, name in enumerate(corpus.names)}
    for index in copies:
        origin = place[more.origins[index]]
        for column in ("takes", "groups", "families", "splits", "licences"):
            assert getattr(more, column)[index] == getattr(corpus, column)[origin]
        assert more.splits[index] == "train"
    assert len(set(more.names)) == len(more)
    for index, name in enumerate(corpus.names):
        assert more.names[index] == name
        np.testing.assert_array_equal(more.segment(index), corpus.segment(index))


def test_the_name_says_what_was_done(corpus: Corpus, more: Corpus) -> None:
    origin = int(corpus.indices("train")[0])
    qpos = corpus.segment(origin).astype(np.float64)
    warped = more.names.index(f"{corpus.names[origin]}~x1.10~mirrored")
    np.testing.assert_allclose(more.segment(warped), mirror(time_warp(qpos, 1.1)), atol=1e-6)
    turned = more.names.index(f"{corpus.names[origin]}~turned1")
    np.testing.assert_allclose(embed(more.segment(turned), 50.0), embed(qpos, 50.0), atol=1e-4)
    assert np.abs(more.segment(turned)[:, 3:7] - qpos[:, 3:7]).max() > 1e-3


def test_augmented_frames_are_counted_apart(corpus: Corpus, more: Corpus) -> None:
    assert more.frames() == corpus.frames()
    assert more.hours() == corpus.hours()
    assert more.frames() + more.augmented_frames() == len(more.qpos)
    train = more.indices("train")
    assert more.frames(train) == corpus.frames(corpus.indices("train"))
    assert more.augmented_frames(train) == more.augmented_frames() > 15 * more.frames(train)
    assert corpus.augmented_frames() == 0


def test_arms_are_those_of_the_unique_segments_with_their_copies(corpus: Corpus, more: Corpus) -> None:
    labels = np.array([FAMILIES.index(family) for family in more.families])
    before, after = nested_arms(corpus, labels[: len(corpus)]), nested_arms(more, labels)
    for fraction, arm in after.items():
        np.testing.assert_array_equal(arm[more.unique[arm]], before[fraction])
        assert {more.origins[index] for index in arm[~more.unique[arm]]} == {corpus.names[i] for i in before[fraction]}
    np.testing.assert_array_equal(after[1.0], more.indices("train"))


def test_an_augmented_corpus_is_saved_and_loaded_and_not_augmented_again(more: Corpus, tmp_path: Path) -> None:
    back = Corpus.load(more.save(tmp_path / "more"))
    assert back.origins == more.origins
    assert back.content_hash == more.content_hash
    with pytest.raises(InputError, match="augmented segments already"):
        augment(back, ALL)


def test_copies_too_short_for_a_student_are_left_out(corpus: Corpus) -> None:
    fast = AugmentConfig(speeds=(1.1,), min_frames=140)
    made = augment(corpus, fast)
    assert all(made.length[~made.unique] >= 140)
    possible = (corpus.length[corpus.indices("train")] - 1) / 1.1 + 1 >= 140
    assert 0 < (~made.unique).sum() == possible.sum() < len(possible)


@pytest.mark.parametrize("values", [{"speeds": ()}, {"speeds": (3.0,)}, {"speeds": (0.9, 0.9)}, {"headings": -1}])
def test_impossible_copies_are_named(values: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        AugmentConfig(**values)


def test_copies_keep_to_the_bounds_of_segments() -> None:
    """A segment as long as may be has slower copies that end there; one as short as may be has no faster ones."""
    long, short = corpus_motions(12.0, 0, take_seconds=6.0)[:2]
    short = replace(short, qpos=short.qpos[:105], group="short")
    plain = build_corpus([long, short], CorpusConfig(SegmentConfig(2.0, 6.0, 6.0), val=0.0, test=0.0))
    more = augment(plain, AugmentConfig(speeds=SPEEDS))
    assert more.length.max() == 300
    assert more.length.min() >= 100
    made = {name: size for name, size in zip(more.names, more.length, strict=True) if "~" in name}
    assert made[f"{long.name}/000~x0.90"] == 300
    assert f"{short.name}/000~x0.95" in made
    assert f"{short.name}/000~x1.10" not in made
    slow = more.segment(more.names.index(f"{long.name}/000~x0.90"))
    np.testing.assert_allclose(slow, time_warp(long.qpos, 0.9)[:300], atol=1e-6)
