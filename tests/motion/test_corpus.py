"""Corpus: segments cover takes, splits respect recordings, arms are nested and stratified, files come back whole."""

import gc
import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion import native
from scaling.motion.augment import AugmentConfig, augmented
from scaling.motion.clip import Motion
from scaling.motion.corpus import FRACTIONS, Corpus, CorpusConfig, build_corpus, nested_arms
from scaling.motion.deal import split_groups
from scaling.motion.gather import GatherConfig, gather
from scaling.motion.segment import DEALT, SegmentConfig, cut
from scaling.motion.store import store
from scaling.motion.store.export import write_corpus
from scaling.motion.synthetic import FAMILIES, corpus_motions
from scaling.record.hashing import content_hash
from scaling.robot.g1 import standing_qpos

SHORT = SegmentConfig(min_seconds=2.0, target_seconds=4.0, max_seconds=8.0)


def walk(seconds: float, name: str = "walk", rate_hz: float = 50.0) -> Motion:
    """Joints wander as far as a person's would; enough for cutting and packing."""
    rng = np.random.default_rng(len(name))
    frames = round(seconds * rate_hz)
    qpos = np.tile(standing_qpos(), (frames, 1))
    qpos[:, 7:] += 0.01 * rng.standard_normal((frames, 29)).cumsum(axis=0)
    return Motion(qpos, rate_hz, name)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build_corpus(corpus_motions(480.0, 0, take_seconds=8.0), CorpusConfig(SHORT))


@pytest.mark.parametrize(
    "config", [SegmentConfig(), SHORT, SegmentConfig(4.0, 4.0, 8.0), SegmentConfig(4.0, 18.0, 20.0)]
)
@pytest.mark.parametrize("seconds", [4.0, 7.9, 8.1, 11.0, 19.9, 20.5, 41.0, 133.3])
def test_segments_cover_a_take_and_keep_their_lengths(seconds: float, config: SegmentConfig) -> None:
    pieces = cut(walk(seconds).qpos, 50.0, config)
    assert pieces[0][0] == 0
    assert sum(length for _, length in pieces) == round(seconds * 50)
    for (start, length), (following, _) in pairwise(pieces):
        assert start + length == following
    assert min(length for _, length in pieces) >= config.min_seconds * 50
    assert max(length for _, length in pieces) <= config.max_seconds * 50


def test_cuts_prefer_calm_frames() -> None:
    motion = walk(20.0)
    qpos = motion.qpos.copy()
    qpos[430:470] = qpos[430]  # a rest, off the middle
    (_, first), _ = cut(qpos, 50.0, SegmentConfig())
    assert 425 <= first <= 470


@pytest.mark.parametrize("values", [(0.0, 4.0, 8.0), (4.0, 3.0, 8.0), (4.0, 9.0, 8.0), (5.0, 6.0, 8.0)])
def test_impossible_segment_lengths_are_named(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=str(values[0])):
        SegmentConfig(*values)


def test_short_clips_are_refused_by_name_and_the_rest_kept() -> None:
    motions = [walk(0.4, "blink"), walk(3.0, "brief"), walk(12.0, "long")]
    corpus = build_corpus(motions)
    assert set(corpus.takes) == {"long"}
    assert "20 frames at 50 Hz, fewer than the 32" in corpus.refused["blink"]
    assert "shortest segment of 4 s" in corpus.refused["brief"]
    with pytest.raises(InputError, match="none of 2 clips can be used; blink: 20 frames"):
        build_corpus(motions[:2])
    with pytest.raises(InputError, match="none of 0 clips"):
        build_corpus([])


def test_a_bad_clip_does_not_spoil_the_others() -> None:
    broken = walk(12.0, "broken")
    broken.qpos[3, 9] = np.nan
    assert "NaN" in build_corpus([broken, walk(12.0, "good")]).refused["broken"]


def test_two_clips_of_one_name_are_an_error() -> None:
    with pytest.raises(InputError, match="two clips are named 'walk'"):
        build_corpus([walk(8.0), walk(9.0)])


def test_the_pack_holds_the_resampled_takes(corpus: Corpus) -> None:
    assert corpus.qpos.dtype == np.float32
    assert corpus.start.dtype == corpus.length.dtype == np.int32
    np.testing.assert_array_equal(corpus.start, np.concatenate([[0], np.cumsum(corpus.length)[:-1]]))
    assert corpus.frames() == len(corpus.qpos)
    assert corpus.hours() == pytest.approx(480 / 3600)
    slow = build_corpus([walk(12.0, "slow", rate_hz=30.0)])
    assert slow.frames() == 599  # 360 frames at 30 Hz span 11.97 s
    one = corpus_motions(480.0, 0, take_seconds=8.0)[0]
    joined = np.concatenate([corpus.segment(s) for s in range(len(corpus)) if corpus.takes[s] == one.name])
    np.testing.assert_array_equal(joined, one.qpos.astype(np.float32))


