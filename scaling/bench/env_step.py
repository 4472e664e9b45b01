"""The tracking environment beside the bare physics that it wraps: same robots, same batch, same substeps."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mujoco import MjData, mjtState, rollout

from scaling.bench.row import Row, medians
from scaling.contract.action import decode_action
from scaling.motion.synthetic import corpus_motions
from scaling.robot.model import STANDARD, build_model
from scaling.tracking.env import EnvConfig, EnvState, Task, TrackingEnv
from scaling.tracking.physics import Physics, PhysicsState, make_physics, widen_pool
from scaling.tracking.reference import ClipStore, frame_at, make_store

SHARE = 0.85
"""Of the bare backend's throughput, the whole environment step must keep so much."""

Work = Callable[[], object]


def make_clips() -> ClipStore:
    """A minute of generated motion in takes of 10 s."""
    motions = corpus_motions(60.0, 0, take_seconds=10.0)
    length = np.array([motion.frames for motion in motions])
    return make_store(np.concatenate([m.qpos for m in motions]), np.cumsum(length) - length, length)


def whole_task(store: ClipStore) -> Task:
    """All clips alike, without the harness."""
    clips = jnp.arange(store.length.shape[0])
    return Task(store, clips, jnp.ones(len(clips)) / len(clips), jnp.zeros(()))


def rows(store: ClipStore, batch: int, steps: int, repeats: int) -> Iterator[Row]:
    """Control steps a second of the environment on C MuJoCo and of `mujoco.rollout`, called as often."""
    task = whole_task(store)
    state, env_run = stepping(make_physics("mujoco"), task, batch, steps)
    with bare_rollout(state, store, steps) as bare:
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
    store = make_clips()
    task, physics = whole_task(store), make_physics("mjx")
    state, env_run = stepping(physics, task, batch, steps)
    _, other_run = stepping(make_physics("mujoco"), task, batch, steps)
    bare = bare_scan(physics, state, store, steps)
    took = medians({"env": env_run, "bare": bare, "mujoco": other_run}, repeats)
    return [
        Row("env_step_mjx", batch * steps / took["env"], "control steps/s"),
        Row("bare_mjx", batch * steps / took["bare"], "control steps/s"),
        Row("env_step_share_mjx", took["bare"] / took["env"], "x", target=SHARE, ratio_to="bare_mjx"),
        Row(f"env_step_mujoco_batch_{batch}", batch * steps / took["mujoco"], "control steps/s"),
        Row("mujoco_beside_mjx", took["env"] / took["mujoco"], "x", ratio_to="env_step_mjx"),
    ]


def stepping(physics: Physics, task: Task, batch: int, steps: int) -> tuple[EnvState, Work]:
    """A start, and `steps` whole environment steps from it under actions of zero."""
    env = TrackingEnv(physics, EnvConfig())
    state, _ = jax.jit(env.reset, static_argnums=2)(jax.random.key(0), task, batch)

    @jax.jit
    def run(state: EnvState, task: Task) -> Any:
        def body(state: EnvState, key: Any) -> Any:
            state, step = env.step(key, task, state, jnp.zeros((batch, 29)))
            return state, (step.obs, step.reward, step.failed)

        return jax.lax.scan(body, state, jax.random.split(jax.random.key(1), steps))

    return state, lambda: jax.block_until_ready(run(state, task))


def bare_physics(physics: Physics, state: EnvState, store: ClipStore, steps: int) -> AbstractContextManager[Work]:
    """`steps` control steps of a backend alone from `state`, under the servo targets of playback."""
    if physics.name == "mujoco":
        return bare_rollout(state, store, steps)
    return nullcontext(bare_scan(physics, state, store, steps))


@contextmanager
def bare_rollout(state: EnvState, store: ClipStore, steps: int) -> Iterator[Work]:
    """`mujoco.rollout` once a control step for the whole batch, on all cores; its threads end with the block."""
    model, threads, batch = build_model(STANDARD), os.cpu_count() or 1, len(state.clip)
    pool, data = rollout.Rollout(nthread=threads), [MjData(model) for _ in range(threads)]
    start = np.zeros((batch, 1 + model.nq + model.nv))
    start[:, 1:] = np.concatenate([state.physics.qpos, state.physics.qvel], axis=1)
    controls = np.repeat(_controls(state, store, steps)[:, :, None].astype(float), STANDARD.substeps, axis=2)
    out = np.empty((batch, STANDARD.substeps, start.shape[1]))

    def bare() -> None:
        now = start
        for control in controls:
            pool.rollout(
                [model] * batch, data, now, np.ascontiguousarray(control), control_spec=int(mjtState.mjSTATE_CTRL),
                nstep=STANDARD.substeps, state=out, skip_checks=True,
            )  # fmt: skip
            now = out[:, -1].copy()

    try:
        yield bare
    finally:
        pool.close()


def bare_scan(physics: Physics, state: EnvState, store: ClipStore, steps: int) -> Work:
    """A backend's own steps in one scan."""
    controls = jnp.asarray(_controls(state, store, steps), jnp.float32)
    batch = controls.shape[1]
    force, assist, variant = jnp.zeros((batch, 35)), jnp.zeros(batch), jnp.zeros(batch, jnp.int32)

    @jax.jit
    def scanned(start: PhysicsState, controls: Any) -> Any:
        return jax.lax.scan(lambda now, ctrl: (physics.step(now, ctrl, force, assist, variant), None), start, controls)

    return lambda: jax.block_until_ready(scanned(state.physics, controls))


def _controls(state: EnvState, store: ClipStore, steps: int) -> np.ndarray:
    """[T, E, 29]: the servo targets that actions of zero mean, frame by frame."""

    @jax.jit
    def targets(clip: Any, frame: Any, store: ClipStore) -> Any:
        qpos, qvel = frame_at(store, clip, frame + jnp.arange(steps)[:, None])
        return decode_action(jnp.zeros((*qpos.shape[:-1], 29)), qpos, qvel)

    return np.asarray(targets(state.clip, state.frame, store))
