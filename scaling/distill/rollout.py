"""Roll-outs of students and experts through the tracking environment: every run, slot and environment in one scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, noise_scale, observation_dim
from scaling.distill.slots import Slots, label
from scaling.experts.bank import Bank
from scaling.students import decode
from scaling.students.config import StudentConfig
from scaling.tracking.env import EnvState, Task, TrackingEnv
from scaling.tracking.reference import ClipStore

STUDENT_OBS = observation_dim(STUDENT_TERMS)


class Frozen(NamedTuple):
    """What a student needs beside its parameters, per run: the statistics of its observations and actions."""

    normaliser: Normaliser
    action_scale: Float[Array, "R 29"]


class Noise(NamedTuple):
    """Standard deviation on the bank's action, and the scale of the contract's noise on what a student sees."""

    action: Float[Array, ""]
    obs: Float[Array, ""]


class Sequences(NamedTuple):
    """N = slots x environments sequences of T frames for each run, and how their episodes went.

    `obs` is what a student sees (its terms alone, raw units, noise included), `label` the expert's action in the same
    state, from clean and privileged terms; `start` says that an episode, or the student's memory of it, begins.
    """

    obs: Float[Array, "R N T obs"]
    start: Bool[Array, "R N T"]
    label: Float[Array, "R N T 29"]
    clip: Int[Array, "R N T"]
    failed: Bool[Array, "R N T"]
    joint_error: Float[Array, "R N T"]


_TASK_AXES = Task(store=None, clips=0, weights=0, assist=None)  # type: ignore[arg-type]


def make_begin(env: TrackingEnv, envs: int) -> Callable[..., EnvState]:
    """Jitted `begin(keys [R], store, slots, assist)`: fresh episodes of uneven age in every slot."""

    def slot(key: Key[Array, ""], task: Task) -> EnvState:
        return env.reset(key, task, envs)[0]

    def begin(keys: Key[Array, "R"], store: ClipStore, slots: Slots, assist: Float[Array, ""]) -> EnvState:
        per_slot = jax.vmap(lambda key: jax.random.split(key, slots.clips.shape[1]))(keys)
        task = Task(store, slots.clips, slots.weights, assist)
        return jax.vmap(jax.vmap(slot, in_axes=(0, _TASK_AXES)), in_axes=(0, _TASK_AXES))(per_slot, task)

    return jax.jit(begin)


def make_rollout(
    env: TrackingEnv, student: StudentConfig | None, steps: int
) -> Callable[..., tuple[EnvState, Sequences]]:
    """Jitted `rollout(keys [R], store, slots, assist, bank, params, frozen, teacher [R,S,E], noise, state)`.

    Where `teacher`, and everywhere without a student, the bank acts with noise. Episodes go on from `state` and are
    given back; the student's memory starts empty. `params` and `frozen` have a leading axis of runs.
    """
    half_width = jnp.asarray(noise_scale(STUDENT_TERMS), jnp.float32)
    observe = jax.vmap(jax.vmap(env.observe, in_axes=(0, None)), in_axes=(0, None))
    step_env = jax.vmap(
        jax.vmap(env.step, in_axes=(0, _TASK_AXES, 0, 0)),
        in_axes=(0, _TASK_AXES, 0, 0),
    )

    def rollout(
        keys: Key[Array, "R"],
        store: ClipStore,
        slots: Slots,
        assist: Float[Array, ""],
        bank: Bank,
        params: Any,
        frozen: Frozen | None,
        teacher: Bool[Array, "R S E"],
        noise: Noise,
        state: EnvState,
    ) -> tuple[EnvState, Sequences]:
        task = Task(store, slots.clips, slots.weights, assist)
        runs, width, envs = teacher.shape

        def draw(keys: Array, shape: tuple[int, ...], normal: bool) -> Array:
            if normal:
                return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
            return jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))(keys)

        def act(memory: Any, seen: Array, first: Array) -> tuple[Array, Any]:
            if student is None or frozen is None:
                return jnp.zeros((runs, width, envs, 29)), memory

            def one(params: Any, normaliser: Normaliser, memory: Any, obs: Array, first: Array) -> tuple[Array, Any]:
                return decode.act(student, params, normaliser, memory, obs, first)

            action, memory = jax.vmap(one)(
                params, frozen.normaliser, memory, seen.reshape(runs, width * envs, -1), first.reshape(runs, -1)
            )
            return (action * frozen.action_scale[:, None]).reshape(runs, width, envs, -1), memory

        def body(carry: tuple[EnvState, Array, Array, Any], time: Array) -> tuple[Any, Sequences]:
            state, obs, first, memory = carry
            now = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, time)
            act_keys, obs_keys, env_keys = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(now), 1, 0)
            target = label(bank, slots, obs)
            head = obs[..., :STUDENT_OBS]
            seen = head + noise.obs * half_width * draw(obs_keys, head.shape[1:], normal=False)
            own, memory = act(memory, seen, first)
            noisy = target + noise.action * draw(act_keys, target.shape[1:], normal=True)
            action = jnp.where(teacher[..., None], noisy, own)
            slot_keys = jax.vmap(lambda key: jax.random.split(key, width))(env_keys)
            after, step = step_env(slot_keys, task, state, action)
            frame = Sequences(seen, first, target, state.clip, step.failed, step.joint_error)
            return (after, step.obs, step.done, memory), frame

        memory = () if student is None else _memory(student, runs, width * envs)
        carry = (state, observe(state, store), jnp.ones((runs, width, envs), bool), memory)
        (state, *_), frames = jax.lax.scan(body, carry, jnp.arange(steps))

        def by_sequence(x: Array) -> Array:
            return jnp.moveaxis(x.reshape(steps, runs, width * envs, *x.shape[4:]), 0, 2)

        return state, jax.tree.map(by_sequence, frames)

    return jax.jit(rollout)


def _memory(student: StudentConfig, runs: int, rows: int) -> Any:
    """Empty decoding states, stacked over runs."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (runs, *x.shape)), decode.init_state(student, rows))
