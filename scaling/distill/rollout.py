"""Roll-outs of students and experts through the tracking environment: every run, slot and environment at once.

A control step is two compiled programs: acting (which knows the student and the bank) and the world (which knows
neither). XLA needs ten times as long for the world as for a student, so all students of a study share its program; one
scan over both would have it compiled again for each.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, noise_scale, observation_dim
from scaling.distill.loss import smooth_l1
from scaling.distill.slots import Seats, label
from scaling.experts.bank import Bank
from scaling.students import decode
from scaling.students.config import StudentConfig
from scaling.tracking.env import EnvConfig, EnvState, Task, TrackingEnv
from scaling.tracking.physics import Physics

STUDENT_OBS = observation_dim(STUDENT_TERMS)


class Frozen(NamedTuple):
    """What a student needs beside its parameters, per run: the statistics of its observations and actions."""

    normaliser: Normaliser
    action_scale: Float[Array, "R 29"]


class Noise(NamedTuple):
    """Standard deviation on the bank's action, and the scale of the contract's noise on what a student sees."""

    action: float | np.float32
    obs: float | np.float32


class Actors(NamedTuple):
    """Who may act: the bank, and the students (None: the bank alone)."""

    bank: Bank
    params: Any = None
    frozen: Frozen | None = None


class Episodes(NamedTuple):
    """Episodes in flight and what is seen of them now (all terms)."""

    env: EnvState
    obs: Float[Array, "R S E obs"]


class Stage(NamedTuple):
    """Where it is played: what every slot tracks (its axes R and S before the clips'), and who sits where."""

    task: Task
    seats: Seats


class Sequences(NamedTuple):
    """N = slots x environments sequences of T frames for each run, and how their episodes went.

    `obs` is what a student sees (its terms alone, raw units, noise included), `label` the expert's action in the same
    state, from clean terms and those that it alone sees (`hidden`); `start` says that an episode, or the student's
    memory of it, begins; `loss` is that of the student's own action (of a zero action without a student).
    """

    obs: Float[np.ndarray, "R N T obs"]
    start: Bool[np.ndarray, "R N T"]
    label: Float[np.ndarray, "R N T 29"]
    loss: Float[np.ndarray, "R N T"]
    clip: Int[np.ndarray, "R N T"]
    failed: Bool[np.ndarray, "R N T"]
    joint_error: Float[np.ndarray, "R N T"]
    hidden: Float[np.ndarray, "R N T more"]


class World(NamedTuple):
    """Jitted `begin(keys [R], task, envs)` -> Episodes of uneven age, and
    `step(keys [R], time, task, env, action)` -> (Episodes, done, failed, joint error).
    """

    begin: Callable[..., Episodes]
    step: Callable[..., tuple[Episodes, Array, Array, Array]]


_TASK_AXES = Task(store=None, clips=0, weights=0, assist=None)  # type: ignore[arg-type]


# XLA's options for programs that run once, or that wait for the physics whatever is done to them.
RUN_ONCE = {"xla_backend_optimization_level": 0}
RUN_LITTLE = {"xla_backend_optimization_level": 1}


def make_world(physics: Physics, config: EnvConfig) -> World:
    """The world's programs, the same ones for everybody who asks for the same (identical) physics and config."""
    return _world(cast(Hashable, physics), config)


@lru_cache(maxsize=8)
def _world(physics: Any, config: EnvConfig) -> World:
    # The bank labels what it would see without noise; what the student sees is shaken by `make_act`.
    clean = replace(config.randomisation, observation_noise=0.0)
    env = TrackingEnv(physics, replace(config, randomisation=clean))

    def slot_keys(keys: Key[Array, "R"], task: Task) -> Key[Array, "R S"]:
        return jax.vmap(lambda key: jax.random.split(key, task.clips.shape[1]))(keys)

    def begin(keys: Key[Array, "R"], task: Task, envs: int) -> Episodes:
        def slot(key: Key[Array, ""], task: Task) -> tuple[EnvState, Array]:
            return env.reset(key, task, envs)

        fresh = jax.vmap(jax.vmap(slot, in_axes=(0, _TASK_AXES)), in_axes=(0, _TASK_AXES))
        return Episodes(*fresh(slot_keys(keys, task), task))

    def step(keys: Key[Array, "R"], time: Array, task: Task, state: EnvState, action: Array) -> Any:
        now = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, time)
        every = jax.vmap(jax.vmap(env.step, in_axes=(0, _TASK_AXES, 0, 0)), in_axes=(0, _TASK_AXES, 0, 0))
        after, out = every(slot_keys(now, task), task, state, action)
        return Episodes(after, out.obs), out.done, out.failed, out.joint_error

    return World(
        jax.jit(begin, static_argnums=2, compiler_options=RUN_ONCE), jax.jit(step, compiler_options=RUN_LITTLE)
    )


