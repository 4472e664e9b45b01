"""The training program is XLA all through: with MJX it lowers on this machine for CPU, NVIDIA GPU and TPU alike."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from scaling.experts.mesh import Program
from scaling.experts.ppo import PPOConfig
from scaling.motion.synthetic import generate
from scaling.robot.model import PhysicsOptions
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.physics import MjxPhysics
from scaling.tracking.reference import make_store

PLATFORMS = ("cpu", "cuda", "tpu")
CONFIG = PPOConfig(
    envs=4, unroll=2, iterations=1, minibatches=2, epochs=1, hidden=(8,), value_hidden=(8,), warm_start=0.0
)
EXPERTS = 2


def lowered(physics):
    """PPO over two experts as StableHLO for every platform; nothing is compiled."""
    qpos = generate("squat", 4.0, 0).qpos
    store = make_store(qpos, np.array([0]), np.array([len(qpos)]))
    task = Task(store, jnp.zeros((EXPERTS, 1), jnp.int32), jnp.ones((EXPERTS, 1)), jnp.zeros(()))
    program = Program(TrackingEnv(physics, CONFIG.env), CONFIG, 1)
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), EXPERTS))
    state = jax.eval_shape(program.init, keys, task)
    return export.export(jax.jit(program.advance), platforms=PLATFORMS)(state, task), state


def test_ppo_in_mjx_lowers_for_cpu_gpu_and_tpu():
    exported, state = lowered(MjxPhysics(PhysicsOptions(iterations=4, ls_iterations=4)))
    assert exported.platforms == PLATFORMS
    assert "callback" not in exported.mlir_module()  # no way back to the host
    after, metrics = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert metrics.reward.shape == (EXPERTS, 1)
