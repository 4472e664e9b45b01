"""Learning rates: by width where the rule says so, and run by run in one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.distill import update as update_module
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.rollout import Frozen
from scaling.distill.update import make_init, make_optimiser, make_update, objective
from scaling.record.hashing import content_hash
from scaling.students.config import StudentConfig

OBS = 5
STUDENT = StudentConfig("mlp", OBS, width=8, depth=1, history=1)
CONFIG = DaggerConfig(rounds=1, updates=6, batch=3, warmup=0.0, learning_rate=0.01, rate_rule="fixed")


def trained(config, rates):
    """Parameters of one student for each rate after six updates on the same noise."""
    runs, rng = len(rates), np.random.default_rng(0)
    optimiser = make_optimiser(config, config.rate_for(STUDENT))
    keys = jax.random.wrap_key_data(np.zeros((runs, 2), np.uint32))
    state = make_init(STUDENT, optimiser)(keys, np.array(rates, np.float32))
    update, wide = make_update(STUDENT, optimiser), np.ones((runs, OBS), np.float32)
    frozen = Frozen(Normaliser(0 * wide, wide), np.ones((runs, 29), np.float32))
    for _ in range(6):
        obs, label = (np.stack([rng.normal(size=(3, 4, d)).astype(np.float32)] * runs) for d in (OBS, 29))
        state, _ = update(state, frozen, Batch(obs, np.zeros((runs, 3, 4), bool), label))
    return [jax.tree.map(lambda x, run=run: np.asarray(x[run]), state.params) for run in range(runs)]


def test_a_runs_own_rate_is_the_rate_of_a_group_trained_at_it():
    plain, twice = trained(CONFIG, [1.0, 2.0])
    [wanted] = trained(dataclasses.replace(CONFIG, learning_rate=0.02), [1.0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), twice, wanted)
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), twice, plain))) > 1e-3


def test_by_width_the_rate_falls_as_the_student_widens():
    by_width = dataclasses.replace(CONFIG, rate_rule="width", rate_width=16)
    assert CONFIG.rate_for(STUDENT) == 0.01
    assert by_width.rate_for(STUDENT) == pytest.approx(0.02)
    assert by_width.rate_for(dataclasses.replace(STUDENT, width=64)) == pytest.approx(0.0025)


def test_figures_that_came_later_leave_old_hashes_alone():
    names = ("aggregation", "rate_rule", "rate_width")
    earlier = [field.name for field in dataclasses.fields(CONFIG) if field.name not in names]
    before = dataclasses.make_dataclass("DaggerConfig", earlier)
    old = before(*(getattr(CONFIG, name) for name in earlier))
    assert content_hash(old) == content_hash(CONFIG)
    assert content_hash(dataclasses.replace(CONFIG, aggregation="on_policy")) != content_hash(CONFIG)


def test_a_step_that_is_not_taken_tells_so_even_where_the_imitation_loss_is_a_number(monkeypatch):
    """What else is learned (a second head) is no number where labels are large."""

    def spoiled(student, params, frozen, obs, start, label):
        whole, loss = objective(student, params, frozen, obs, start, label)
        return whole + jnp.where(jnp.abs(label).max() > 1e3, jnp.nan, 0.0), loss

    monkeypatch.setattr(update_module, "objective", spoiled)
    optimiser = make_optimiser(CONFIG, 0.01)
    state = make_init(STUDENT, optimiser)(jax.random.split(jax.random.key(0), 2), np.ones(2, np.float32))
    update, wide = make_update(STUDENT, optimiser), np.ones((2, OBS), np.float32)
    frozen = Frozen(Normaliser(0 * wide, wide), np.ones((2, 29), np.float32))
    rng = np.random.default_rng(0)
    obs, label = (rng.normal(size=(2, 3, 4, d)).astype(np.float32) for d in (OBS, 29))
    label[0] *= 1e4
    before = jax.tree.map(np.asarray, state.params)
    batch = Batch(obs, np.zeros((2, 3, 4), bool), label)
    state, told = update(state, frozen, batch)
    assert np.isnan(told[0]) and np.isfinite(told[1])
    assert np.asarray(state.alive).tolist() == [False, True]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), state.params, before)
    state, told = update(state, frozen, batch._replace(label=label / 1e4))
    assert np.isfinite(told).all(), "a run that has stopped has a loss like any other"