def make_act(student: StudentConfig | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Jitted `remember(runs, rows)` -> empty memories, and
    `act(keys, time, actors, seats, teacher, noise, obs, first, memory)` -> (action, memory, seen, label, loss).
    """
    half_width = jnp.asarray(noise_scale(STUDENT_TERMS), jnp.float32)

    def remember(runs: int, rows: int) -> Any:
        if student is None:
            return ()
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (runs, *x.shape)), decode.init_state(student, rows))

    def own(actors: Actors, memory: Any, seen: Array, first: Array) -> tuple[Array, Any]:
        runs, width, envs, _ = seen.shape
        if student is None or actors.frozen is None:
            return jnp.zeros((runs, width, envs, 29)), memory

        def one(params: Any, normaliser: Normaliser, memory: Any, obs: Array, first: Array) -> tuple[Array, Any]:
            return decode.act(student, params, normaliser, memory, obs, first)

        rows = seen.reshape(runs, width * envs, -1)
        action, memory = jax.vmap(one)(actors.params, actors.frozen.normaliser, memory, rows, first.reshape(runs, -1))
        return action.reshape(runs, width, envs, -1), memory

    def act(
        keys: Key[Array, "R"],
        time: Array,
        actors: Actors,
        seats: Seats,
        teacher: Bool[Array, "R S E"],
        noise: Noise,
        obs: Float[Array, "R S E obs"],
        first: Bool[Array, "R S E"],
        memory: Any,
    ) -> tuple[Array, Any, Array, Array, Array]:
        # The world folds the same keys with the same time: one more fold keeps the two streams apart.
        now = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(jax.random.fold_in(key, time), 1)))(keys)
        target = label(actors.bank, seats, obs)
        head = obs[..., :STUDENT_OBS]
        shake = jax.vmap(lambda key: jax.random.uniform(key, head.shape[1:], minval=-1.0, maxval=1.0))(now[:, 0])
        kick = jax.vmap(lambda key: jax.random.normal(key, target.shape[1:]))(now[:, 1])
        seen = head + noise.obs * half_width * shake
        output, memory = own(actors, memory, seen, first)
        scale = 1.0 if actors.frozen is None else actors.frozen.action_scale[:, None, None]
        action = jnp.where(teacher[..., None], target + noise.action * kick, output * scale)
        return action, memory, seen, target, smooth_l1(output, target / scale)

    return jax.jit(remember, static_argnums=(0, 1)), jax.jit(act, compiler_options=RUN_LITTLE)


def make_rollout(
    physics: Physics, config: EnvConfig, student: StudentConfig | None
) -> Callable[..., tuple[Episodes, Sequences]]:
    """`rollout(keys [R], stage, actors, teacher [R,S,E], noise, episodes, steps)`: `steps` control steps of everybody.

    Where `teacher` the bank acts, with noise, and the students elsewhere. The episodes go on from those given and are
    given back; the students' memory starts empty. Parameters and statistics have a leading axis of runs.
    """
    world = make_world(physics, config)
    remember, act = make_act(student)

    def rollout(
        keys: Key[Array, "R"],
        stage: Stage,
        actors: Actors,
        teacher: Bool[np.ndarray, "R S E"],
        noise: Noise,
        episodes: Episodes,
        steps: int,
    ) -> tuple[Episodes, Sequences]:
        runs, width, envs = teacher.shape
        memory = remember(runs, width * envs)
        first: Any = np.ones(teacher.shape, bool)
        frames = []
        for number in range(steps):
            time, clip, hidden = np.uint32(number), episodes.env.clip, episodes.obs[..., STUDENT_OBS:]
            action, memory, seen, target, loss = act(
                keys, time, actors, stage.seats, teacher, noise, episodes.obs, first, memory
            )
            episodes, done, failed, joint_error = world.step(keys, time, stage.task, episodes.env, action)
            frames.append((seen, first, target, loss, clip, failed, joint_error, hidden))
            first = done

        def by_sequence(*values: Any) -> np.ndarray:
            return np.stack(
                [np.asarray(value).reshape(runs, width * envs, *value.shape[3:]) for value in values], axis=2
            )

        return episodes, Sequences(*(by_sequence(*values) for values in zip(*frames, strict=True)))

    return rollout
