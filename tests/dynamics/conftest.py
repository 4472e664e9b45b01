"""A tiny world: one clip, a few robots falling in C MuJoCo, and a network of 16 units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.dynamics.data import CollectConfig, collect, window_starts
from scaling.dynamics.model import ModelConfig, init, measure_scales
from scaling.dynamics.train import TrainConfig, train
from scaling.motion.synthetic import generate
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.physics import CPhysics
from scaling.tracking.reference import make_store

TINY = ModelConfig(width=16, depth=2, soles=False)  # the feet are tested apart: they double compile time
SHORT = TrainConfig(window=2, updates=150, batch=128, learning_rate=1e-2, optimiser="adam")
COLLECT = CollectConfig(envs=8, steps=75, noise=0.3, linger=3)


@pytest.fixture(scope="session")
def store():
    """One clip of 4 s."""
    qpos = generate("squat", 4.0, 0).qpos
    return make_store(qpos, np.array([0]), np.array([len(qpos)]))


@pytest.fixture(scope="session")
def env():
    """The true physics."""
    return TrackingEnv(CPhysics(), EnvConfig())


@pytest.fixture(scope="session")
def make_task(store):
    """assist -> the task of the one clip."""
    return lambda assist=0.0: Task(store, jnp.zeros(1, jnp.int32), jnp.ones(1), jnp.asarray(assist))


@pytest.fixture(scope="session")
def data(env, make_task):
    """600 transitions."""
    return collect(jax.random.key(3), env, make_task(), COLLECT)


@pytest.fixture(scope="session")
def dream(data):
    """An untrained model whose head is loud enough for its output to matter."""
    rows = window_starts(data, 1)
    one = jax.tree.map(lambda x: jnp.asarray(x[rows]), data)
    made = init(TINY, jax.random.key(1), measure_scales(TINY, one.before, one.ctrl, one.after))
    head = jax.tree.map(lambda x: 30.0 * x, made.params["head"])
    return made._replace(params={**made.params, "head": head})


@pytest.fixture(scope="session")
def trained(data):
    """The tiny model after its 150 updates."""
    return train(jax.random.key(0), data, SHORT, TINY)
