"""The students' update is XLA all through: it lowers on this machine for CPU, NVIDIA GPU and TPU alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from scaling.contract.normaliser import Normaliser
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.rollout import STUDENT_OBS, Frozen
from scaling.distill.update import make_init, make_optimiser, make_update
from scaling.students.config import FAMILIES, StudentConfig

PLATFORMS = ("cpu", "cuda", "tpu")
RUNS = 2
SHAPE = {"obs_dim": STUDENT_OBS, "width": 8, "depth": 1}
STUDENTS = {
    "mlp": StudentConfig("mlp", **SHAPE, history=2),
    "transformer": StudentConfig("transformer", **SHAPE, heads=2, context=4),
    "tcn": StudentConfig("tcn", **SHAPE, context=4),
    "gru": StudentConfig("gru", **SHAPE),
}
VARIANTS = {
    "plain": {},
    "auxiliary": {"auxiliary": 0.5},
    "bfloat16": {"dtype": "bfloat16"},
    "all of it": {"auxiliary": 0.5, "dtype": "bfloat16", "remat": True},
}


def test_no_family_is_left_out():
    assert set(STUDENTS) == set(FAMILIES)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", STUDENTS)
def test_an_update_lowers_for_cpu_gpu_and_tpu(family, variant):
    config, student = DaggerConfig(), dataclasses.replace(STUDENTS[family], **VARIANTS[variant])
    optimiser = make_optimiser(config, config.rate_for(student))
    keys = jax.random.split(jax.random.key(0), RUNS)
    state = jax.eval_shape(make_init(student, optimiser), keys, jnp.ones(RUNS))
    wide = jnp.ones((RUNS, STUDENT_OBS))
    frozen = Frozen(Normaliser(0 * wide, wide), jnp.ones((RUNS, 29)))
    lead = (RUNS, 3, 8)
    batch = Batch(np.ones((*lead, STUDENT_OBS), np.float32), np.zeros(lead, bool), np.ones((*lead, 29), np.float32))
    exported = export.export(make_update(student, optimiser), platforms=PLATFORMS)(state, frozen, batch)
    assert exported.platforms == PLATFORMS
    program = exported.mlir_module()
    assert "callback" not in program
    assert ("bf16" in program) == (student.dtype == "bfloat16")
    after, loss = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert loss.shape == (RUNS,)
    assert ("auxiliary" in after.params) == bool(student.auxiliary)
