"""Students without experts: what they remember when imagination begins, and a training from clips to a student."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.distill.direct import DirectConfig, StudentActors, train_direct
from scaling.distill.group import RunSpec
from scaling.distill.rollout import STUDENT_OBS
from scaling.dynamics.data import Transitions
from scaling.dynamics.model import ModelConfig
from scaling.dynamics.train import TrainConfig
from scaling.errors import InputError
from scaling.experts.actor import OBS
from scaling.experts.dream_config import DreamConfig
from scaling.experts.imagine import remember
from scaling.students.config import StudentConfig
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.reference import frame_at, make_store

STUDENT = StudentConfig("transformer", STUDENT_OBS, 8, 1, heads=2, feed_forward=8, context=4)
CONFIG = DirectConfig(
    DreamConfig(
        envs=4,
        unroll=4,
        iterations=4,
        memory=12,
        head_start=0,
        warm_start=0.0,
        horizon=3,
        actor_updates=2,
        actor_batch=4,
        model=ModelConfig(width=16, depth=1, soles=False),
        model_updates=2,
        dynamics=TrainConfig(window=2, batch=8),
        env=EnvConfig(reward="absolute", start_noise=0.5),
    )
)


def test_what_is_remembered_is_what_stepping_through_it_would_leave(corpus, physics):
    """Of three frames, before the last of which a new episode began."""
    store = make_store(corpus.qpos, corpus.start, corpus.length)
    env = TrackingEnv(physics, CONFIG.dream.env)
    actors = StudentActors(STUDENT, 1.0)
    assert actors.memory == 3
    params = actors.params(actors.init(jax.random.key(0)), Normaliser(jnp.zeros(OBS), jnp.ones(OBS)))
    frames = jnp.array([[5, 6, 0], [7, 8, 9]])
    clip = jnp.array([[0, 0, 1], [2, 2, 2]])
    qpos, qvel = frame_at(store, clip, frames)
    action = 0.1 * jax.random.normal(jax.random.key(1), (2, 3, 29))
    ends = jnp.array([[False, True, False], [False, False, False]])
    past = Transitions(qpos, qvel, action, action, qpos, qvel, ends, ends, clip, frames)
    task = Task(store, jnp.zeros((1,), jnp.int32), jnp.ones((1,)), jnp.zeros(()))
    found = remember(env, actors.policy, params, task, past)
    for row, since in ((0, 2), (1, 0)):  # the first row remembers its last frame alone
        memory = actors.policy.init(1)
        for time in range(since, 3):
            step = jax.tree.map(lambda x: x[row : row + 1, time], past)  # noqa: B023
            state = env.start(jax.random.key(0), task, 1)._replace(
                physics=step.before, clip=step.clip, frame=step.frame, last_action=step.last_action
            )
            _, memory = actors.policy.act(params, memory, env.observe(state, store), jnp.array([time == since]))
        obs = jax.random.normal(jax.random.key(2), (1, OBS))
        mine = jax.tree.map(lambda x: x[row : row + 1] if x.ndim else x, found)  # noqa: B023
        no = jnp.zeros((1,), bool)
        wanted, got = (actors.policy.act(params, one, obs, no)[0] for one in (memory, mine))
        np.testing.assert_allclose(got, wanted, atol=1e-6)
        fresh = actors.policy.act(params, actors.policy.init(1), obs, ~no)[0]
        assert float(jnp.abs(fresh - wanted).max()) > 1e-5  # or the comparison could not fail


def test_a_training_makes_a_student_that_can_be_played_and_goes_on_where_it_stopped(corpus, physics, tmp_path):
    train = corpus.indices("train")
    runs = [RunSpec("one", train, 0), RunSpec("two", train, 1)]
    heard = []

    def kept(run, student):
        heard.append(run.name)
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_direct(STUDENT, runs, corpus, physics, CONFIG, tmp_path, kept)
    students = train_direct(STUDENT, runs, corpus, physics, CONFIG, tmp_path)
    assert heard == ["one", "two"]
    for student in students:
        assert student.columns["status"] == "finished"
        assert student.columns["env_steps"] == 4 * 4 * 4 and student.columns["updates"] == 8
        assert "val_loss" not in student.columns
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(student.params))
    head = [student.params["head"]["kernel"] for student in students]
    assert np.abs(head[0] - head[1]).max() > 1e-4
    assert all((student.action_scale == 1.0).all() for student in students)


def test_what_cannot_be_trained_on_is_refused(corpus, physics, tmp_path):
    val = corpus.indices("val")
    with pytest.raises(InputError, match="must be train segments"):
        train_direct(STUDENT, [RunSpec("bad", val, 0)], corpus, physics, CONFIG, tmp_path)
    long = dataclasses.replace(CONFIG, dream=dataclasses.replace(CONFIG.dream, horizon=400, memory=400))
    with pytest.raises(InputError, match="longer than any clip"):
        train_direct(STUDENT, [RunSpec("x", corpus.indices("train"), 0)], corpus, physics, long, tmp_path)
    with pytest.raises(ValueError, match="arms"):
        DirectConfig(arms=())
