"""Training learns what a bank does, stops what diverges, and resumes as if it had never been killed."""

import os
import shutil
import signal

import jax
import numpy as np
import pytest

from scaling.cli import process
from scaling.distill import dagger
from scaling.distill.buffer import Buffer
from scaling.distill.checkpoint import Pace, Rounds
from scaling.distill.student import CIRCUMSTANCES
from scaling.errors import InputError
from scaling.record.stopping import Stopped
from tests.distill.samples import STUDENT


def lasting(columns):
    return {name: value for name, value in columns.items() if name not in CIRCUMSTANCES}


def same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=0), one.params, other.params)
        assert lasting(one.columns) == lasting(other.columns)
        assert one.curve == other.curve


def test_a_bank_that_is_a_function_of_what_is_seen_is_learned(make_group, train):
    # obs_noise 0: with it the label is not a function of what the student sees.
    group = make_group(
        rounds=6, updates=1200, val_every=200, steps=100, obs_noise=0.0, learning_rate=1e-2, weight_decay=0.0
    )
    before = np.nanmean(group.val_loss(group.start()[0].params), axis=1)
    small, whole = train(group=group)
    assert whole.columns["val_loss"] < before[1] / 3
    assert whole.columns["val_loss_own"] < before[1] / 3
    assert whole.columns["val_loss_min"] <= whole.columns["val_loss"]
    assert whole.curve[-1]["update"] == 1200
    assert whole.columns["val_loss"] < small.columns["val_loss"]  # more data, lower loss


def test_columns_count_what_was_done(straight, group, corpus):
    small, whole = (student.columns for student in straight)
    # 3 rounds of 6 sequences of 12 frames; in the first the bank acts
    assert (small["env_steps"], small["student_frames"], small["labelled_frames"]) == (216, 144, 216)
    assert small["corpus_hash"] == corpus.content_hash
    assert small["unique_frames"] == corpus.length[group.runs[0].segments[0]]
    assert whole["unique_frames"] == corpus.frames(corpus.indices("train"))
    assert whole["epochs"] == 144 / whole["unique_frames"]
    macs = 2 * 234 * 32 + 32 * 32 + 32 * 29
    assert whole["flops"] == 9 * 4 * 12 * 3 * 2 * macs
    assert [point["update"] for point in straight[0].curve] == [2, 3, 5, 6, 8, 9]
    assert [point["val_loss_own"] is None for point in straight[0].curve] == [True, False] * 3
    assert whole["val_loss_min"] == min(point["val_loss"] for point in straight[1].curve)
    best = next(p for p in straight[1].curve if p["val_loss"] == whole["val_loss_min"])
    assert whole["val_loss_min_update"] == best["update"]
    families = [whole["val_loss_squat"], whole["val_loss_arm_wave"]]
    np.testing.assert_allclose(whole["val_loss"], np.mean(families), rtol=1e-6)
    assert {small["status"], whole["status"]} == {"finished"}
    assert small["seconds"] == pytest.approx(small["acting_s"] + small["learning_s"])
    assert min(small["acting_s"], small["learning_s"]) > 0


@pytest.mark.parametrize("after", [4, 8])  # updates and rounds: at the end of the first round, within the second
def test_killed_at_a_save_and_resumed_equals_straight_through(after, train, straight, tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.distill.checkpoint._EVERY_S", 0.0)
    save = Rounds.save

    def last_save(self, number, state):
        save(self, number, state)
        if number >= after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Rounds, "save", last_save)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.setattr(Rounds, "save", save)
    [kept] = (tmp_path / "rounds").glob("state-*")
    shutil.copytree(kept, tmp_path / "rounds" / "state-0099.orbax-checkpoint-tmp")
    collected = []
    monkeypatch.setattr(Buffer, "add", lambda self, x, add=Buffer.add: (collected.append(1), add(self, x)))
    same(train(tmp_path), straight)
    assert len(collected) == 3
    same(train(tmp_path), straight)  # a finished one is read back
    dagger.forget(tmp_path)
    assert not (tmp_path / "rounds").exists()


@pytest.mark.parametrize(("what", "call"), [("step", 4), ("step", 7), ("collect", 2)])
def test_stopped_anywhere_it_saves_and_nothing_is_done_twice(what, call, train, group, straight, tmp_path, monkeypatch):
    """Updates 4 and 7 are between two points; the last save was at the round's end."""
    monkeypatch.setattr("scaling.distill.checkpoint._LOOK_S", 0.0)
    calls = {"step": [], "collect": []}

    def counted(name):
        method = getattr(group, name)

        def one(*arguments):
            calls[name].append(1)
            if name == what and len(calls[name]) == call:
                os.kill(os.getpid(), signal.SIGTERM)
            return method(*arguments)

        return one

    for name in calls:
        monkeypatch.setattr(group, name, counted(name))
    with process.watch("save"), pytest.raises(Stopped):
        train(tmp_path)
    assert len(calls[what]) == call
    same(train(tmp_path), straight)
    assert {name: len(made) for name, made in calls.items()} == {"step": 9, "collect": 3}


def test_one_looks_up_about_once_a_second():
    pace, counts = Pace(), []
    for _ in range(8):
        counts.append(pace.count)
        pace.took(pace.count, 0.05 * pace.count)
    assert counts == [1, 2, 4, 8, 16, 20, 20, 20]
    pace.took(20, 30.0)
    assert pace.count == 1


def test_checkpoints_of_another_group_are_refused(make_group, train, tmp_path):
    Rounds(tmp_path, make_group().identity())
    with pytest.raises(InputError, match="another group"):
        train(tmp_path, make_group(learning_rate=1e-4))


def poison(monkeypatch, runs):
    """From the second round on (updates 4 to 9), no label of `runs` is a number."""
    add = Buffer.add

    def spoiled(self, sequences):
        add(self, sequences)
        if self.rounds == 2:
            self._held = self._held._replace(label=self._held.label.at[np.array(runs)].set(np.nan))

    monkeypatch.setattr(Buffer, "add", spoiled)


def test_a_run_that_diverges_stops_alone(train, straight, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, [0])
    lost, other = train(tmp_path)
    assert lost.columns["status"] == "diverged between updates 3 and 5"
    assert lost.columns["val_loss"] is None
    assert lost.columns["val_loss_min_update"] in (2, 3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(lost.params))
    same([other], [straight[1]])
    told = capsys.readouterr().err
    assert "small: diverged between updates 3 and 5" in told
    with np.load(tmp_path / "not-finite-0.npz") as batch:
        assert np.isnan(batch["label"]).all()
        assert batch["obs"].shape == (4, 12, 234)


def test_when_every_run_diverges_the_user_hears_when(train, monkeypatch):
    poison(monkeypatch, [0, 1])
    with pytest.raises(InputError, match="between updates 3 and 5"):
        train()


def test_a_run_does_not_depend_on_its_company(straight, make_group, runs, train):
    """The seed alone decides a run's numbers: as large a group of other runs gives the same student."""
    swapped = make_group(STUDENT, [runs[1], runs[0]])
    whole, small = train(group=swapped)
    same([small, whole], straight)
