"""A tiny corpus, two banks with their validation sets, and one group that most tests share, compiled once."""

import dataclasses

import jax
import numpy as np
import pytest

from scaling.distill.config import ValConfig
from scaling.distill.group import Group, RunSpec, Teacher
from scaling.distill.valset import make_valset
from scaling.motion.corpus import CorpusConfig, build_corpus
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import corpus_motions
from tests.distill.samples import CONFIG, STUDENT, ToyPhysics, linear_bank


@pytest.fixture(scope="session")
def physics():
    """The toy world."""
    return ToyPhysics()


@pytest.fixture(scope="session")
def corpus():
    """Two families, twelve short takes; both families have `val` segments."""
    motions = corpus_motions(48.0, 0, families=("squat", "arm_wave"), take_seconds=4.0)
    made = build_corpus(motions, CorpusConfig(segments=SegmentConfig(4.0, 4.0, 8.0), val=0.34, test=0.16))
    assert {made.families[index] for index in made.indices("val")} == {"squat", "arm_wave"}
    return made


@pytest.fixture(scope="session")
def teachers(corpus, physics):
    """A bank of two experts (one a family) and a bank of one, each with its validation set."""
    family = np.array([name == "squat" for name in corpus.families], np.int32)
    config = ValConfig(sequences=8, steps=12)
    made = []
    for bank, labels in ((linear_bank(2, 0, 0.3), family), (linear_bank(1, 1), 0 * family)):
        made.append(Teacher(bank, labels, make_valset(bank, labels, corpus, physics, config)))
    return made


@pytest.fixture(scope="session")
def runs(corpus):
    """A run on one segment taught by the first bank, and one on all of `train` taught by the second."""
    train = corpus.indices("train")
    return [RunSpec("small", train[:1], 5), RunSpec("whole", train, 6, teacher=1)]


@pytest.fixture(scope="session")
def make_group(runs, teachers, corpus, physics):
    """`make_group(**changes of the config)`."""

    def make(student=STUDENT, runs=runs, **changes):
        return Group(student, runs, teachers, corpus, physics, dataclasses.replace(CONFIG, **changes))

    return make


@pytest.fixture(scope="session")
def group(make_group):
    """The shared group, its programs compiled once."""
    return make_group()


@pytest.fixture(scope="session")
def fresh(group):
    """Parameters of its untrained students, the head loud enough for a comparison to mean something."""
    state, _ = group.start()
    params = jax.tree.map(np.asarray, state.params)
    return {**params, "head": {**params["head"], "kernel": 100 * params["head"]["kernel"]}}
