"""The known part of the motion: against C MuJoCo without contacts, and what is left to learn."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.dynamics.gray import free_step
from scaling.dynamics.model import ModelConfig, init, measure_scales, step
from scaling.robot.g1 import KNEES_BENT_JOINTS
from scaling.robot.model import STANDARD, build_model
from scaling.tracking.physics import PhysicsState


def states(count=4):
    """Robots anywhere in the air, moving."""
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(count, 4))
    qpos = np.concatenate(
        [
            rng.normal(size=(count, 3)) + np.array([0, 0, 3]),
            quat / np.linalg.norm(quat, axis=1, keepdims=True),
            KNEES_BENT_JOINTS + 0.1 * rng.normal(size=(count, 29)),
        ],
        axis=1,
    )
    qvel = rng.normal(size=(count, 35))
    ctrl = KNEES_BENT_JOINTS + 0.1 * rng.normal(size=(count, 29))
    return PhysicsState(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32)), jnp.asarray(ctrl, jnp.float32)


@pytest.mark.slow
def test_it_is_mujoco_without_contacts_and_all_of_what_a_flying_robot_does():
    state, ctrl = states()
    config = ModelConfig(width=8, depth=1, soles=False, gray=True)

    @jax.jit  # one program: MJX takes long to compile
    def everything(state, ctrl):
        after = free_step(state, ctrl)
        scales = measure_scales(config, state, ctrl, after)
        return after, scales, step(config, init(config, jax.random.key(0), scales), state, ctrl)

    after, scales, guess = everything(state, ctrl)
    model = build_model()
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)
    data = mujoco.MjData(model)
    for row in range(len(ctrl)):
        data.qpos[:], data.qvel[:], data.ctrl[:] = state.qpos[row], state.qvel[row], ctrl[row]
        mujoco.mj_step(model, data, STANDARD.substeps)
        np.testing.assert_allclose(after.qpos[row], data.qpos, atol=1e-4)
        np.testing.assert_allclose(after.qvel[row], data.qvel, atol=3e-3)
    assert float(jnp.abs(scales.change_mean).max()) < 1e-4  # nothing is left to learn
    np.testing.assert_allclose(guess.qpos, after.qpos, atol=1e-4)
