"""Families held out as wholes: nobody sees any of them, recordings stay whole, and the rest is dealt as ever."""

from dataclasses import replace

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.augment import AugmentConfig, augment
from scaling.motion.cluster import kmeans
from scaling.motion.corpus import Corpus, CorpusConfig, build_corpus
from scaling.motion.embed import embed_corpus
from scaling.motion.holdout import UnseenConfig, hold_out
from scaling.motion.segment import DEALT, SegmentConfig
from scaling.motion.synthetic import FAMILIES, corpus_motions

CONFIG = CorpusConfig(SegmentConfig(2.0, 3.0, 6.0))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Takes of every family, each a recording of its own."""
    return build_corpus(corpus_motions(180.0, 0, take_seconds=6.0), CONFIG)


def test_of_a_named_family_nothing_is_left_to_be_seen(corpus: Corpus) -> None:
    found = hold_out(corpus, UnseenConfig(names=("turn", "squat")), CONFIG)
    unseen = found.indices("test_family")
    assert {found.families[index] for index in unseen} == {"turn", "squat"}
    for split in DEALT:
        indices = found.indices(split)
        assert len(indices) > 0
        assert not {found.families[index] for index in indices} & {"turn", "squat"}
    np.testing.assert_array_equal(found.qpos, corpus.qpos)
    assert found.config["unseen"]["names"] == ("turn", "squat")


def test_a_recording_with_a_take_of_the_family_goes_as_a_whole(corpus: Corpus) -> None:
    """A copy of a take without a family's name is tied to it by its recording."""
    first = corpus.families.index("turn")
    other = corpus.families.index("reach")
    groups = list(corpus.groups)
    groups[other] = corpus.groups[first]
    found = hold_out(replace(corpus, groups=tuple(groups)), UnseenConfig(names=("turn",)), CONFIG)
    assert found.splits[other] == "test_family"


def test_of_a_held_out_cluster_nothing_is_left_to_be_seen(corpus: Corpus) -> None:
    found = hold_out(corpus, UnseenConfig(clusters=2, of=5), CONFIG)
    labels = kmeans(embed_corpus(corpus), 5, CONFIG.seed, fit=corpus.indices("train")).labels
    label_of = dict(zip(corpus.names, labels, strict=True))
    seen, unseen = (
        {label_of[found.names[index]] for split in splits for index in found.indices(split)}
        for splits in (DEALT, ("test_family",))
    )
    held = {label for label in range(5) if label not in seen}
    assert len(held) == 2
    assert held <= unseen
    for group in set(found.groups):
        assert len({split for split, its in zip(found.splits, found.groups, strict=True) if its == group}) == 1
    gone = set(corpus.names) - set(found.names)
    assert all("family that is held out" in found.refused[name] for name in gone)
    assert all(label_of[name] in held for name in gone)
    for index in (0, len(found) - 1):
        np.testing.assert_array_equal(found.segment(index), corpus.segment(corpus.names.index(found.names[index])))


def test_a_stray_segment_of_a_held_out_cluster_is_left_out(corpus: Corpus) -> None:
    """One squat in a recording of reaching is neither trained on nor a reason to give the recording up."""
    labels = kmeans(embed_corpus(corpus), 5, CONFIG.seed, fit=corpus.indices("train")).labels
    drawn = hold_out(corpus, UnseenConfig(clusters=1, of=5), CONFIG)
    label_of = dict(zip(corpus.names, labels, strict=True))
    held = set(labels) - {label_of[drawn.names[index]] for split in DEALT for index in drawn.indices(split)}
    assert len(held) == 1
    stray = next(index for index in range(len(corpus)) if labels[index] in held)
    hosts = [index for index in range(len(corpus)) if labels[index] not in held][:3]
    groups = list(corpus.groups)
    for index in hosts:
        groups[index] = "host"
    groups[stray] = "host"
    found = hold_out(replace(corpus, groups=tuple(groups)), UnseenConfig(clusters=1, of=5), CONFIG)
    assert corpus.names[stray] not in found.names
    assert corpus.names[stray] in found.refused
    assert all(found.splits[found.names.index(corpus.names[index])] in DEALT for index in hosts)


def test_nothing_unseen_changes_nothing(corpus: Corpus) -> None:
    assert hold_out(corpus, UnseenConfig(), CONFIG) is corpus


def test_what_cannot_be_held_out_is_told(corpus: Corpus) -> None:
    with pytest.raises(InputError, match=r"no clip is of the family or recording 'dance'.*squat"):
        hold_out(corpus, UnseenConfig(names=("dance",)), CONFIG)
    with pytest.raises(InputError, match="fewer than two recordings"):
        hold_out(corpus, UnseenConfig(names=FAMILIES), CONFIG)
    with pytest.raises(ValueError, match="clusters 4: from 0 to fewer than all 4"):
        UnseenConfig(clusters=4, of=4)
    with pytest.raises(InputError, match="before you augment"):
        hold_out(augment(corpus, AugmentConfig(mirror=True)), UnseenConfig(names=("turn",)), CONFIG)
