"""The environment: resets, references, rewards, terminations and scores do what their tables say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.robot.g1 import standing_qpos
from scaling.robot.rotations import from_rotation_vector, quat_mul
from scaling.tracking.assist import harness_force
from scaling.tracking.env import EnvConfig, TrackingEnv
from scaling.tracking.errors import tracking_errors
from scaling.tracking.evaluate import OPEN_LOOP, Trace, make_player, random_starts, scores, whole_clips
from scaling.tracking.intervals import bootstrap_mean, wilson
from scaling.tracking.physics import PhysicsState
from scaling.tracking.reference import frame_at


@pytest.fixture(scope="module")
def env(physics):
    return TrackingEnv(physics, EnvConfig(start_noise=0.0))


@pytest.fixture(scope="module")
def step_of(env):
    """`env.step` of 32 environments, compiled once for the module."""
    return jax.jit(env.step)


def test_auto_reset_redraws_clip_and_phase_and_physics(make_task, store, env, step_of):
    task = make_task()
    state, _ = env.reset(jax.random.key(0), task, 32)
    fallen = state.physics.qpos.at[:, 2].add(-0.6)
    state = state._replace(physics=PhysicsState(fallen, state.physics.qvel), clip=jnp.zeros_like(state.clip))
    after, step = step_of(jax.random.key(1), task, state, jnp.zeros((32, 29)))
    assert bool(step.failed.all()) and bool(step.done.all())
    assert 4 < int((after.clip == 1).sum()) < 28  # was 0 everywhere
    assert len(np.unique(np.asarray(after.frame))) > 10
    assert int(after.age.max()) == 0
    qpos, _ = frame_at(store, after.clip, after.frame)
    assert np.asarray(after.physics.qpos) == pytest.approx(np.asarray(qpos), abs=1e-5)
    assert np.asarray(step.obs) == pytest.approx(np.asarray(env.observe(after, store)), abs=1e-5)


def test_an_episode_that_goes_on_is_not_touched_by_the_reset(make_task, store, env, step_of):
    task = make_task(0.5)
    state = env.start(jax.random.key(3), task, 32)
    state = state._replace(frame=jnp.full(32, 20), clip=jnp.zeros(32, jnp.int32))
    state = state._replace(physics=PhysicsState(*frame_at(store, state.clip, state.frame)))
    after, step = step_of(jax.random.key(1), task, state, jnp.zeros((32, 29)))
    assert not bool(step.done.any())
    assert (np.asarray(after.frame) == 21).all() and (np.asarray(after.age) == 1).all()


def test_a_clip_ends_in_truncation_not_failure(make_task, store, env, step_of):
    task = make_task(1.0)
    state = env.start(jax.random.key(3), task, 32)
    last = store.length[state.clip] - 2
    state = state._replace(frame=last, physics=PhysicsState(*frame_at(store, state.clip, last)))
    _, step = step_of(jax.random.key(1), task, state, jnp.zeros((32, 29)))
    assert bool(step.truncated.all()) and not bool(step.failed.any())


def test_a_diverged_robot_fails_and_starts_again(make_task, store, env, step_of):
    task = make_task()
    state, _ = env.reset(jax.random.key(0), task, 32)
    state = state._replace(physics=PhysicsState(state.physics.qpos, state.physics.qvel.at[0, 3].set(jnp.nan)))
    after, step = step_of(jax.random.key(1), task, state, jnp.zeros((32, 29)))
    assert bool(step.failed[0])
    assert bool(jnp.isfinite(after.physics.qpos).all()) and bool(jnp.isfinite(step.reward).all())
    assert bool(jnp.isfinite(step.obs).all())


def test_harness_holds_open_loop_playback_up(store, physics):
    play = make_player(physics, OPEN_LOOP)
    starts = random_starts(store, np.arange(2), 16, 60, seed=0)
    free, held = (scores(play(0.0, store, starts, jnp.asarray(a, jnp.float32), 60)) for a in (0.0, 1.0))
    assert held.seconds.mean() > 1.2 * free.seconds.mean()


def test_harness_pushes_nothing_on_the_reference_at_rest():
    qpos = jnp.asarray(standing_qpos(), jnp.float32)[None]
    assert float(jnp.abs(harness_force(jnp.ones(1), qpos, qpos, jnp.zeros((1, 35)))).max()) < 1e-3


def test_errors_by_hand():
    qpos = jnp.asarray(standing_qpos(), jnp.float32)[None]
    turn = from_rotation_vector(jnp.array([[0.0, 0.0, 0.3]]))
    moved = qpos.at[:, :3].add(jnp.array([0.3, 0.4, 0.1]))
    moved = moved.at[:, 3:7].set(quat_mul(turn, qpos[:, 3:7]))
    moved = moved.at[:, 7].add(0.2)
    zero = jnp.zeros((1, 35))
    errors = tracking_errors(moved, zero, qpos, zero)
    assert float(errors.pelvis_height[0]) == pytest.approx(0.1, abs=1e-5)
    assert float(errors.torso_angle[0]) == pytest.approx(0.3, abs=1e-4)
    assert float(errors.joint_position[0, 0]) == pytest.approx(0.2, abs=1e-5)
    # heading and xy do not count in the relative errors, the left leg's swing does
    same = tracking_errors(moved.at[:, 7].add(-0.2), zero, qpos, zero)
    assert float(same.local_position.max()) < 1e-5 and float(jnp.abs(same.body_turn).max()) < 2e-3
    assert float(errors.local_position[0, 3]) > 0.05 > float(errors.local_position[0, 6])


def test_scores_of_a_perfect_and_a_failing_episode():
    ones = jnp.ones((10, 2))
    failed = jnp.zeros((10, 2), bool).at[4:, 1].set(True)
    trace = Trace(ones.astype(bool), failed, 0.1 * ones, ones, 0.05 * ones, ones, ones, jnp.zeros((10, 2, 36)))
    result = scores(trace)
    assert result.success.tolist() == [True, False]
    assert result.seconds == pytest.approx([0.2, 0.08])
    assert result.mpjpe_l_mm == pytest.approx([50.0, 50.0])


def test_starts_leave_room_and_whole_clips_run_to_the_end(store):
    starts = random_starts(store, np.arange(2), 50, 100, seed=1)
    end = np.asarray(starts.frame) + np.asarray(starts.steps)
    assert (end <= np.asarray(store.length)[np.asarray(starts.clip)] - 1).all()
    assert (np.asarray(starts.steps) == 100).all()
    assert np.asarray(whole_clips(store, np.arange(2)).steps).tolist() == (np.asarray(store.length) - 1).tolist()


def test_wilson_and_bootstrap_against_known_values():
    result = wilson(np.array([True] * 8 + [False] * 2))
    assert (result.low, result.high) == pytest.approx((0.4902, 0.9433), abs=2e-4)
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    mean = bootstrap_mean(values)
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert np.isnan(bootstrap_mean(np.array([np.nan])).value)
