"""The part of the motion that is known: MJX without contacts and joint stops, exact and differentiable."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float
from mujoco import mjx

from scaling.robot.model import STANDARD, build_model
from scaling.tracking.physics import PhysicsState


@cache
def _model() -> tuple[Any, Any]:
    model = build_model(STANDARD)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)
    with jax.ensure_compile_time_eval():  # kept from call to call, so never a tracer of one of them
        return mjx.put_model(model, impl="jax"), mjx.make_data(model)


def free_step(state: PhysicsState, ctrl: Float[Array, "*b 29"]) -> PhysicsState:
    """The state one control step (20 ms) later of a robot that touches nothing."""
    lead = ctrl.shape[:-1]
    size = int(np.prod(lead))
    qpos, qvel, targets = (x.reshape(size, x.shape[-1]) for x in (*state, ctrl))
    after = jax.vmap(partial(_one, *_model()))(qpos, qvel, targets)
    return PhysicsState(*(x.reshape(*lead, x.shape[-1]) for x in after))


def _one(model: Any, data: Any, qpos: Array, qvel: Array, ctrl: Array) -> tuple[Array, Array]:
    data = data.replace(qpos=qpos, qvel=qvel, ctrl=ctrl, qacc_warmstart=jnp.zeros_like(qvel))
    data, _ = jax.lax.scan(lambda data, _: (mjx.step(model, data), None), data, None, length=STANDARD.substeps)
    return data.qpos, data.qvel
