"""Roll-outs of a policy in the learned simulator, differentiable from the reward of a step to the actions before it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from scaling.contract.action import decode_action
from scaling.contract.observation import Reference
from scaling.dynamics.data import Transitions
from scaling.dynamics.model import Dream, ModelConfig, clip_cotangent, step
from scaling.tracking import rewards
from scaling.tracking.env import EnvState, Task, TrackingEnv
from scaling.tracking.errors import compare, key_bodies
from scaling.tracking.evaluate import Policy
from scaling.tracking.physics import PhysicsState
from scaling.tracking.reference import frame_at, reference_at


class Imagination(NamedTuple):
    """What every roll-out shares: how long and noisy it is, what it earns, and how far a gradient may grow."""

    horizon: int
    noise: float
    reward: str
    cotangent_limit: float
    model: ModelConfig


class Imagined(NamedTuple):
    """Roll-outs: the reward of each step, if it counts, and what perfect sensors saw before it (and after the last)."""

    reward: Float[Array, "H B"]
    counts: Bool[Array, "H B"]
    obs: Float[Array, "H+1 B obs"]


class Happened(NamedTuple):
    """Steps that really happened, time first: targets, outcomes, and which are of the roll-out's episode."""

    ctrl: Float[Array, "H B 29"]
    after: PhysicsState
    belongs: Bool[Array, "H B"]


def episodes(rows: Transitions, after: bool = False) -> EnvState:
    """Episodes standing at the start (or the end) of each of these steps."""
    zeros = jnp.zeros(rows.clip.shape, jnp.int32)
    return EnvState(
        physics=rows.after if after else rows.before,
        clip=rows.clip,
        frame=rows.frame + int(after),
        age=zeros,
        last_action=rows.last_action,
        variant=zeros,
    )


def remember(env: TrackingEnv, policy: Policy, params: Any, task: Task, past: Transitions) -> Any:
    """The policy's memory after these stretches [B, W, ...] of what really happened."""

    def body(memory: Any, given: Any) -> tuple[Any, None]:
        obs, first = given
        return policy.act(params, memory, obs, first)[1], None

    obs = env.observe(episodes(past), task.store)
    first = jnp.concatenate([jnp.ones((past.ends.shape[0], 1), bool), past.ends[:, :-1]], axis=1)
    memory = policy.init(past.ends.shape[0])
    return jax.lax.scan(body, memory, (jnp.swapaxes(obs, 0, 1), first.T))[0]


def imagine(
    how: Imagination,
    env: TrackingEnv,
    policy: Policy,
    params: Any,
    dream: Dream,
    task: Task,
    start: EnvState,
    memory: Any,
    first: Bool[Array, "B"],
    key: Key[Array, ""],
    true: Happened | None = None,
) -> Imagined:
    """`horizon` control steps from each start; with `true` the states are those given, the derivatives the model's.

    What does not hang on the roll-out before (the reference) or after (the reward) stands outside the loop over time.
    """
    store, batch = task.store, start.clip.shape[0]
    clip = jnp.broadcast_to(start.clip, (how.horizon + 1, batch))
    frame = start.frame + jnp.arange(how.horizon + 1)[:, None]
    references = reference_at(store, clip, frame)
    action_key, sense_key = jax.random.split(key)
    noise = how.noise * jax.random.normal(action_key, (how.horizon, batch, 29))
    sensed = env.sensor_noise(sense_key, (how.horizon, batch))

    def seen(physics: PhysicsState, last_action: Array, reference: Reference) -> Array:
        return env.seen(start._replace(physics=physics, last_action=last_action), reference)

    def body(carry: Any, given: Any) -> tuple[Any, Any]:
        physics, last_action, memory, first = carry
        reference, noise, sensed, true = given
        physics = clip_cotangent(how.cotangent_limit, physics)
        obs = seen(physics, last_action, reference)
        action, memory = policy.act(params, memory, obs + sensed, first)
        action = action + noise
        ctrl = decode_action(action, reference.qpos, reference.qvel)
        if true is not None:
            ctrl = valued(true.ctrl, ctrl)
        physics = step(how.model, dream, physics, ctrl)
        if true is not None:
            physics = jax.tree.map(valued, true.after, physics)
        return (physics, action, memory, jnp.zeros_like(first)), (obs, physics, action, last_action)

    now = jax.tree.map(lambda x: x[:-1], references)
    last, (obs, physics, action, before) = jax.lax.scan(
        body, (start.physics, start.last_action, memory, first), (now, noise, sensed, true)
    )
    final = seen(last[0], last[1], jax.tree.map(lambda x: x[-1], references))
    wanted = key_bodies(*frame_at(store, clip[1:], frame[1:]))
    errors = compare(key_bodies(*physics), wanted)
    gain = rewards.reward(how.reward, rewards.RewardInputs(errors, physics.qpos, action, before))
    counts = frame[:-1] < store.length[start.clip] - 1
    if true is not None:
        counts = counts & true.belongs
    return Imagined(gain, counts, jnp.concatenate([obs, final[None]]))


def valued(value: Array, derivative: Array) -> Array:
    """The first argument, with the second's derivatives."""
    return jax.lax.stop_gradient(value - derivative) + derivative
