"""The compiled pieces of a group's training: fresh students, one update of every run, and their validation loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.distill.auxiliary import objective
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.loss import by_family, imitation_loss
from scaling.distill.mesh import Layout
from scaling.distill.rollout import RUN_ONCE, Frozen
from scaling.students import model
from scaling.students.config import StudentConfig


class TrainState(NamedTuple):
    """R students in training. A run whose loss or gradient was not finite is no longer `alive` and changes no more.

    `rate` multiplies the schedule's learning rate, run by run.
    """

    params: Any
    optimiser: optax.OptState
    alive: Bool[Array, "R"]
    rate: Float[Array, "R"]


class ValArrays(NamedTuple):
    """Frozen sequences of B validation sets; `segment` numbers the G `val` segments, `family` those of the families."""

    obs: Float[Array, "B N T obs"]
    start: Bool[Array, "B N T"]
    label: Float[Array, "B N T 29"]
    segment: Int[Array, "B N"]
    family: Int[Array, "G"]
    chosen: Int[Array, "R"]  # which of the B sets each run is measured on


def make_optimiser(config: DaggerConfig, peak: float) -> optax.GradientTransformation:
    """AdamW under a gradient clip; the rate warms up to `peak` and then falls along a cosine to a hundredth of it, over
    the budget of updates.
    """
    warm = max(1, round(config.warmup * config.updates))
    rate = optax.warmup_cosine_decay_schedule(
        0.0 if warm > 1 else peak, peak, warm, max(config.updates, warm + 1), 0.01 * peak
    )
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adamw(rate, weight_decay=config.weight_decay)
    )


def make_init(student: StudentConfig, optimiser: optax.GradientTransformation) -> Callable[..., TrainState]:
    """Jitted `init(keys [R], rates [R])`."""

    def init(keys: Key[Array, "R"], rates: Float[Array, "R"]) -> TrainState:
        params = jax.vmap(lambda key: model.init(student, key))(keys)
        return TrainState(params, jax.vmap(optimiser.init)(params), jnp.ones(keys.shape, bool), rates)

    return jax.jit(init, compiler_options=RUN_ONCE)


def make_update(
    student: StudentConfig, optimiser: optax.GradientTransformation, layout: Layout | None = None
) -> Callable[..., tuple[TrainState, Float[Array, "R"]]]:
    """Jitted `update(state, frozen, batch)`: a step of every run on its own batch, and the imitation losses before it.

    A step whose losses or gradient are not finite is not taken and stops its run; it tells NaN.

    The arguments lie as `layout` places them, and so do the students that come back.
    """

    def one(state: TrainState, frozen: Frozen, batch: Batch) -> tuple[TrainState, Float[Array, ""]]:
        obs, start, label = map(jnp.asarray, batch)

        def loss_of(params: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
            return objective(student, params, frozen, obs, start, label)

        (whole, loss), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        healthy = state.alive & jnp.isfinite(whole) & jnp.isfinite(optax.tree.norm(grads))

        def step() -> tuple[Any, optax.OptState]:
            updates, after = optimiser.update(grads, state.optimiser, state.params)
            # AdamW's step, weight decay included, is linear in its rate.
            updates = jax.tree.map(lambda x: state.rate * x, updates)
            return optax.apply_updates(state.params, updates), after

        params, after = jax.lax.cond(healthy, step, lambda: (state.params, state.optimiser))
        told = jnp.where(state.alive & ~healthy, jnp.nan, loss)  # whatever it was that stopped the run
        return TrainState(params, after, healthy, state.rate), told

    def update(state: TrainState, frozen: Frozen, batch: Batch) -> tuple[TrainState, Float[Array, "R"]]:
        found: tuple[TrainState, Array] = over_runs(one)(state, frozen, batch)
        return found if layout is None else layout.fixed(found)

    return jax.jit(update, donate_argnums=0)


def over_runs(one: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap(one)`, but of a single run `one` itself: a product is faster than a batch of one product."""

    def every(*arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] > 1:
            return jax.vmap(one)(*arguments)
        return jax.tree.map(lambda x: x[None], one(*jax.tree.map(lambda x: x[0], arguments)))

    return every


def make_val(student: StudentConfig, families: int) -> Callable[..., Float[Array, "R F"]]:
    """Jitted `val(params, frozen, arrays)`: each run's loss by family on its validation set, one run at a time."""

    def val(params: Any, frozen: Frozen, arrays: ValArrays) -> Float[Array, "R F"]:
        def one(run: tuple[Any, Frozen, Array]) -> Float[Array, "F"]:
            params, frozen, chosen = run
            obs, start, label, segment = (x[chosen] for x in arrays[:4])
            loss = imitation_loss(student, params, frozen.normaliser, frozen.action_scale, obs, start, label)
            return by_family(loss, jnp.broadcast_to(segment[:, None], loss.shape), arrays.family, families)

        return jax.lax.map(one, (params, frozen, arrays.chosen))

    return jax.jit(val)


def make_own(families: int) -> Callable[..., Float[Array, "R F"]]:
    """Jitted `own(loss [R,N,T], segment [R,N,T], family [G])`: the same mean over a student's own states."""

    def own(loss: Array, segment: Array, family: Array) -> Array:
        return jax.vmap(lambda a, b: by_family(a, b, family, families))(loss, segment)

    return jax.jit(own)
