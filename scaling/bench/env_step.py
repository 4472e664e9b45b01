"""The tracking environment beside the bare physics that it wraps: same robots, same batch, same substeps."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from mujoco import MjData, mjtState, rollout

from scaling.bench.row import Row
from scaling.motion.synthetic import corpus_motions
from scaling.record.timing import medians
from scaling.robot.model import STANDARD, build_model
from scaling.tracking.env import EnvState, Task, TrackingEnv
from scaling.tracking.physics import Physics, PhysicsState, make_physics, widen_pool
from scaling.tracking.reference import ClipStore, pack

SHARE = 0.85
"""Of the bare backend's throughput, the whole environment step must keep so much."""

Work = Callable[[], object]
Policy = Callable[[Array, Key[Array, ""]], Array]


def make_clips() -> ClipStore:
    """A minute of generated motion in takes of 10 s."""
    motions = corpus_motions(60.0, 0, take_seconds=10.0)
    return pack([motion.qpos for motion in motions])


def whole_task(store: ClipStore) -> Task:
    """All clips alike, without the harness."""
    clips = jnp.arange(store.length.shape[0])
    return Task(store, clips, jnp.ones(len(clips)) / len(clips), jnp.zeros(()))


def rows(store: ClipStore, batch: int, steps: int, repeats: int) -> Iterator[Row]:
    """Control steps a second of the environment on C MuJoCo and of `mujoco.rollout`, called as often."""
    env, task = TrackingEnv(make_physics("mujoco")), whole_task(store)
    state, env_run = stepping(env, task, batch, steps)
    with bare_rollout(visits(env, task, state, playback, steps)) as bare:
        took = medians({"env": env_run, "bare": bare}, repeats)
    yield Row("env_step_mujoco", batch * steps / took["env"], "control steps/s")
    yield Row("bare_mujoco_rollout", batch * steps / took["bare"], "control steps/s")
    yield Row("env_step_share_mujoco", took["bare"] / took["env"], "x", target=SHARE, ratio_to="bare_mujoco_rollout")


def backend_rows(batch: int, steps: int, repeats: int) -> Iterator[Row]:
    """The same with MJX, its bare steps scanned, and C MuJoCo at the same batch beside it.

    On a CPU in a process of its own, for MJX wants a wider thread pool there than what is timed after it.
    """
    if jax.default_backend() != "cpu":
        yield from _backend_rows(batch, steps, repeats)
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=widen_pool) as process:
        yield from process.submit(_backend_rows, batch, steps, repeats).result()


def _backend_rows(batch: int, steps: int, repeats: int) -> list[Row]:
    env, task = TrackingEnv(make_physics("mjx")), whole_task(make_clips())
    state, env_run = stepping(env, task, batch, steps)
    _, other_run = stepping(TrackingEnv(make_physics("mujoco")), task, batch, steps)
    bare = bare_scan(env.physics, visits(env, task, state, playback, steps))
    took = medians({"env": env_run, "bare": bare, "mujoco": other_run}, repeats)
    return [
        Row("env_step_mjx", batch * steps / took["env"], "control steps/s"),
        Row("bare_mjx", batch * steps / took["bare"], "control steps/s"),
        Row("env_step_share_mjx", took["bare"] / took["env"], "x", target=SHARE, ratio_to="bare_mjx"),
        Row(f"env_step_mujoco_batch_{batch}", batch * steps / took["mujoco"], "control steps/s"),
        Row("mujoco_beside_mjx", took["env"] / took["mujoco"], "x", ratio_to="env_step_mjx"),
    ]


def playback(obs: Array, key: Key[Array, ""]) -> Array:
    """Actions of zero: the reference's own joint targets."""
    return jnp.zeros((*obs.shape[:-1], 29))


def stepping(env: TrackingEnv, task: Task, batch: int, steps: int) -> tuple[EnvState, Work]:
    """A start, and `steps` whole environment steps of playback from it."""
    state, _ = jax.jit(env.reset, static_argnums=2)(jax.random.key(0), task, batch)

    @jax.jit
    def run(state: EnvState, task: Task) -> Any:
        def body(state: EnvState, key: Any) -> Any:
            state, step = env.step(key, task, state, jnp.zeros((batch, 29)))
            return state, (step.obs, step.reward, step.failed)

        return jax.lax.scan(body, state, jax.random.split(jax.random.key(1), steps))

    return state, lambda: jax.block_until_ready(run(state, task))


class Visits(NamedTuple):
    """The physics in an environment's control steps, in order: the state before each and its servo targets."""

    state: PhysicsState  # [T, E, ...]
    ctrl: Float[Array, "T E 29"]


def visits(env: TrackingEnv, task: Task, state: EnvState, policy: Policy, steps: int) -> Visits:
    """What `steps` of the environment under a policy ask of the physics: bare physics is timed on the very same."""

    @jax.jit
    def run(state: EnvState, task: Task) -> Visits:
        def body(carry: Any, key: Any) -> Any:
            state, obs = carry
            action = policy(obs, jax.random.fold_in(key, 0))
            after, step = env.step(key, task, state, action)
            return (after, step.obs), Visits(state.physics, env.targets(task.store, state, action))

        start = (state, env.observe(state, task.store))
        return jax.lax.scan(body, start, jax.random.split(jax.random.key(1), steps))[1]

    return run(state, task)


def bare_physics(physics: Physics, seen: Visits) -> AbstractContextManager[Work]:
    """A backend alone over these control steps."""
    return bare_rollout(seen) if physics.name == "mujoco" else nullcontext(bare_scan(physics, seen))


@contextmanager
def bare_rollout(seen: Visits) -> Iterator[Work]:
    """`mujoco.rollout` once a control step for the whole batch, on all cores; its threads end with the block."""
    model, threads, (steps, batch) = build_model(STANDARD), os.cpu_count() or 1, seen.ctrl.shape[:2]
    pool, data = rollout.Rollout(nthread=threads), [MjData(model) for _ in range(threads)]
    starts = np.zeros((steps, batch, 1 + model.nq + model.nv))
    starts[..., 1:] = np.concatenate(seen.state, axis=-1)
    controls = np.repeat(np.asarray(seen.ctrl, float)[:, :, None], STANDARD.substeps, axis=2)
    out = np.empty((batch, STANDARD.substeps, starts.shape[-1]))

    def bare() -> None:
        for start, control in zip(starts, controls, strict=True):
            pool.rollout(
                [model] * batch, data, start, control, control_spec=int(mjtState.mjSTATE_CTRL),
                nstep=STANDARD.substeps, state=out, skip_checks=True,
            )  # fmt: skip

    try:
        yield bare
    finally:
        pool.close()


def bare_scan(physics: Physics, seen: Visits) -> Work:
    """A backend's own steps in one scan."""
    batch = seen.ctrl.shape[1]
    force, assist, variant = jnp.zeros((batch, 35)), jnp.zeros(batch), jnp.zeros(batch, jnp.int32)

    @jax.jit
    def scanned(seen: Visits) -> Any:
        return jax.lax.scan(lambda _, x: (None, physics.step(x.state, x.ctrl, force, assist, variant)), None, seen)

    return lambda: jax.block_until_ready(scanned(seen))
