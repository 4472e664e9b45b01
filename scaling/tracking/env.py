"""The tracking environment: functional, batched, its clips an argument, its resets free of forward dynamics."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.contract.action import decode_action
from scaling.contract.observation import EXPERT_TERMS, Inputs, Privileged, Sensors, observe
from scaling.robot.rotations import from_rotation_vector, normalise, quat_mul
from scaling.tracking import rewards, terminations
from scaling.tracking.assist import harness_force
from scaling.tracking.errors import TrackingErrors, tracking_errors
from scaling.tracking.physics import Physics, PhysicsState
from scaling.tracking.randomise import Randomisation
from scaling.tracking.reference import ClipStore, frame_at, reference_at


@dataclass(frozen=True)
class EnvConfig:
    """What one episode is: presets by name, its longest time, and the noise of its start."""

    reward: str = "tracking"
    termination: str = "beyondmimic"
    episode_seconds: float = 10.0
    start_noise: float = 1.0
    randomisation: Randomisation = Randomisation()

    def __post_init__(self) -> None:
        if self.reward not in rewards.PRESETS:
            raise ValueError(f"reward {self.reward!r}: one of {sorted(rewards.PRESETS)}")
        if self.termination not in terminations.FAILURES:
            raise ValueError(f"termination {self.termination!r}: one of {sorted(terminations.FAILURES)}")
        if self.episode_seconds < 0.1 or self.start_noise < 0:
            raise ValueError(f"episode_seconds {self.episode_seconds}, start_noise {self.start_noise}")

    @property
    def max_steps(self) -> int:
        """Control steps in the longest episode."""
        return round(self.episode_seconds * 50)


class Task(NamedTuple):
    """What one batch of environments tracks; `weights` of 0 pad a cluster's list of clips."""

    store: ClipStore
    clips: Int[Array, "M"]
    weights: Float[Array, "M"]
    assist: Float[Array, ""]


class EnvState(NamedTuple):
    """A batch of episodes in flight."""

    physics: PhysicsState
    clip: Int[Array, "E"]
    frame: Int[Array, "E"]
    age: Int[Array, "E"]
    last_action: Float[Array, "E 29"]
    variant: Int[Array, "E"]
    push_in: Int[Array, "E"]


class Step(NamedTuple):
    """What one control step gave; `obs` already belongs to the next episode where `done`."""

    obs: Float[Array, "E obs"]
    reward: Float[Array, "E"]
    failed: Bool[Array, "E"]
    truncated: Bool[Array, "E"]
    joint_error: Float[Array, "E"]
    body_error: Float[Array, "E"]

    @property
    def done(self) -> Bool[Array, "E"]:
        """The episode ended, by failure or by its clip or time running out."""
        return self.failed | self.truncated


# BeyondMimic's start noise: root position (m), root tilt and heading (rad), joints (rad).
_POSITION_NOISE = jnp.array([0.05, 0.05, 0.01])
_TURN_NOISE = jnp.array([0.1, 0.1, 0.2])
_JOINT_NOISE = 0.1
_LINEAR_NOISE = jnp.array([0.5, 0.5, 0.2])
_ANGULAR_NOISE = jnp.array([0.52, 0.52, 0.78])
_SHORTEST_RUN = 10  # frames that must be left of a clip where an episode starts


