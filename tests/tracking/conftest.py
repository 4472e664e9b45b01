"""Two short generated clips and the physics that the tests of this room share."""

import jax.numpy as jnp
import pytest

from scaling.motion.synthetic import generate
from scaling.tracking.env import Task
from scaling.tracking.physics import CPhysics, PhysicsState
from scaling.tracking.reference import pack


@pytest.fixture(scope="session")
def clips():
    return [generate("squat", 6.0, 1), generate("turn", 5.0, 2)]


@pytest.fixture(scope="session")
def store(clips):
    return pack([clip.qpos for clip in clips])


@pytest.fixture(scope="session")
def physics():
    return CPhysics()


@pytest.fixture(scope="session")
def make_task(store):
    """The task of both clips at a strength of the harness."""
    return lambda assist=0.0: Task(store, jnp.arange(2), jnp.ones(2) / 2, jnp.asarray(assist, jnp.float32))


class Echo:
    """A physics where nothing happens but that the joints are at once where the servos are told: fast to compile."""

    name = "echo"
    variants = 4
    ground = None

    def step(self, state, ctrl, force, assist, variant):
        return PhysicsState(jnp.concatenate([state.qpos[..., :7], ctrl], axis=-1), state.qvel)


@pytest.fixture(scope="session")
def echo():
    return Echo()
