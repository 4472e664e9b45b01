"""The store of clips: its size, its place as an argument of every program, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.clip import velocities
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.reference import frame_at, make_store


def test_reference_velocity_is_that_of_the_motion_room(clips, store):
    frames = jnp.arange(0, clips[1].frames - 1, 7)
    _, qvel = frame_at(store, jnp.ones_like(frames), frames)
    wanted = velocities(clips[1].qpos, 50.0)[np.asarray(frames)]
    assert np.asarray(qvel) == pytest.approx(wanted, abs=2e-3)


def test_past_its_end_a_clip_stands_still(clips, store):
    qpos, qvel = frame_at(store, jnp.array([0]), jnp.array([10_000]))
    assert np.asarray(qpos[0]) == pytest.approx(clips[0].qpos[-1], abs=1e-5)
    assert np.abs(np.asarray(qvel)).max() == 0.0


def test_a_store_is_144_bytes_a_frame_and_8_a_clip(clips, store):
    frames = sum(clip.frames for clip in clips)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(store)) == 144 * frames + 8 * len(clips)


def test_another_store_of_one_shape_reuses_the_program_and_none_is_baked_in(store, echo):
    env, traces = TrackingEnv(echo, EnvConfig(start_noise=0.0)), []

    def steps(key, task, state, action):
        traces.append(1)
        return env.step(key, task, state, action)

    run, shown = jax.jit(steps), []
    for scale in (1.0, 0.5):
        other = store._replace(qpos=store.qpos.at[:, 7:].multiply(scale))
        task = Task(other, jnp.arange(2), jnp.ones(2) / 2, jnp.zeros(()))
        state = jax.jit(env.start, static_argnums=2)(jax.random.key(0), task, 4)
        shown.append(np.asarray(run(jax.random.key(1), task, state, jnp.zeros((4, 29)))[1].obs))
    assert len(traces) == 1 and not np.allclose(*shown)

    def constants(jaxpr):
        held = sum(np.size(value) for value in getattr(jaxpr, "consts", ()))
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        for equation in inner.eqns:
            for value in equation.params.values():
                for part in value if isinstance(value, tuple | list) else (value,):
                    if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                        held += constants(part)
        return held

    held = constants(jax.make_jaxpr(env.step)(jax.random.key(1), task, state, jnp.zeros((4, 29))))
    assert 0 < held < 2000 < store.qpos.size


@pytest.mark.parametrize(
    ("start", "length", "word"),
    [
        ([0, 50], [50, 1], r"clip 1 has 1 frames"),
        ([0, 50], [50, 51], r"clip 1 ends at frame 101 of 100"),
        ([-1], [10], "pack whole clips"),
        ([], [], "there are no clips"),
    ],
)
def test_clips_that_cannot_be_played_are_refused(start, length, word):
    with pytest.raises(InputError, match=word):
        make_store(np.zeros((100, 36)), np.array(start, int), np.array(length, int))


def test_a_clip_that_is_not_finite_is_named(clips):
    qpos = np.array(clips[0].qpos[:100])
    qpos[70, 9] = np.nan
    with pytest.raises(InputError, match=r"^clip 1, frame 20 holds a value that is not finite; leave the clip out"):
        make_store(qpos, np.array([0, 50]), np.array([50, 50]))
