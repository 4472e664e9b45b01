"""Closed-loop evaluation: play a policy along clips and score it by a named protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scaling.tracking import terminations
from scaling.tracking.env import EnvConfig, EnvState, Task, TrackingEnv
from scaling.tracking.physics import Physics, PhysicsState
from scaling.tracking.reference import ClipStore, frame_at

PROTOCOLS = ("sonic", "humanoid-gpt")


class Policy(NamedTuple):
    """How to act: `init(batch)` gives a state, `act(params, state, obs [E, 243], first [E])` an action and a state."""

    init: Callable[[int], Any]
    act: Callable[[Any, Any, Array, Array], tuple[Float[Array, "E 29"], Any]]


OPEN_LOOP = Policy(
    init=lambda batch: (), act=lambda params, state, obs, first: (jnp.zeros((*obs.shape[:-1], 29)), state)
)
"""Playback of the reference through the servos: the baseline of every table."""


class Starts(NamedTuple):
    """Where each episode begins and how many control steps it is to last."""

    clip: Int[Array, "E"]
    frame: Int[Array, "E"]
    steps: Int[Array, "E"]


class Trace(NamedTuple):
    """Per control step and episode (steps after the episode's end are not `valid`)."""

    valid: Bool[Array, "T E"]
    failed: Bool[Array, "T E"]
    joint: Float[Array, "T E"]  # rad
    joint_velocity: Float[Array, "T E"]  # rad/s
    local: Float[Array, "T E"]  # m
    own_frame: Float[Array, "T E"]  # m
    root_velocity: Float[Array, "T E"]  # m/s
    qpos: Float[Array, "T E 36"]


@dataclass(frozen=True)
class Scores:
    """Per episode; errors are means up to failure (or the end), NaN where it failed at once."""

    seconds: Float[np.ndarray, "E"]
    wanted: Float[np.ndarray, "E"]
    success: Bool[np.ndarray, "E"]
    mpjpe_l_mm: Float[np.ndarray, "E"]
    mpjpe_l_whole_mm: Float[np.ndarray, "E"]
    mpkpe_hgpt_mm: Float[np.ndarray, "E"]
    mpjpe_rad: Float[np.ndarray, "E"]
    mpjve_rad_s: Float[np.ndarray, "E"]
    root_vel_err: Float[np.ndarray, "E"]


def random_starts(store: ClipStore, clips: Int[np.ndarray, "M"], count: int, steps: int, seed: int) -> Starts:
    """`count` starts over `clips` in turn, at random frames that leave `steps` frames of the clip if it has them."""
    rng = np.random.default_rng(seed)
    length = np.asarray(store.length)
    clip = np.resize(rng.permutation(np.asarray(clips)), count)
    room = np.maximum(length[clip] - 1 - steps, 0)
    frame = np.floor(rng.random(count) * (room + 1)).astype(np.int32)
    wanted = np.minimum(steps, length[clip] - 1 - frame)
    return Starts(jnp.asarray(clip, jnp.int32), jnp.asarray(frame), jnp.asarray(wanted, jnp.int32))


def whole_clips(store: ClipStore, clips: Int[np.ndarray, "M"]) -> Starts:
    """Each clip once from its first frame to its last."""
    clip = jnp.asarray(clips, jnp.int32)
    return Starts(clip, jnp.zeros_like(clip), store.length[clip] - 1)


def play(
    env: TrackingEnv,
    policy: Policy,
    protocol: str,
    params: Any,
    store: ClipStore,
    starts: Starts,
    assist: Float[Array, ""],
    horizon: int,
) -> Trace:
    """Deterministic episodes from the reference's own state (jit with `horizon`, `env`, `policy` static)."""
    count = starts.clip.shape[0]
    physics = PhysicsState(*frame_at(store, starts.clip, starts.frame))
    state = EnvState(
        physics,
        starts.clip,
        starts.frame,
        jnp.zeros((count,), jnp.int32),
        jnp.zeros((count, 29)),
        jnp.zeros((count,), jnp.int32),
        jnp.zeros((count,), jnp.int32),
    )
    task = Task(store, starts.clip, jnp.ones((count,)), assist)

    def body(carry: tuple[EnvState, Any, Array], step: Array) -> tuple[tuple[EnvState, Any, Array], Trace]:
        state, memory, failed = carry
        first = jnp.broadcast_to(step == 0, (count,))
        action, memory = policy.act(params, memory, env.observe(state, store), first)
        physics = env.advance(task, state, action)
        moved = state._replace(physics=physics, frame=state.frame + 1, age=state.age + 1, last_action=action)
        errors = env.errors(store, moved)
        valid = step < starts.steps
        failed = failed | (terminations.failed(protocol, errors, physics.qpos) & valid)
        # A fallen robot is not simulated on: it waits at its last finite state.
        moved = jax.tree.map(
            lambda new, old: jnp.where(failed.reshape(failed.shape + (1,) * (new.ndim - 1)), old, new), moved, state
        )
        trace = Trace(
            valid,
            failed,
            jnp.mean(jnp.abs(errors.joint_position), axis=-1),
            jnp.mean(jnp.abs(errors.joint_velocity), axis=-1),
            jnp.mean(errors.local_position, axis=-1),
            jnp.mean(errors.own_frame_axes, axis=-1),
            errors.root_velocity,
            moved.physics.qpos,
        )
        return (moved._replace(frame=state.frame + 1), memory, failed), trace

    carry = (state, policy.init(count), jnp.zeros((count,), bool))
    _, trace = jax.lax.scan(body, carry, jnp.arange(horizon))
    return trace


def scores(trace: Trace) -> Scores:
    """Per-episode figures of FACTS' protocols from a trace on the host."""
    valid, failed = np.asarray(trace.valid), np.asarray(trace.failed)
    alive = valid & ~failed

    def mean(values: Array, mask: np.ndarray) -> np.ndarray:
        kept = np.where(mask, np.asarray(values, np.float64), 0.0)
        count = mask.sum(axis=0)
        return np.where(count > 0, kept.sum(axis=0) / np.maximum(count, 1), np.nan)

    return Scores(
        seconds=alive.sum(axis=0) * 0.02,
        wanted=valid.sum(axis=0) * 0.02,
        success=np.asarray(~failed.any(axis=0)),
        mpjpe_l_mm=1000 * mean(trace.local, alive),
        mpjpe_l_whole_mm=1000 * mean(trace.local, valid),
        mpkpe_hgpt_mm=1000 * mean(trace.own_frame, alive),
        mpjpe_rad=mean(trace.joint, alive),
        mpjve_rad_s=mean(trace.joint_velocity, alive),
        root_vel_err=mean(trace.root_velocity, alive),
    )


def make_player(
    physics: Physics, policy: Policy, protocol: str = "sonic", batched_params: bool = False
) -> Callable[..., Trace]:
    """Jitted `play(params, store, starts, assist, horizon)`; with `batched_params` one more leading axis everywhere."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r}: one of {PROTOCOLS}")
    env = TrackingEnv(physics, EnvConfig())

    def one(params: Any, store: ClipStore, starts: Starts, assist: Array, horizon: int) -> Trace:
        return play(env, policy, protocol, params, store, starts, assist, horizon)

    if not batched_params:
        return jax.jit(one, static_argnums=4)

    def many(params: Any, store: ClipStore, starts: Starts, assist: Array, horizon: int) -> Trace:
        return jax.vmap(lambda p, s: one(p, store, s, assist, horizon))(params, starts)

    return jax.jit(many, static_argnums=4)
