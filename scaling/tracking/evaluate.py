"""Closed-loop evaluation: play a policy along clips, to be scored by a named protocol."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.tracking import terminations
from scaling.tracking.env import EnvConfig, EnvState, Task, TrackingEnv
from scaling.tracking.episode import select
from scaling.tracking.physics import CPhysics, Physics, PhysicsState
from scaling.tracking.randomise import Randomisation
from scaling.tracking.reference import ClipStore, frame_at
from scaling.tracking.scores import SUCCESS, Scores, Trace, aggregate, scores

__all__ = [
    "OPEN_LOOP", "PROTOCOLS", "Policy", "Scores", "Starts", "Trace",
    "aggregate", "make_player", "play", "random_starts", "scores", "whole_clips",
]  # fmt: skip

PROTOCOLS = tuple(SUCCESS)
_STRETCH = 25  # control steps of one program; between two of them the host looks whether anybody is still up
_PLAIN = Randomisation()


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


class Episodes(NamedTuple):
    """A batch being played: the environment's state, the policy's memory, who failed by each of P protocols, and who
    ran out of ground.

    `lift` (m) is how far above its reference's first frame a robot was put down (0 on a plane).
    """

    state: EnvState
    memory: Any
    failed: Bool[Array, "E P"]
    left: Bool[Array, "E"]
    lift: Float[Array, "E"]


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


def begin(
    env: TrackingEnv,
    policy: Policy,
    protocols: int,
    key: Key[Array, ""],
    task: Task,
    starts: Starts,
    variant: Int[Array, "E"],
) -> Episodes:
    """Robots in the reference's own state, put down on the ground where it is uneven; so many protocols will judge."""
    count = starts.clip.shape[0]
    physics = PhysicsState(*frame_at(task.store, starts.clip, starts.frame))
    state = env.begin(key, task, physics, starts.clip, starts.frame, variant)
    lift = env.in_clip(state, physics.qpos)[..., 2] - physics.qpos[..., 2]
    return Episodes(state, policy.init(count), jnp.zeros((count, protocols), bool), jnp.zeros((count,), bool), lift)


def play(
    env: TrackingEnv,
    policy: Policy,
    protocols: tuple[str, ...],
    length: int,
    params: Any,
    key: Key[Array, ""],
    task: Task,
    starts: Starts,
    episodes: Episodes,
    step: Int[Array, ""],
    awake: Bool[Array, ""],
) -> tuple[Episodes, Trace]:
    """`length` control steps from `step` on, without exploration (jit with the first four arguments static).

    A robot goes on until it has failed by every protocol; the first of them is the trace's own. What is random in the
    environment is drawn by `key` and the step. Unless `awake`, nobody moves any more: policy and physics are left out
    and the reference goes on alone.
    """

    def control(state: EnvState, memory: Any, going: Array, step: Array) -> tuple[EnvState, Any]:
        move_key, sense_key = jax.random.split(jax.random.fold_in(key, step))
        first = jnp.broadcast_to(step == 0, going.shape)
        action, memory = policy.act(params, memory, env.observe(state, task.store, sense_key), first)
        if isinstance(env.physics, CPhysics):  # it computes nothing for a robot that is not finite
            nowhere = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.physics)
            state = state._replace(physics=select(going, state.physics, nowhere))
        return env.control_step(move_key, task, state, action), memory

    def body(episodes: Episodes, step: Array) -> tuple[Episodes, Trace]:
        before, memory, failed, left, lift = episodes
        valid = (step < starts.steps) & ~left
        going = valid & ~jnp.all(failed, axis=-1)
        after, memory = jax.lax.cond(awake, control, lambda *same: same[:2], before, memory, going, step)
        finite = jnp.all(jnp.isfinite(jnp.concatenate(after.physics, axis=-1)), axis=-1)
        now = select(going & finite, after, before)._replace(frame=before.frame + 1)
        errors = env.errors(task.store, now)

        def broken(protocol: str) -> Bool[Array, "E"]:
            judged = errors
            if protocol == "humanoid-gpt" and env.physics.ground is not None:  # it removes the first frame's offset
                judged = env.errors(task.store, _lowered(now, lift))
            return ~finite | terminations.failed(protocol, judged, now.physics.qpos)

        failed = failed | (valid[:, None] & jnp.stack([broken(protocol) for protocol in protocols], axis=-1))
        trace = Trace(
            valid,
            failed[:, 0],
            jnp.mean(jnp.abs(errors.joint_position), axis=-1),
            jnp.mean(jnp.abs(errors.joint_velocity), axis=-1),
            jnp.mean(errors.local_position, axis=-1),
            jnp.mean(errors.own_frame_axes, axis=-1),
            errors.root_velocity,
            env.in_clip(now, frame_at(task.store, now.clip, now.frame)[0]),
            failed[:, 1:],
        )
        if env.physics.ground is not None:
            left = left | env.physics.ground.near_edge(now.physics.qpos[..., :2])
        still = jnp.where(jnp.all(failed, axis=-1, keepdims=True), 0.0, now.physics.qvel)
        now = now._replace(physics=now.physics._replace(qvel=still))
        return Episodes(now, memory, failed, left, lift), trace

    return jax.lax.scan(body, episodes, step + jnp.arange(length))


