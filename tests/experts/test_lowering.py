"""The training program is XLA all through: with MJX it lowers on this machine for CPU, NVIDIA GPU and TPU alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from scaling.dynamics.model import ModelConfig
from scaling.dynamics.train import TrainConfig
from scaling.experts.dream_config import DreamConfig
from scaling.experts.mesh import Program
from scaling.experts.ppo import PPOConfig
from scaling.motion.synthetic import generate
from scaling.robot.model import PhysicsOptions
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.physics import MjxPhysics
from scaling.tracking.reference import make_store

PLATFORMS = ("cpu", "cuda", "tpu")
PPO = PPOConfig(envs=4, unroll=2, iterations=1, minibatches=2, epochs=1, hidden=(8,), value_hidden=(8,), warm_start=0.0)
DREAM = DreamConfig(
    envs=4, unroll=2, iterations=1, memory=4, hidden=(8,), warm_start=0.0, horizon=2, actor_updates=1, actor_batch=4,
    model=ModelConfig(8, 1), model_updates=1, dynamics=TrainConfig(window=2, batch=4), optimiser="muon",
)  # fmt: skip
EXPERTS = 2


def lowered(physics, config):
    """A recipe over two experts as StableHLO for every platform; nothing is compiled."""
    qpos = generate("squat", 4.0, 0).qpos
    store = make_store(qpos, np.array([0]), np.array([len(qpos)]))
    task = Task(store, jnp.zeros((EXPERTS, 1), jnp.int32), jnp.ones((EXPERTS, 1)), jnp.zeros(()))
    program = Program(TrackingEnv(physics, config.env), config, 1)
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), EXPERTS))
    state = jax.eval_shape(program.init, keys, task)
    return export.export(jax.jit(program.advance), platforms=PLATFORMS)(state, task), state


@pytest.mark.parametrize("config", [PPO, DREAM], ids=["ppo", "dream"])
def test_training_in_mjx_lowers_for_cpu_gpu_and_tpu(config):
    exported, state = lowered(MjxPhysics(PhysicsOptions(iterations=4, ls_iterations=4)), config)
    assert exported.platforms == PLATFORMS
    assert "callback" not in exported.mlir_module()  # no way back to the host
    after, metrics = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert metrics.reward.shape == (EXPERTS, 1)