@pytest.mark.parametrize("seed", range(5))
def test_no_recording_crosses_a_split_and_every_family_is_held_out(seed: int) -> None:
    groups = [f"{family}{number}" for family in FAMILIES for number in range(10)] * 2
    families = [family for family in FAMILIES for _ in range(10)] * 2
    split = split_groups(groups, families, [1000] * len(groups), val=0.15, test=0.15, seed=seed)
    assert set(split) == set(groups)
    for name in DEALT:
        assert {group.rstrip("0123456789") for group, its in split.items() if its == name} == set(FAMILIES)
    assert list(split.values()).count("val") == list(split.values()).count("test") == 9


@pytest.mark.parametrize("count", range(1, 9))
def test_few_groups_still_give_every_split_one(count: int) -> None:
    groups = [f"g{number}" for number in range(count)]
    split = list(split_groups(groups, [""] * count, [1000] * count, val=0.15, test=0.15, seed=0).values())
    assert split.count("train") >= 1
    assert split.count("val") == (1 if count > 1 else 0)
    assert split.count("test") == (1 if count > 2 else 0)


def test_a_family_of_one_recording_is_trained_on_if_others_can_be_held_out() -> None:
    groups = ["jump", "sprint", *(f"walk{number}" for number in range(6))]
    families = ["jump", "sprint", *["walk"] * 6]
    for seed in range(10):
        split = split_groups(groups, families, [1000] * len(groups), val=0.15, test=0.15, seed=seed)
        assert split["jump"] == split["sprint"] == "train"


@pytest.mark.parametrize("seed", range(6))
def test_the_shares_are_of_frames_and_not_of_recordings(seed: int) -> None:
    """A few recordings of many minutes among many of seconds, as in LAFAN1 beside g1-moves."""
    rng = np.random.default_rng(seed)
    frames = [*rng.integers(8_000, 40_000, 14).tolist(), *rng.integers(300, 3_000, 40).tolist()]
    groups = [f"g{number}" for number in range(len(frames))]
    families = [FAMILIES[number % len(FAMILIES)] for number in range(len(frames))]
    split = split_groups(groups, families, frames, val=0.15, test=0.1, seed=seed)
    total = sum(frames)
    for name, share in (("val", 0.15), ("test", 0.1), ("train", 0.75)):
        got = sum(size for group, size in zip(groups, frames, strict=True) if split[group] == name)
        assert got / total == pytest.approx(share, abs=0.012)
    assert split == split_groups(groups[::-1], families[::-1], frames[::-1], val=0.15, test=0.1, seed=seed)
    trained = {family for group, family in zip(groups, families, strict=True) if split[group] == "train"}
    assert trained == set(families)


def test_one_giant_recording_is_trained_on() -> None:
    for seed in range(5):
        split = split_groups(list("abcd"), [""] * 4, [90_000, 500, 600, 700], val=0.15, test=0.15, seed=seed)
        assert split["a"] == "train"
        assert set(split.values()) == set(DEALT)


def test_takes_of_one_group_stay_together() -> None:
    motions = [replace(walk(12.0, f"a{n}_s{s}"), group=f"a{n}") for n in range(6) for s in range(3)]
    corpus = build_corpus(motions)
    for group in set(corpus.groups):
        assert len({split for split, its in zip(corpus.splits, corpus.groups, strict=True) if its == group}) == 1
    assert {len(corpus.indices(split)) > 0 for split in DEALT} == {True}


@pytest.mark.parametrize("seed", range(4))
def test_arms_are_nested_growing_and_stratified(corpus: Corpus, seed: int) -> None:
    labels = np.array([FAMILIES.index(family) for family in corpus.families])
    arms = nested_arms(corpus, labels, seed=seed)
    train = corpus.indices("train")
    assert tuple(arms) == FRACTIONS
    np.testing.assert_array_equal(arms[1.0], train)
    smaller: set[int] = set()
    whole = np.bincount(labels[train]) / len(train)
    for fraction, members in arms.items():
        assert smaller < set(members.tolist()) <= set(train.tolist())
        smaller = set(members.tolist())
        longest = int(corpus.length.max())
        assert abs(corpus.frames(members) - fraction * corpus.frames(train)) <= longest
        counts = np.bincount(labels[members], minlength=len(whole))
        assert np.abs(counts - whole * len(members)).max() < 2.0
    assert any(
        not np.array_equal(arms[1 / 4], nested_arms(corpus, labels, seed=other)[1 / 4])
        for other in (seed + 1, seed + 2)
    )


