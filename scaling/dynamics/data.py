"""Transitions of the true physics under noisy tracking, failures kept, and windows of consecutive ones."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.errors import InputError
from scaling.record.progress import Progress
from scaling.tracking import terminations
from scaling.tracking.env import EnvState, Task, TrackingEnv
from scaling.tracking.evaluate import OPEN_LOOP, Policy
from scaling.tracking.physics import PhysicsState

_CHUNK = 25  # control steps between two looks at the progress


@dataclass(frozen=True)
class CollectConfig:
    """How much is collected; each episode draws its own noise (std of the action) from 0 to twice `noise`.

    An episode goes on for `linger` steps after its failure, so that the model knows how a fall continues.
    """

    envs: int = 128
    steps: int = 400
    noise: float = 0.15
    linger: int = 10

    def __post_init__(self) -> None:
        if self.envs < 1 or self.steps < 1 or self.linger < 0 or not 0 <= self.noise < 10:
            raise ValueError(
                f"envs {self.envs}, steps {self.steps}, noise {self.noise}, linger {self.linger}: "
                "at least one environment and step, neither noise (below 10) nor linger negative"
            )


class Transitions(NamedTuple):
    """Consecutive control steps, one environment after the other; row i + 1 goes on from row i unless `ends[i]`."""

    qpos: Float[Array, "N 36"]
    qvel: Float[Array, "N 35"]
    last_action: Float[Array, "N 29"]
    ctrl: Float[Array, "N 29"]
    next_qpos: Float[Array, "N 36"]
    next_qvel: Float[Array, "N 35"]
    ends: Bool[Array, "N"]
    failed: Bool[Array, "N"]
    clip: Int[Array, "N"]
    frame: Int[Array, "N"]

    @property
    def before(self) -> PhysicsState:
        """The states."""
        return PhysicsState(self.qpos, self.qvel)

    @property
    def after(self) -> PhysicsState:
        """The states one control step later, before any reset."""
        return PhysicsState(self.next_qpos, self.next_qvel)


class Window(NamedTuple):
    """A batch of consecutive steps: where they start, the joint targets, and the true states after each."""

    start: PhysicsState  # [B, ...]
    ctrl: Float[Array, "B W 29"]
    target: PhysicsState  # [B, W, ...]
    weight: Float[Array, "B W"] | float = 1.0  # 0 where the window goes on beyond the end of its episode


class Play(NamedTuple):
    """Episodes being played with noise: the environment's state, the policy's memory, and of each episode the control
    steps since its failure (0: none), whether it has just begun, and its noise (std of the action).
    """

    env: EnvState
    memory: Any
    since: Int[Array, "E"]
    first: Bool[Array, "E"]
    level: Float[Array, "E"]


def collect(
    key: Key[Array, ""],
    env: TrackingEnv,
    task: Task,
    config: CollectConfig = CollectConfig(),
    policy: Policy = OPEN_LOOP,
    params: Any = None,
    title: str = "transitions",
) -> Transitions:
    """`envs * steps` transitions on the host, of a policy (default: playback) with action noise along the task's clips.

    Raises InputError for a harness (a force that the model does not see) or a pool of different robots.
    """
    if float(task.assist) != 0.0:
        raise InputError(f"assist {float(task.assist):g}: a model of the robot alone needs transitions at assist 0")
    if env.physics.variants != 1:
        raise InputError(f"{env.physics.variants} robot variants: a model of one robot needs transitions of one")
    start_key, key = jax.random.split(key)
    carry = begin(start_key, env, policy, config, task)
    chunks = []
    with Progress(title, total=config.steps) as progress:
        progress.update(0)
        for done in range(0, config.steps, _CHUNK):
            length = min(_CHUNK, config.steps - done)
            carry, rows = _advance(env, policy, config, length, params, task, jax.random.fold_in(key, done), carry)
            chunks.append(jax.tree.map(np.asarray, rows))
            progress.update(done + length, message=f"{config.envs * (done + length)} control steps")
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
    rows.ends[-1] = True
    return jax.tree.map(lambda x: np.swapaxes(x, 0, 1).reshape((-1, *x.shape[2:])), rows)


def begin(key: Key[Array, ""], env: TrackingEnv, policy: Policy, config: CollectConfig, task: Task) -> Play:
    """Fresh episodes, each with a noise of its own."""
    start_key, noise_key = jax.random.split(key)
    zeros = jnp.zeros((config.envs,), jnp.int32)
    state = env.start(start_key, task, config.envs)
    return Play(state, policy.init(config.envs), zeros, zeros == 0, _levels(noise_key, config))


def _levels(key: Key[Array, ""], config: CollectConfig) -> Float[Array, "E"]:
    return 2.0 * config.noise * jax.random.uniform(key, (config.envs,))


def advance(
    env: TrackingEnv,
    policy: Policy,
    config: CollectConfig,
    length: int,
    params: Any,
    task: Task,
    key: Key[Array, ""],
    play: Play,
) -> tuple[Play, Transitions]:
    """`length` control steps of every episode, [T, E, ...]; those that end start again."""

    def body(play: Play, key: Array) -> tuple[Play, Transitions]:
        state, memory, since, first, level = play
        action_key, reset_key, noise_key, sense_key = jax.random.split(key, 4)
        action, memory = policy.act(params, memory, env.observe(state, task.store, sense_key), first)
        action = action + level[:, None] * jax.random.normal(action_key, action.shape)
        ctrl = env.targets(task.store, state, action)
        physics = env.advance(task, state, action)
        moved = state._replace(physics=physics, frame=state.frame + 1, age=state.age + 1, last_action=action)
        failed = terminations.failed(env.config.termination, env.errors(task.store, moved), physics.qpos) | (since > 0)
        since = jnp.where(failed, since + 1, 0)
        over = (moved.frame >= task.store.length[state.clip] - 1) | (moved.age >= env.config.max_steps)
        ends = over | (since > config.linger) | ~_finite(physics)
        old = state.physics
        row = Transitions(
            old.qpos, old.qvel, state.last_action, ctrl, physics.qpos, physics.qvel, ends, failed, state.clip,
            state.frame,
        )  # fmt: skip
        state = env.restart(reset_key, task, moved, ends, ends & failed)
        level = jnp.where(ends, _levels(noise_key, config), level)
        return Play(state, memory, jnp.where(ends, 0, since), ends, level), row

    return jax.lax.scan(body, play, jax.random.split(key, length))


_advance = partial(jax.jit, static_argnums=(0, 1, 2, 3))(advance)


def _finite(state: PhysicsState) -> Bool[Array, "*b"]:
    return jnp.all(jnp.isfinite(state.qpos), axis=-1) & jnp.all(jnp.isfinite(state.qvel), axis=-1)


def window_starts(data: Transitions, width: int) -> Int[np.ndarray, "n"]:
    """The rows from which `width` consecutive finite transitions follow.

    Raises InputError where there is none.
    """
    if width < 1:
        raise ValueError(f"width {width}: at least 1")
    finite = np.asarray(_finite(data.before)) & np.asarray(_finite(data.after))
    barred = np.concatenate([[0], np.cumsum(~finite)])
    stops = np.concatenate([[0], np.cumsum(np.asarray(data.ends))])
    rows = np.arange(max(len(finite) - width + 1, 0))
    whole = (stops[rows + width - 1] == stops[rows]) & (barred[rows + width] == barred[rows])
    if not whole.any():
        raise InputError(
            f"no window of {width} control steps in {len(finite)} transitions: shorten it or take longer clips"
        )
    return rows[whole].astype(np.int32)


def gather(data: Transitions, starts: Int[Array, "B"], width: int) -> Window:
    """The windows that begin at `starts`."""
    rows = starts[:, None] + jnp.arange(width)
    return Window(
        PhysicsState(data.qpos[starts], data.qvel[starts]),
        data.ctrl[rows],
        PhysicsState(data.next_qpos[rows], data.next_qvel[rows]),
    )


def join(parts: list[Transitions]) -> Transitions:
    """Several collections as one."""
    return jax.tree.map(lambda *rows: np.concatenate([np.asarray(row) for row in rows]), *parts)
