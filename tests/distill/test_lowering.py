"""The students' update is XLA all through: it lowers on this machine for CPU, NVIDIA GPU and TPU alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from scaling.contract.normaliser import Normaliser
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.rollout import Frozen
from scaling.distill.update import make_init, make_optimiser, make_update
from scaling.students.config import StudentConfig

PLATFORMS = ("cpu", "cuda", "tpu")
RUNS, OBS = 2, 6
SHAPE = {"obs_dim": OBS, "width": 8, "depth": 1}
STUDENTS = {
    "mlp": StudentConfig("mlp", **SHAPE, history=2),
    "transformer": StudentConfig("transformer", **SHAPE, heads=2, context=4),
    "bfloat16": StudentConfig("transformer", **SHAPE, heads=2, context=4, dtype="bfloat16", remat=True),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_an_update_lowers_for_cpu_gpu_and_tpu(name):
    config, student = DaggerConfig(), STUDENTS[name]
    optimiser = make_optimiser(config, config.rate_for(student))
    keys = jax.random.split(jax.random.key(0), RUNS)
    state = jax.eval_shape(make_init(student, optimiser), keys, jnp.ones(RUNS))
    wide = jnp.ones((RUNS, OBS))
    frozen = Frozen(Normaliser(0 * wide, wide), jnp.ones((RUNS, 29)))
    lead = (RUNS, 3, 8)
    batch = Batch(np.ones((*lead, OBS), np.float32), np.zeros(lead, bool), np.ones((*lead, 29), np.float32))
    exported = export.export(make_update(student, optimiser), platforms=PLATFORMS)(state, frozen, batch)
    assert exported.platforms == PLATFORMS
    assert "callback" not in exported.mlir_module()
    after, loss = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert loss.shape == (RUNS,)