def test_too_few_segments_for_the_arms_are_told() -> None:
    small = build_corpus([walk(12.0, "only")])
    with pytest.raises(InputError, match="1 training segments cannot make 5"):
        nested_arms(small, np.zeros(1, dtype=int))
    assert len(nested_arms(small, np.zeros(1, dtype=int), fractions=(1.0,))[1.0]) == 1
    with pytest.raises(InputError, match="do not fit"):
        nested_arms(small, np.zeros(7, dtype=int))


def test_saved_and_loaded_corpus_is_the_same(corpus: Corpus, tmp_path: Path) -> None:
    folder = corpus.save(tmp_path / "corpus")
    back = Corpus.load(folder)
    np.testing.assert_array_equal(back.qpos, corpus.qpos)
    assert back.content_hash == corpus.content_hash
    for column in ("names", "takes", "groups", "families", "splits", "licences", "refused", "config"):
        assert getattr(back, column) == getattr(corpus, column)
    assert sorted(path.name for path in folder.iterdir()) == ["corpus.json", "store"]
    told = json.loads((folder / "corpus.json").read_text())
    assert told["hash"] == corpus.content_hash
    assert told["frames_by_split"]["val"] == corpus.frames(corpus.indices("val"))


def test_the_hash_sees_content_only(corpus: Corpus) -> None:
    again = build_corpus(corpus_motions(480.0, 0, take_seconds=8.0), CorpusConfig(SHORT))
    assert again.content_hash == corpus.content_hash
    other = build_corpus(corpus_motions(480.0, 0, take_seconds=8.0), CorpusConfig(SHORT, seed=1))
    assert other.content_hash != corpus.content_hash


def test_missing_or_damaged_corpora_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no corpus here"):
        Corpus.load(tmp_path)
    folder = corpus.save(tmp_path / "c")
    shard = folder / "store" / "qpos-00000.array_record"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short"):
        Corpus.load(folder)
    shard.write_bytes(whole)
    told = (folder / "corpus.json").read_text()
    (folder / "corpus.json").write_text(told.replace(corpus.content_hash, "0" * 16))
    with pytest.raises(InputError, match="the store beside it is another"):
        Corpus.load(folder)
    (folder / "corpus.json").write_text("{}")
    with pytest.raises(InputError, match="not readable"):
        Corpus.load(folder)


def test_the_hash_told_segment_by_segment_is_that_of_the_whole(corpus: Corpus) -> None:
    """And it is the hash that a corpus had before segments were told one by one."""
    columns = {name: getattr(corpus, name) for name in ("names", "takes", "groups", "families", "splits", "licences")}
    whole = {"qpos": np.array(corpus.qpos), "start": corpus.start, "length": corpus.length, **columns}
    assert corpus.content_hash == content_hash(whole)
    half = corpus.select(np.arange(0, len(corpus), 2))
    assert half.qpos is corpus.qpos
    assert half.content_hash == corpus.subset(np.arange(0, len(corpus), 2)).content_hash != corpus.content_hash


def test_clips_pass_through_memory_one_at_a_time(tmp_path: Path) -> None:
    """Four times the clips do not take four times the memory."""

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        for number in range(count):
            native.write_npz(walk(40.0 + number / 50.0, f"clip{number}"), folder / f"{number}.npz")
        files = sorted(folder.glob("*.npz"))
        gc.collect()
        tracemalloc.start()
        try:
            gathered = gather(files, config=GatherConfig(judged=False), scratch=tmp_path)
            corpus = build_corpus(list(gathered.clips.values()), scratch=tmp_path)
            write_corpus(folder / "corpus", augmented(corpus, AugmentConfig(mirror=True)), {}, corpus.config)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(9)  # modules and caches
    few, many = peak(3), peak(9)
    added = 6 * 40 * 50 * 36 * 8
    assert many - few < 0.25 * added


def test_a_full_disk_leaves_a_sentence_and_no_corpus(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "ShardWriter", full)
    with pytest.raises(InputError, match="disk is full"):
        corpus.save(tmp_path / "c")
    with pytest.raises(InputError, match="no corpus here"):
        Corpus.load(tmp_path / "c")


def test_unknown_split_is_told(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="train, val, test"):
        corpus.indices("dev")


def test_held_out_shares_must_leave_training_data() -> None:
    with pytest.raises(ValueError, match=r"0\.5"):
        CorpusConfig(val=0.5, test=0.5)
