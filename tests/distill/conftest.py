"""A tiny corpus, two banks with their validation sets, and one group that most tests share, compiled once."""

import dataclasses

import jax
import numpy as np
import pytest

from scaling.distill import dagger
from scaling.distill.group import Group
from tests.distill.samples import CONFIG, STUDENT, ToyPhysics, make_corpus, make_runs, make_teachers


@pytest.fixture(scope="session")
def physics():
    """The toy world."""
    return ToyPhysics()


@pytest.fixture(scope="session")
def corpus():
    """See `make_corpus`."""
    return make_corpus()


@pytest.fixture(scope="session")
def teachers(corpus, physics):
    """See `make_teachers`."""
    return make_teachers(corpus, physics)


@pytest.fixture(scope="session")
def runs(corpus):
    """See `make_runs`."""
    return make_runs(corpus)


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


@pytest.fixture
def train(group, monkeypatch):
    """`train(work=None, group=the shared one)`: `train_group` on programs that are compiled already."""

    def run(work=None, group=group):
        monkeypatch.setattr(dagger, "Group", lambda *_: group)
        given = (group.student, group.runs, group.teachers, group.corpus, group.physics, group.config)
        return dagger.train_group(*given, work)

    return run


@pytest.fixture(scope="session")
def straight(group):
    """What the shared group comes to, trained without a break and without a folder."""
    return dagger._Training(group, None).run()