class TrackingEnv:
    """Pure functions `reset` and `step` over a batch, bound to a physics backend and a config."""

    def __init__(self, physics: Physics, config: EnvConfig = EnvConfig()) -> None:
        self.physics = physics
        self.config = config

    def observe(self, state: EnvState, store: ClipStore) -> Float[Array, "E obs"]:
        """All terms, the measured ones first (`EXPERT_TERMS`): a student's observation is its head."""
        qpos, qvel = state.physics
        return observe(
            EXPERT_TERMS,
            Inputs(
                Sensors(qpos[..., 3:7], qvel[..., 3:6], qpos[..., 7:], qvel[..., 6:]),
                reference_at(store, state.clip, state.frame),
                state.last_action,
                Privileged(qpos[..., :3], qvel[..., :3]),
            ),
        )

    def start(self, key: Key[Array, ""], task: Task, count: int) -> EnvState:
        """`count` fresh episodes: clip by weight, phase, robot and noise all drawn anew."""
        clip_key, phase_key, noise_key, variant_key, push_key = jax.random.split(key, 5)
        clip = task.clips[jax.random.choice(clip_key, len(task.clips), (count,), p=task.weights)]
        span = jnp.maximum(task.store.length[clip] - _SHORTEST_RUN, 1)
        frame = jnp.floor(jax.random.uniform(phase_key, (count,)) * span).astype(jnp.int32)
        variant = jax.random.randint(variant_key, (count,), 0, self.physics.variants)
        physics = self._noisy(noise_key, *frame_at(task.store, clip, frame))
        zeros = jnp.zeros((count,), jnp.int32)
        return EnvState(physics, clip, frame, zeros, jnp.zeros((count, 29)), variant, self._next_push(push_key, count))

    def reset(self, key: Key[Array, ""], task: Task, count: int) -> tuple[EnvState, Float[Array, "E obs"]]:
        """A batch of fresh episodes of uneven age, so that they do not end in step, and its observation."""
        start_key, age_key = jax.random.split(key)
        state = self.start(start_key, task, count)
        age = jax.random.randint(age_key, (count,), 0, self.config.max_steps)
        state = state._replace(age=age)
        return state, self.observe(state, task.store)

    def step(
        self, key: Key[Array, ""], task: Task, state: EnvState, action: Float[Array, "E 29"]
    ) -> tuple[EnvState, Step]:
        """One control step of every episode; those that end start again with everything re-drawn."""
        reset_key, push_key = jax.random.split(key)
        physics = self.advance(task, state, action)
        physics, push_in = self._push(push_key, physics, state.push_in)
        frame, age = state.frame + 1, state.age + 1
        reference_qpos, reference_qvel = frame_at(task.store, state.clip, frame)
        errors = tracking_errors(physics.qpos, physics.qvel, reference_qpos, reference_qvel)
        failed = terminations.failed(self.config.termination, errors, physics.qpos)
        truncated = ~failed & ((frame >= task.store.length[state.clip] - 1) | (age >= self.config.max_steps))
        gain = rewards.reward(
            self.config.reward,
            rewards.RewardInputs(errors, physics.qpos[..., 7:], action, state.last_action),
        )
        moved = EnvState(physics, state.clip, frame, age, action, state.variant, push_in)
        fresh = self.start(reset_key, task, frame.shape[0])
        done = failed | truncated
        after = jax.tree.map(lambda new, old: jnp.where(_like(done, new), new, old), fresh, moved)
        return after, Step(
            obs=self.observe(after, task.store),
            reward=jnp.where(failed & ~jnp.isfinite(gain), 0.0, gain),
            failed=failed,
            truncated=truncated,
            joint_error=jnp.mean(jnp.abs(errors.joint_position), axis=-1),
            body_error=jnp.mean(errors.local_position, axis=-1),
        )

    def advance(self, task: Task, state: EnvState, action: Float[Array, "E 29"]) -> PhysicsState:
        """Physics alone: the servos' targets and the harness, held over the control step."""
        reference_qpos, reference_qvel = frame_at(task.store, state.clip, state.frame)
        ctrl = decode_action(action, reference_qpos, reference_qvel)
        assist = jnp.broadcast_to(task.assist, state.clip.shape)
        force = harness_force(assist, state.physics.qpos, reference_qpos, reference_qvel)
        return self.physics.step(state.physics, ctrl, force, assist, state.variant)

    def errors(self, store: ClipStore, state: EnvState) -> TrackingErrors:
        """Errors of the state against the reference at the same instant."""
        return tracking_errors(*state.physics, *frame_at(store, state.clip, state.frame))

    def _noisy(self, key: Key[Array, ""], qpos: Array, qvel: Array) -> PhysicsState:
        scale = self.config.start_noise
        keys = jax.random.split(key, 5)

        def noise(index: int, shape: tuple[int, ...]) -> Array:
            return scale * jax.random.uniform(keys[index], shape, minval=-1.0, maxval=1.0)

        count = qpos.shape[0]
        turn = from_rotation_vector(_TURN_NOISE * noise(1, (count, 3)))
        return PhysicsState(
            jnp.concatenate(
                [
                    qpos[:, :3] + _POSITION_NOISE * noise(0, (count, 3)),
                    normalise(quat_mul(turn, qpos[:, 3:7])),
                    qpos[:, 7:] + _JOINT_NOISE * noise(2, (count, 29)),
                ],
                axis=-1,
            ),
            jnp.concatenate(
                [
                    qvel[:, :3] + _LINEAR_NOISE * noise(3, (count, 3)),
                    qvel[:, 3:6] + _ANGULAR_NOISE * noise(4, (count, 3)),
                    qvel[:, 6:],
                ],
                axis=-1,
            ),
        )

    def _next_push(self, key: Key[Array, ""], count: int) -> Int[Array, "E"]:
        seconds = self.config.randomisation.push_seconds
        if seconds is None:
            return jnp.full((count,), jnp.iinfo(jnp.int32).max, jnp.int32)
        return jax.random.randint(key, (count,), round(50 * seconds[0]), round(50 * seconds[1]) + 1)

    def _push(self, key: Key[Array, ""], physics: PhysicsState, push_in: Array) -> tuple[PhysicsState, Array]:
        if self.config.randomisation.push_seconds is None:
            return physics, push_in
        kick_key, next_key = jax.random.split(key)
        count = push_in.shape[0]
        due = push_in <= 1
        speed = self.config.randomisation.push_speed
        kick = jax.random.uniform(kick_key, (count, 2), minval=-speed, maxval=speed) * due[:, None]
        qvel = physics.qvel.at[:, :2].add(kick)
        return PhysicsState(physics.qpos, qvel), jnp.where(due, self._next_push(next_key, count), push_in - 1)


def _like(mask: Array, value: Any) -> Array:
    return mask.reshape(mask.shape + (1,) * (value.ndim - mask.ndim))
