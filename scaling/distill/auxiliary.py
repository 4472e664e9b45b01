"""The second head's loss: how the state that the robot senses changes until the next frame, beside the action."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from scaling.contract.layout import CHANGE_SCALE, sensed_state
from scaling.distill.loss import imitation_loss, smooth_l1
from scaling.distill.rollout import Frozen
from scaling.students import model
from scaling.students.config import StudentConfig


def change_loss(
    change: Float[Array, "B T 64"], obs: Float[Array, "B T obs"], known: Bool[Array, "B T-1"]
) -> Float[Array, ""]:
    """SmoothL1 between `change` and the change of the sensed state from each frame to the next in units of
    `CHANGE_SCALE`; mean over the frames whose next one is `known`. `obs` is raw.
    """
    state = sensed_state(obs) / CHANGE_SCALE
    loss = smooth_l1(change[:, :-1], state[:, 1:] - state[:, :-1])
    return jnp.sum(jnp.where(known, loss, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def objective(
    student: StudentConfig,
    params: Any,
    frozen: Frozen,
    obs: Float[Array, "B T obs"],
    start: Bool[Array, "B T"],
    label: Float[Array, "B T 29"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What training minimises, and the imitation's part of it (all of it without a second head)."""
    normaliser, scale = frozen.normaliser, frozen.action_scale
    if not student.auxiliary:
        loss = jnp.mean(imitation_loss(student, params, normaliser, scale, obs, start, label))
        return loss, loss
    action, change = model.forward_both(student, params, normaliser(obs), start)
    loss = jnp.mean(smooth_l1(action, label / scale))
    return loss + student.auxiliary * change_loss(change, obs, ~start[:, 1:]), loss


def make_val_auxiliary(student: StudentConfig) -> Callable[..., Float[Array, "R"]]:
    """Jitted `val(params, frozen, arrays)`: the second head's loss on each run's validation set; NaN without one."""

    def one(run: tuple[Any, Frozen, Array], arrays: Any) -> Float[Array, ""]:
        params, frozen, chosen = run
        obs, start = arrays.obs[chosen], arrays.start[chosen]
        _, change = model.forward_both(student, params, frozen.normaliser(obs), start)
        return change_loss(change, obs, ~start[:, 1:])

    def val(params: Any, frozen: Frozen, arrays: Any) -> Float[Array, "R"]:
        if not student.auxiliary:
            return jnp.full(arrays.chosen.shape, jnp.nan)
        return jax.lax.map(lambda run: one(run, arrays), (params, frozen, arrays.chosen))

    return jax.jit(val)
