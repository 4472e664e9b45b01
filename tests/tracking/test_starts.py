"""Adaptive starts: shares, draws and counts by hand, and inside the environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.tracking import starts
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.physics import PhysicsState
from scaling.tracking.reference import frame_at

FAILURES = np.array([[0.0, 0.0, 0.3, 0.1], [0.0, 0.0, 0.0, 0.0]], np.float32)


def test_shares_by_hand():
    # each bin has .1 / 4 beside its own failures: .025, .025, .325, .125 of .5
    assert np.asarray(starts.shares(FAILURES)) == pytest.approx(np.array([[0.05, 0.05, 0.65, 0.25], [0.25] * 4]))


def test_a_longer_kernel_raises_the_bins_before_a_failure():
    # weights 1, .8, .64; beyond the end the last bin: .025 + .8 .025 + .64 .325, .025 + .8 .325 + .64 .125, ...
    wanted = np.array([0.253, 0.365, 0.505, 0.305])
    assert np.asarray(starts.shares(FAILURES, size=3)[0]) == pytest.approx(wanted / wanted.sum(), rel=1e-5)


def test_without_failures_phases_are_the_uniform_draw():
    key, row = jax.random.key(3), jnp.zeros(5000, jnp.int32)
    uniform = np.asarray(starts.phases(key, row, None))
    assert uniform == pytest.approx(np.asarray(jax.random.uniform(key, (5000,))))
    adaptive = starts.phases(key, row, jnp.asarray(starts.no_failures(2, 16)))
    assert np.asarray(adaptive) == pytest.approx(uniform, abs=2e-6)


def test_phases_follow_the_shares():
    row = jnp.arange(20_000) % 2
    phase = np.asarray(starts.phases(jax.random.key(0), row, jnp.asarray(FAILURES)))
    assert phase.min() >= 0 and phase.max() < 1
    for clip, wanted in enumerate(np.asarray(starts.shares(FAILURES))):
        share = np.bincount((phase[clip::2] * 4).astype(int), minlength=4) / 10_000
        assert share == pytest.approx(wanted, abs=0.02)
        inside = phase[clip::2] * 4 % 1
        assert inside.mean() == pytest.approx(0.5, abs=0.02)


def test_failures_are_counted_where_they_happened():
    clips, weights = jnp.array([5, 2, 5]), jnp.array([0.5, 0.5, 0.0])  # the last pads the list
    length = 110  # 100 frames to start at: bins of 25
    after = starts.count(
        jnp.asarray(np.vstack([FAILURES, [[0.0] * 4]])),
        clips,
        weights,
        clip=jnp.array([5, 5, 2, 2, 5]),
        frame=jnp.array([24, 25, 99, 108, 60]),
        length=jnp.full(5, length),
        failed=jnp.array([True, True, True, True, False]),
    )
    kept = 0.999 * FAILURES
    wanted = np.array([kept[0] + [1e-3, 1e-3, 0, 0], [0, 0, 0, 2e-3], [0, 0, 0, 0]])
    assert np.asarray(after) == pytest.approx(wanted, abs=1e-7)


def test_the_environment_starts_more_often_where_it_failed(store, echo):
    env = TrackingEnv(echo, EnvConfig(start_noise=0.0, starts="adaptive", start_bins=4))
    count = 64
    task = Task(store, jnp.array([[0, 1], [1, 0]]), jnp.full((2, 2), 0.5), jnp.zeros(()))
    axes = Task(None, 0, 0, None)
    init = jax.jit(jax.vmap(lambda key, task: env.reset(key, task, count)[0], in_axes=(0, axes)))
    step = jax.jit(jax.vmap(env.step, in_axes=(0, axes, 0, 0)))
    state = init(jax.random.split(jax.random.key(0)), task)
    assert state.failures.shape == (2, 2, 4) and not np.asarray(state.failures).any()

    # Both experts fall everywhere in the third bin of clip 0, the second expert's other row; nothing else ends.
    frame = jnp.full((2, count), int(0.6 * (store.length[0] - 10)), jnp.int32)
    state = state._replace(clip=jnp.zeros((2, count), jnp.int32), frame=frame, age=jnp.zeros_like(frame))
    sunk = PhysicsState(*frame_at(store, state.clip, frame))
    sunk = sunk._replace(qpos=sunk.qpos.at[..., : count // 2, 2].add(-0.6))
    after, out = step(
        jax.random.split(jax.random.key(1)), task, state._replace(physics=sunk), jnp.zeros((2, count, 29))
    )
    assert int(out.failed.sum()) == count and not bool(out.truncated.any())
    wanted = np.zeros((2, 2, 4))
    wanted[0, 0, 2] = wanted[1, 1, 2] = 1e-3 * (count // 2)
    assert np.asarray(after.failures) == pytest.approx(wanted, abs=1e-7)
    assert (np.asarray(after.frame[:, count // 2 :]) == np.asarray(frame[:, count // 2 :]) + 1).all()

    heavy = jnp.asarray(wanted, jnp.float32) * 1e3
    fresh = jax.vmap(lambda key, task, f: env.start(key, task, 2000, f), in_axes=(0, axes, 0))(
        jax.random.split(jax.random.key(2)), task, heavy
    )
    for expert in range(2):
        clip, frame = np.asarray(fresh.clip[expert]), np.asarray(fresh.frame[expert])
        assert (clip == 0).mean() == pytest.approx(0.5, abs=0.05)  # the clip's weight is not touched
        bins = (frame * 4 // (np.asarray(store.length)[clip] - 10))[clip == 0]
        assert (bins == 2).mean() > 0.97
        other = (frame * 4 // (np.asarray(store.length)[clip] - 10))[clip == 1]
        assert np.bincount(other, minlength=4) / len(other) == pytest.approx([0.25] * 4, abs=0.06)


@pytest.mark.parametrize(("changes", "word"), [({"starts": "hard"}, "hard"), ({"start_bins": 0}, "start_bins 0")])
def test_bad_settings_are_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        EnvConfig(**changes)
