"""The student one control step at a time, equal to the full forward at every step of any length of episode."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from scaling.contract.normaliser import Normaliser
from scaling.students.config import StudentConfig
from scaling.students.family import KINDS, State
from scaling.students.model import Params, build


def init_state(config: StudentConfig, batch: int) -> State:
    """State of `batch` rows (environments) that have seen nothing."""
    state: State = KINDS[config.family].init_state(config, batch)
    return state


def step(
    config: StudentConfig,
    params: Params,
    state: State,
    obs: Float[Array, "B obs"],
    done: Bool[Array, "B"] | None = None,
) -> tuple[Float[Array, "B act"], State]:
    """Action for normalised `obs`, and the state that has seen it.

    `done[b]` says that `obs[b]` is the first frame of a new episode (what an auto-resetting environment returns
    together with its done flag): the row forgets before it looks. It is the forward's `start` at that frame.
    """
    out: tuple[Array, State] = build(config).apply({"params": params}, state, obs, done, method="step")  # type: ignore[assignment]
    return out


def act(
    config: StudentConfig,
    params: Params,
    normaliser: Normaliser,
    state: State,
    obs: Float[Array, "B obs"],
    done: Bool[Array, "B"] | None = None,
) -> tuple[Float[Array, "B act"], State]:
    """`step` on raw observations: what a rollout, an evaluation or an export calls at 50 Hz."""
    return step(config, params, state, normaliser(obs), done)


def unroll(
    config: StudentConfig, params: Params, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"]
) -> Float[Array, "B T act"]:
    """`model.forward` by stepping: the reference that an export or a faster decoder is compared with."""

    def body(state: State, frame: tuple[Array, Array]) -> tuple[State, Array]:
        action, state = step(config, params, state, *frame)
        return state, action

    frames = (jnp.moveaxis(obs, 1, 0), jnp.moveaxis(start, 1, 0))
    _, actions = jax.lax.scan(body, init_state(config, obs.shape[0]), frames)
    return jnp.moveaxis(actions, 0, 1)
