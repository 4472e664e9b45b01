"""On C MuJoCo: a Transformer group learns, and one killed between rounds comes to the same students bit for bit."""

import dataclasses

import jax
import numpy as np
import pytest

from scaling.distill import dagger
from scaling.distill.checkpoint import Rounds
from scaling.distill.group import Group
from scaling.students.config import StudentConfig
from scaling.tracking.physics import make_physics
from tests.distill.samples import CONFIG, SEEN


@pytest.mark.slow
def test_resume_is_exact_in_real_physics(corpus, teachers, runs, tmp_path, monkeypatch):
    student = StudentConfig("transformer", SEEN, width=16, depth=1, heads=2, context=8)
    config = dataclasses.replace(CONFIG, rounds=2, steps=24, updates=60, val_every=15, assist=0.5, learning_rate=5e-3)
    physics = make_physics("mujoco")
    group = Group(student, runs, teachers, corpus, physics, config)
    monkeypatch.setattr(dagger, "Group", lambda *_: group)

    def train(work):
        return dagger.train_group(student, runs, teachers, corpus, physics, config, work)

    straight = train(None)
    for found in straight:
        assert found.curve[-1]["train_loss"] < 0.6 * found.curve[0]["train_loss"]
    save = Rounds.save

    def only_save(self, *point):
        save(self, *point)
        raise KeyboardInterrupt

    monkeypatch.setattr(Rounds, "save", only_save)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.setattr(Rounds, "save", save)
    for found, wanted in zip(train(tmp_path), straight, strict=True):
        jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)
        assert found.curve == wanted.curve
