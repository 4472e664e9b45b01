"""Pretraining on reference motion: which frames, what is seen of them, what is learned, and how a student takes it."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from scaling.cli import process
from scaling.contract.layout import entries, sensed_state
from scaling.contract.normaliser import Normaliser
from scaling.distill import pretrain
from scaling.distill.pretrain import SILENT, PretrainConfig
from scaling.errors import InputError
from scaling.record.stopping import Stopped
from scaling.students import model
from scaling.students.ladder import ladder
from tests.distill.samples import SEEN, STUDENT

CONFIG = PretrainConfig(hours=0.004, updates=120, batch=8, steps=16, learning_rate=3e-3)
FORWARD = jax.jit(model.forward_both, static_argnums=0)


@pytest.fixture(scope="module")
def trunks(corpus):
    """Two seeds of the MLP."""
    return pretrain.pretrain(STUDENT, corpus, CONFIG, (5, 6))


def test_stopped_it_goes_on_to_the_very_same_trunks(trunks, corpus, tmp_path, monkeypatch, capsys):
    """The signal comes in the first call and, after that is done, in the second: each is saved and none done again."""
    windows, calls, programs = iter((0, 1)), [], pretrain._programs

    def signalled(*arguments):
        begin, advance = programs(*arguments)

        def one(*state):
            calls.append(1)
            if next(windows, None) is not None:
                os.kill(os.getpid(), signal.SIGTERM)
            return advance(*state)

        return begin, one

    monkeypatch.setattr(pretrain, "_programs", signalled)
    for _ in range(2):
        with process.watch("save"), pytest.raises(Stopped):
            pretrain.pretrain(STUDENT, corpus, CONFIG, (5, 6), work=tmp_path)
    resumed = pretrain.pretrain(STUDENT, corpus, CONFIG, (5, 6), work=tmp_path)
    assert len(calls) == 3
    assert "resuming from update 100" in capsys.readouterr().err
    for one, other in zip(resumed, trunks, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
        assert one.columns == other.columns and one.curve == other.curve
    with pytest.raises(InputError, match="another group"):
        pretrain.pretrain(STUDENT, corpus, CONFIG, (5, 7), work=tmp_path)


def test_a_larger_network_does_fewer_updates_in_a_call():
    assert pretrain.chunk_of(STUDENT, CONFIG, 2) == 50
    large = ladder("transformer", "B", SEEN)
    assert 1 <= pretrain.chunk_of(large, PretrainConfig(hours=1.0), 1) < 10


def test_a_loss_that_is_no_number_is_told_with_its_seed_and_updates(corpus):
    with pytest.raises(InputError, match="between updates 0 and 50 the loss of seed 5"):
        pretrain.pretrain(STUDENT, corpus, dataclasses.replace(CONFIG, learning_rate=1e30), (5,))


def test_hours_are_exact_nested_and_of_the_training_split(corpus):
    train = corpus.indices("train")
    spans = {}
    for hours in (0.002, 0.004):
        store = pretrain.choose(corpus, hours, 0)
        assert np.asarray(store.length).sum() == hours * 3600 * 50
        assert np.isin(np.asarray(store.start), corpus.start[train]).all()
        pairs = zip(np.asarray(store.start), np.asarray(store.length), strict=True)
        spans[hours] = {int(start) + frame for start, count in pairs for frame in range(count)}
    assert spans[0.002] < spans[0.004]
    with pytest.raises(InputError, match="training clips come to"):
        pretrain.choose(corpus, 1.0, 0)


def test_a_perfect_follower_senses_the_reference(corpus):
    store = pretrain.choose(corpus, 0.004, 0)
    start = int(store.start[0])
    obs = np.asarray(jax.jit(pretrain.follower)(store, np.zeros(4, int), np.arange(4)))
    state = sensed_state(obs)
    qpos = corpus.qpos[start : start + 5]
    np.testing.assert_allclose(state[:, 6:35], qpos[:4, 7:], atol=1e-6)
    np.testing.assert_allclose(state[:, 35:], np.diff(qpos[:, 7:], axis=0) * 50, atol=1e-4)
    for name in ("joint_error", "last_action", "orientation_error"):
        np.testing.assert_allclose(obs[:, entries(name)], 0, atol=1e-3)


def test_the_next_frame_is_predicted_better_than_by_standing_still(trunks):
    for trunk in trunks:
        assert 0 < trunk.columns["pretrain_loss"] < 0.8 * trunk.columns["pretrain_loss_still"]
        assert trunk.curve[-1]["update"] == CONFIG.updates
        assert trunk.curve[-1]["train_loss"] < trunk.curve[0]["train_loss"]
    assert trunks[0].columns["pretrain_loss"] != trunks[1].columns["pretrain_loss"]


def test_the_future_is_hidden(trunks, corpus):
    """The terms that show the reference ahead, and those that are silent here, have no say."""
    trunk = trunks[0]
    fresh = model.init(trunk.config, jax.random.fold_in(jax.random.key(5), np.uint32(0)))
    learned, initial = (
        np.asarray(x["embed"]["kernel"]).reshape(STUDENT.history, SEEN, -1) for x in (trunk.params, fresh)
    )
    silent = np.zeros(SEEN, bool)
    for name in SILENT:
        silent[entries(name)] = True
    np.testing.assert_allclose(learned[:, silent], initial[:, silent], rtol=1e-3)  # weight decay alone
    assert np.abs(learned[:, ~silent] - initial[:, ~silent]).max() > 1e-2
    np.testing.assert_array_equal(trunk.params["head"]["kernel"], fresh["head"]["kernel"])


@pytest.mark.parametrize("look_ahead", [(5, 10), ()])
def test_a_trunk_means_the_same_under_other_statistics(look_ahead):
    config = dataclasses.replace(STUDENT, look_ahead=look_ahead, auxiliary=0.5)
    rng = np.random.default_rng(0)

    def statistics():
        mean, std = 0.1 * rng.normal(size=SEEN), rng.uniform(0.5, 2.0, size=SEEN)  # nothing is clipped
        for name in SILENT:
            mean[entries(name)] = 0
        return Normaliser(mean.astype(np.float32), std.astype(np.float32))

    old, new = statistics(), statistics()
    params = jax.tree.map(np.asarray, model.init(config, jax.random.key(0)))
    params["auxiliary"] = jax.tree.map(lambda x: x + 0.1, params["auxiliary"])
    trunk = pretrain.Student(config, params, old, np.ones(29, np.float32))
    moved = pretrain.transplanted(params, trunk, config, new)
    obs = rng.normal(size=(2, 6, SEEN)).astype(np.float32)
    for name in SILENT:
        obs[..., entries(name)] = 0
    (_, before), (_, after) = FORWARD(config, params, old(obs)), FORWARD(config, moved, new(obs))
    np.testing.assert_allclose(after, before, atol=2e-5)
    assert np.abs(before - np.asarray(FORWARD(config, params, new(obs))[1])).max() > 1e-2
    assert np.abs(np.asarray(moved["embed"]["kernel"]) - params["embed"]["kernel"]).max() > 0.1
    without = pretrain.transplanted(params, trunk, dataclasses.replace(config, auxiliary=0.0), new)
    assert set(params) - set(without) <= {"auxiliary"}


def test_runs_begin_with_the_trunk_of_their_own(make_group, group, runs, trunks):
    given = make_group(runs=[dataclasses.replace(runs[0], pretrained=trunks[0]), runs[1]])
    assert given.identity() != group.identity()
    begun, plain = given.start()[0].params, group.start()[0].params
    want = pretrain.transplanted(
        jax.tree.map(lambda x: np.asarray(x[0]), plain),
        trunks[0],
        STUDENT,
        jax.tree.map(lambda x: np.asarray(x[0]), group.frozen.normaliser),
    )
    for name in plain:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-6), begun[name], want[name])
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), begun[name], plain[name])
    # The seed's own action head, whichever trunk: the same numbers are drawn.
    np.testing.assert_allclose(begun["head"]["kernel"][0], trunks[0].params["head"]["kernel"], rtol=1e-6)


def test_another_shape_is_refused(trunks):
    wide = dataclasses.replace(STUDENT, width=64)
    with pytest.raises(ValueError, match="shape"):
        pretrain.transplanted({}, trunks[0], wide, trunks[0].normaliser)


@pytest.mark.parametrize(("change", "said"), [({"hours": -1.0}, "hours -1"), ({"steps": 2}, "steps 2")])
def test_a_bad_figure_is_named(change, said):
    with pytest.raises(ValueError, match=said):
        PretrainConfig(**change)