def _lowered(state: EnvState, lift: Float[Array, "E"]) -> EnvState:
    """The robots so much (m) nearer to the ground."""
    return state._replace(physics=state.physics._replace(qpos=state.physics.qpos.at[..., 2].add(-lift)))


def make_player(
    physics: Physics,
    policy: Policy,
    protocol: str = "sonic",
    batched_params: bool = False,
    randomisation: Randomisation = _PLAIN,
    also: tuple[str, ...] = (),
) -> Callable[..., Trace]:
    """`play(params, store, starts, assist, horizon, key, variant, told)` -> a trace on the host.

    `key` (default 0) draws what `randomisation` leaves to an episode, `variant` (a number, or one per episode) says
    which of the physics' models each robot is, and `told(steps)` hears how far it is. With `batched_params` parameters,
    starts and trace have one more leading axis. One program serves every horizon. The same play is judged by the
    protocols of `also`: see `scores.judged`.
    """
    protocols = (protocol, *also)
    if not set(protocols) <= set(PROTOCOLS):
        raise ValueError(f"protocols {protocols}: of {PROTOCOLS}")
    env = TrackingEnv(physics, EnvConfig(randomisation=randomisation))

    def first(key: Array, store: ClipStore, starts: Starts, assist: Array, variant: Array) -> Episodes:
        return begin(env, policy, len(protocols), key, _task(store, starts, assist), starts, variant)

    def some(length: int, *arguments: Any) -> tuple[Episodes, Trace]:
        def one(
            params: Any, key: Array, store: ClipStore, starts: Starts, assist: Array, *now: Any
        ) -> tuple[Episodes, Trace]:
            return play(env, policy, protocols, length, params, key, _task(store, starts, assist), starts, *now)

        return (jax.vmap(one, in_axes=(0, None, None, 0, None, 0, None, None)) if batched_params else one)(*arguments)

    put_down = jax.jit(jax.vmap(first, in_axes=(None, None, 0, None, 0)) if batched_params else first)
    stretch = jax.jit(some, static_argnums=0)
    time = int(batched_params)

    def whole(
        params: Any,
        store: ClipStore,
        starts: Starts,
        assist: Float[Array, ""],
        horizon: int,
        key: Key[Array, ""] | None = None,
        variant: Int[np.ndarray, "E"] | int = 0,
        told: Callable[[int], None] = lambda steps: None,
    ) -> Trace:
        key = jax.random.key(0) if key is None else key
        variants = jnp.broadcast_to(jnp.asarray(variant, jnp.int32), starts.clip.shape)
        episodes = put_down(key, store, starts, assist, variants)
        length, awake, parts = min(_STRETCH, horizon), True, []
        for step in range(0, horizon, length):
            now = (episodes, jnp.asarray(step), jnp.asarray(awake))
            episodes, trace = stretch(length, params, key, store, starts, assist, *now)
            parts.append(jax.tree.map(np.asarray, trace))
            over = np.asarray(episodes.failed.all(axis=-1) | episodes.left | (step + length >= starts.steps))
            awake = not over.all()
            told(min(step + length, horizon))
        return Trace(*(np.concatenate(p, axis=time).take(range(horizon), axis=time) for p in zip(*parts, strict=True)))

    return whole


def _task(store: ClipStore, starts: Starts, assist: Float[Array, ""]) -> Task:
    return Task(store, starts.clip, jnp.ones(starts.clip.shape), assist)
