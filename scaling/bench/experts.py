"""The tracking environment beside the bare physics that it wraps: same robots, same batch, same substeps."""

import os
from collections.abc import Callable, Iterator
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
from scaling.tracking.physics import Physics, PhysicsState, make_physics
from scaling.tracking.reference import ClipStore, frame_at, make_store

SHARE = 0.85
"""Of the bare backend's throughput, the whole environment step must keep so much."""


def rows(quick: bool) -> Iterator[Row]:
    """Control steps a second of the environment and of the bare backend, C MuJoCo first, MJX where there is time."""
    store = _store()
    yield from _beside_rollout(store, *((256, 16, 5) if quick else (1024, 32, 11)))
    if not quick:
        yield from _beside_mjx(store, batch=128, steps=8, repeats=5)
        yield from _training(store)


def _store() -> ClipStore:
    motions = corpus_motions(60.0, 0, take_seconds=10.0)
    length = np.array([motion.frames for motion in motions])
    return make_store(np.concatenate([m.qpos for m in motions]), np.cumsum(length) - length, length)


def _task(store: ClipStore) -> Task:
    clips = jnp.arange(store.length.shape[0])
    return Task(store, clips, jnp.ones(len(clips)) / len(clips), jnp.zeros(()))


def _stepping(physics: Physics, task: Task, batch: int, steps: int) -> tuple[EnvState, Callable[[], object]]:
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


def _controls(state: EnvState, store: ClipStore, steps: int) -> np.ndarray:
    """[T, E, 29]: the servo targets that actions of zero mean, frame by frame."""
    frames = [frame_at(store, state.clip, state.frame + step) for step in range(steps)]
    return np.stack([np.asarray(decode_action(jnp.zeros((len(q), 29)), q, v)) for q, v in frames])


def _beside_rollout(store: ClipStore, batch: int, steps: int, repeats: int) -> Iterator[Row]:
    """`mujoco.rollout` is called as often as the environment calls it, once a control step for the whole batch."""
    task = _task(store)
    state, env_run = _stepping(make_physics("mujoco"), task, batch, steps)
    model, threads = build_model(STANDARD), os.cpu_count() or 1
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
        took = medians({"env": env_run, "bare": bare}, repeats)
    finally:
        pool.close()
    yield Row("env_step_mujoco", batch * steps / took["env"], "control steps/s")
    yield Row("bare_mujoco_rollout", batch * steps / took["bare"], "control steps/s")
    yield Row("env_step_share_mujoco", took["bare"] / took["env"], "x", target=SHARE, ratio_to="bare_mujoco_rollout")


def _beside_mjx(store: ClipStore, batch: int, steps: int, repeats: int) -> Iterator[Row]:
    """The same with MJX, its bare steps scanned."""
    task, physics = _task(store), make_physics("mjx")
    state, env_run = _stepping(physics, task, batch, steps)
    controls = jnp.asarray(_controls(state, store, steps), jnp.float32)
    force, assist, variant = jnp.zeros((batch, 35)), jnp.zeros(batch), jnp.zeros(batch, jnp.int32)

    @jax.jit
    def scanned(start: PhysicsState, controls: Any) -> Any:
        return jax.lax.scan(lambda now, ctrl: (physics.step(now, ctrl, force, assist, variant), None), start, controls)

    bare = lambda: jax.block_until_ready(scanned(state.physics, controls))  # noqa: E731
    took = medians({"env": env_run, "bare": bare}, repeats)
    yield Row("env_step_mjx", batch * steps / took["env"], "control steps/s")
    yield Row("bare_mjx", batch * steps / took["bare"], "control steps/s")
    yield Row("env_step_share_mjx", took["bare"] / took["env"], "x", target=SHARE, ratio_to="bare_mjx")


def _training(store: ClipStore) -> Iterator[Row]:
    """Whole PPO (collection and updates) beside the environment alone at the same batch."""
    from scaling.experts.ppo import PPOConfig, make_iterate

    experts, config = 2, PPOConfig(envs=128, iterations=1, warm_start=0.0)
    one = _task(store)
    task = one._replace(
        clips=jnp.broadcast_to(one.clips, (experts, *one.clips.shape)),
        weights=jnp.broadcast_to(one.weights, (experts, *one.weights.shape)),
    )
    physics = make_physics("auto")
    init, advance = make_iterate(TrackingEnv(physics, config.env), config, 1)
    held = [init(jax.random.split(jax.random.key(0), experts), task)]

    def train() -> None:
        held[0], metrics = advance(held[0], task)
        jax.block_until_ready(metrics)

    _, env_run = _stepping(physics, one, experts * config.envs, config.unroll)
    took = medians({"train": train, "env": env_run}, repeats=5)
    steps = experts * config.envs * config.unroll
    yield Row("ppo_training", steps / took["train"], "control steps/s")
    yield Row("ppo_share_of_env_step", took["env"] / took["train"], "x", ratio_to="env_step, same batch")
