"""The second head: its target by hand, its loss apart from the imitation's, and what training does to both."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from scaling.contract.layout import CHANGE_SCALE, STATE_DIM, entries, sensed_state
from scaling.contract.normaliser import Normaliser
from scaling.distill import update
from scaling.distill.auxiliary import change_loss, make_val_auxiliary
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.rollout import Frozen
from scaling.students.count import parameters
from tests.distill.samples import SEEN, STUDENT

WITH = dataclasses.replace(STUDENT, auxiliary=2.0)


def test_the_sensed_state_is_what_the_terms_say():
    obs = np.random.default_rng(0).normal(size=(5, SEEN))
    state = sensed_state(obs)
    assert state.shape == (5, STATE_DIM)
    np.testing.assert_array_equal(state[:, :3], obs[:, entries("gravity")])
    np.testing.assert_array_equal(
        state[:, 6:35], obs[:, entries("reference_joint_pos")] - obs[:, entries("joint_error")]
    )
    np.testing.assert_array_equal(state[:, 35:], obs[:, entries("joint_vel")])
    np.testing.assert_allclose(CHANGE_SCALE[[0, 3, 6, 35]], [0.005, 0.2, 0.02, 0.5])


def test_the_loss_is_of_the_change_until_the_next_frame_and_stops_at_episodes():
    obs = np.zeros((1, 4, SEEN), np.float32)
    obs[0, :, entries("gyro").start] = [0.0, 0.4, 0.6, 10.0]
    still = jnp.zeros((1, 4, STATE_DIM))
    # Changes of 2, 1 and 47 units in one of 64 entries; SmoothL1 of 2 is 1.5, of 1 is .5; the third is unknown.
    known = jnp.array([[True, True, False]])
    np.testing.assert_allclose(change_loss(still, obs, known), (1.5 + 0.5) / 2 / STATE_DIM, rtol=1e-6)
    right = still.at[0, :2, 3].set(jnp.array([2.0, 1.0]))
    assert float(change_loss(right, obs, known)) < 1e-9


def test_training_lowers_it_and_returns_the_imitation_alone():
    """Speeds that die away by a tenth each frame: what comes next can be seen now."""
    rng = np.random.default_rng(0)
    obs = np.zeros((1, 8, 12, SEEN), np.float32)
    for name, size in (("gyro", 2.0), ("joint_vel", 5.0)):
        first = size * rng.normal(size=(1, 8, 1, obs[..., entries(name)].shape[-1]))
        obs[..., entries(name)] = first * 0.9 ** np.arange(12)[:, None]
    start, wide = np.zeros((1, 8, 12), bool), jnp.ones((1, SEEN))
    frozen = Frozen(Normaliser(0 * wide, wide), jnp.ones((1, 29)))
    batch = Batch(obs, start, rng.normal(size=(1, 8, 12, 29)).astype(np.float32))
    none = jnp.zeros(1, jnp.int32)
    arrays = update.ValArrays(jnp.asarray(obs), jnp.asarray(start), jnp.asarray(batch.label), none, none, none)
    measure, found = make_val_auxiliary(WITH), {}
    for student in (STUDENT, WITH):
        optimiser = update.make_optimiser(DaggerConfig(updates=60, warmup=0.0), 1e-2)
        state = update.make_init(student, optimiser)(jax.random.split(jax.random.key(0), 1), np.ones(1, np.float32))
        step = update.make_update(student, optimiser)
        before = np.asarray(measure(state.params, frozen, arrays)) if student is WITH else None
        state, loss = step(state, frozen, batch)
        found[student] = np.asarray(loss)
    np.testing.assert_allclose(found[WITH], found[STUDENT], rtol=1e-5)
    for _ in range(59):
        state, _ = step(state, frozen, batch)
    assert np.asarray(measure(state.params, frozen, arrays)) < 0.5 * before
    assert np.isnan(make_val_auxiliary(STUDENT)(state.params, frozen, arrays)).all()


def test_columns_tell_it_and_none_where_there_is_none(make_group, train, straight):
    student, *_ = train(group=make_group(WITH))
    assert student.columns["val_auxiliary"] == student.curve[-1]["val_auxiliary"] > 0
    assert student.columns["params"] == parameters(STUDENT) and student.columns["params_auxiliary"] > 0
    assert straight[0].columns["val_auxiliary"] is None
    assert straight[0].columns["pretrain_hours"] == 0
