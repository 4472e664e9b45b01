"""The tracking environment: functional, batched, its clips an argument, its resets free of forward dynamics."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.contract.action import decode_action
from scaling.contract.observation import EXPERT_TERMS, Inputs, Privileged, Reference, Sensors, noise_scale, observe
from scaling.errors import InputError
from scaling.tracking import rewards, starts, terminations
from scaling.tracking.assist import harness_force
from scaling.tracking.episode import EnvConfig, EnvState, Step, Task, select
from scaling.tracking.errors import TrackingErrors, tracking_errors
from scaling.tracking.physics import Physics, PhysicsState
from scaling.tracking.reference import ClipStore, frame_at, reference_at
from scaling.tracking.terrain import ANCHOR_RADIUS

_DEFAULT = EnvConfig()


class TrackingEnv:
    """Pure functions `reset` and `step` over a batch, bound to a physics backend and a config.

    Raises InputError where the config has terrain and the physics a plane.
    """

    def __init__(self, physics: Physics, config: EnvConfig = _DEFAULT) -> None:
        if physics.ground is None and not config.randomisation.terrain.flat:
            raise InputError(
                f"the {physics.name} physics given here stands on a plane: draw its models with the terrain"
            )
        self.physics = physics
        self.config = config

    def observe(self, state: EnvState, store: ClipStore, key: Key[Array, ""] | None = None) -> Float[Array, "E obs"]:
        """All terms, the measured ones first (`EXPERT_TERMS`): a student's observation is its head.

        The encoders' bias is in it; the observation noise only where a `key` is given.
        """
        obs = self.seen(state, reference_at(store, state.clip, state.frame))
        return obs if key is None else obs + self.sensor_noise(key, obs.shape[:-1])

    def sensor_noise(self, key: Key[Array, ""], lead: tuple[int, ...]) -> Float[Array, "*lead obs"]:
        """What the sensors add to so many observations."""
        scale = self.config.randomisation.observation_noise
        width = scale * noise_scale(EXPERT_TERMS).astype(np.float32)
        if scale == 0:
            return jnp.zeros((*lead, len(width)))
        return jnp.asarray(width) * jax.random.uniform(key, (*lead, len(width)), minval=-1.0, maxval=1.0)

    def seen(self, state: EnvState, reference: Reference) -> Float[Array, "E obs"]:
        """`observe` without noise, of a reference that was looked up before."""
        qpos, qvel = state.physics
        joints = qpos[..., 7:] if state.encoder_bias is None else qpos[..., 7:] + state.encoder_bias
        return observe(
            EXPERT_TERMS,
            Inputs(
                Sensors(qpos[..., 3:7], qvel[..., 3:6], joints, qvel[..., 6:]),
                reference,
                state.last_action,
                Privileged(self.in_clip(state, reference.qpos)[..., :3], qvel[..., :3]),
            ),
        )

    def start(
        self, key: Key[Array, ""], task: Task, count: int, failures: Float[Array, "M B"] | None = None
    ) -> EnvState:
        """`count` fresh episodes: clip by weight, phase (by `failures` where adaptive), robot and noise drawn anew."""
        if failures is None and self.config.starts == "adaptive":
            failures = jnp.asarray(starts.no_failures(task.clips.shape[0], self.config.start_bins))
        clip_key, phase_key, noise_key, variant_key, begin_key = jax.random.split(key, 5)
        row = jax.random.choice(clip_key, len(task.clips), (count,), p=task.weights)
        clip = task.clips[row]
        phase = starts.phases(phase_key, row, failures)
        frame = jnp.floor(phase * starts.span(task.store.length[clip])).astype(jnp.int32)
        variant = jax.random.randint(variant_key, (count,), 0, self.physics.variants)
        physics = starts.noisy(noise_key, self.config.start_noise, *frame_at(task.store, clip, frame))
        return self.begin(begin_key, task, physics, clip, frame, variant)._replace(failures=failures)

    def begin(
        self,
        key: Key[Array, ""],
        task: Task,
        physics: PhysicsState,
        clip: Int[Array, "E"],
        frame: Int[Array, "E"],
        variant: Int[Array, "E"],
    ) -> EnvState:
        """Episodes of age 0 of robots in `physics` (in their clips' world, and put on the ground where it is uneven).

        Everything else that is random in an episode is drawn by `key`.
        """
        count, chance = clip.shape[0], self.config.randomisation
        push_key, bias_key, latency_key, anchor_key = jax.random.split(key, 4)
        state = EnvState(
            physics=physics,
            clip=clip,
            frame=frame,
            age=jnp.zeros((count,), jnp.int32),
            last_action=jnp.zeros((count, 29)),
            variant=variant,
            push_in=self._next_push(push_key, count),
        )
        if chance.encoder_bias > 0:
            bias = chance.encoder_bias * jax.random.uniform(bias_key, (count, 29), minval=-1.0, maxval=1.0)
            state = state._replace(encoder_bias=bias)
        if chance.latency[1] > 0:
            low, high = chance.latency
            state = state._replace(
                latency=jax.random.randint(latency_key, (count,), low, high + 1), pending=jnp.zeros((count, high, 29))
            )
        return state if self.physics.ground is None else self._grounded(anchor_key, task.store, state)

    def reset(self, key: Key[Array, ""], task: Task, count: int) -> tuple[EnvState, Float[Array, "E obs"]]:
        """A batch of fresh episodes of uneven age, so that they do not end in step, and its observation."""
        start_key, age_key = jax.random.split(key)
        state = self.start(start_key, task, count)
        age = jax.random.randint(age_key, (count,), 0, self.config.max_steps)
        state = state._replace(age=age)
        return state, self.observe(state, task.store, jax.random.fold_in(key, 2))

    def restart(
        self, key: Key[Array, ""], task: Task, state: EnvState, done: Bool[Array, "E"], failed: Bool[Array, "E"]
    ) -> EnvState:
        """`state` with fresh episodes where `done`; where starts are adaptive, the `failed` ones are counted first."""
        failures = state.failures
        if failures is not None:
            length = task.store.length[state.clip]
            failures = starts.count(failures, task.clips, task.weights, state.clip, state.frame, length, failed)
        fresh = self.start(key, task, done.shape[0], failures)._replace(failures=None)
        state = state._replace(failures=None)
        return select(done, fresh, state)._replace(failures=failures)

    def step(
        self, key: Key[Array, ""], task: Task, state: EnvState, action: Float[Array, "E 29"]
    ) -> tuple[EnvState, Step]:
        """One control step of every episode; those that end start again with everything re-drawn."""
        reset_key, control_key = jax.random.split(key)
        moved = self.control_step(control_key, task, state, action)
        errors = self.errors(task.store, moved)
        failed = terminations.failed(self.config.termination, errors, moved.physics.qpos)
        truncated = ~failed & self.over(task.store, moved)
        gain = rewards.reward(
            self.config.reward,
            rewards.RewardInputs(errors, moved.physics.qpos, action, state.last_action),
        )
        after = self.restart(reset_key, task, moved, failed | truncated, failed)
        return after, Step(
            obs=self.observe(after, task.store, jax.random.fold_in(key, 2)),
            reward=jnp.where(failed & ~jnp.isfinite(gain), 0.0, gain),
            failed=failed,
            truncated=truncated,
            joint_error=jnp.mean(jnp.abs(errors.joint_position), axis=-1),
            body_error=jnp.mean(errors.local_position, axis=-1),
        )

    def control_step(self, key: Key[Array, ""], task: Task, state: EnvState, action: Float[Array, "E 29"]) -> EnvState:
        """One control step of every episode as its robot lives it: delay, physics, harness, pushes; no judgement."""
        physics = self.advance(task, state, action)
        physics, push_in = self._push(key, physics, state.push_in)
        pending = state.pending
        if pending is not None:
            pending = jnp.concatenate([action[:, None], pending[:, :-1]], axis=1)
        return state._replace(
            physics=physics,
            frame=state.frame + 1,
            age=state.age + 1,
            last_action=action,
            push_in=push_in,
            pending=pending,
        )

    def advance(self, task: Task, state: EnvState, action: Float[Array, "E 29"]) -> PhysicsState:
        """Physics alone: the servos' targets and the harness, held over the control step."""
        reference_qpos, reference_qvel = frame_at(task.store, state.clip, state.frame)
        assist = jnp.broadcast_to(task.assist, state.clip.shape)
        force = harness_force(assist, self.in_clip(state, reference_qpos), reference_qpos, reference_qvel)
        ctrl = self.targets(task.store, state, action)
        return self.physics.step(state.physics, ctrl, force, assist, state.variant)

    def targets(self, store: ClipStore, state: EnvState, action: Float[Array, "E 29"]) -> Float[Array, "E 29"]:
        """Joint targets (rad, true angles) at work in this control step if `action` is the policy's newest.

        A late action keeps the reference that it was chosen for, and a servo reads the encoder that the policy reads.
        """
        frame = state.frame
        if state.latency is not None and state.pending is not None:
            known = jnp.concatenate([action[:, None], state.pending], axis=1)
            action = jnp.take_along_axis(known, state.latency[:, None, None], axis=1)[:, 0]
            frame = frame - state.latency
        ctrl = decode_action(action, *frame_at(store, state.clip, frame))
        return ctrl if state.encoder_bias is None else ctrl - state.encoder_bias

    def errors(self, store: ClipStore, state: EnvState) -> TrackingErrors:
        """Errors of the state against the reference at the same instant."""
        qpos, qvel = frame_at(store, state.clip, state.frame)
        return tracking_errors(self.in_clip(state, qpos), state.physics.qvel, qpos, qvel)

    def over(self, store: ClipStore, state: EnvState) -> Bool[Array, "E"]:
        """The clip, the time or the ground of the episode has run out."""
        out = (state.frame >= store.length[state.clip] - 1) | (state.age >= self.config.max_steps)
        if self.physics.ground is None:
            return out
        return out | self.physics.ground.near_edge(state.physics.qpos[..., :2])

    def in_clip(self, state: EnvState, reference_qpos: Float[Array, "E 36"]) -> Float[Array, "E 36"]:
        """The robots' `qpos` in the world of their clips: heights from the ground below the reference's root."""
        if state.anchor is None:
            return state.physics.qpos
        return state.physics.qpos.at[..., :3].add(-self._offset(state, reference_qpos))

    def _offset(self, state: EnvState, reference_qpos: Array) -> Float[Array, "E 3"]:
        """From the world of the clips to that of the ground (m)."""
        if state.anchor is None or self.physics.ground is None:
            return jnp.zeros_like(reference_qpos[..., :3])
        height = self.physics.ground(state.variant, reference_qpos[..., :2] + state.anchor)
        return jnp.concatenate([state.anchor, height[..., None]], axis=-1)

    def _grounded(self, key: Key[Array, ""], store: ClipStore, state: EnvState) -> EnvState:
        """Robots put down near the middle of their ground, no sole inside it."""
        if self.physics.ground is None:
            return state
        reference, _ = frame_at(store, state.clip, state.frame)
        count = reference.shape[0]
        radius_key, angle_key = jax.random.split(key)
        radius = ANCHOR_RADIUS * jnp.sqrt(jax.random.uniform(radius_key, (count,)))
        angle = jax.random.uniform(angle_key, (count,), maxval=2 * jnp.pi)
        place = radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        state = state._replace(anchor=place - reference[:, :2])
        qpos = state.physics.qpos.at[:, :3].add(self._offset(state, reference))
        lift = jnp.maximum(-self.physics.ground.clearance(state.variant, qpos), 0.0)
        return state._replace(physics=PhysicsState(qpos.at[:, 2].add(lift), state.physics.qvel))

    def _next_push(self, key: Key[Array, ""], count: int) -> Int[Array, "E"] | None:
        seconds = self.config.randomisation.push_seconds
        if seconds is None:
            return None
        return jax.random.randint(key, (count,), round(50 * seconds[0]), round(50 * seconds[1]) + 1)

    def _push(
        self, key: Key[Array, ""], physics: PhysicsState, push_in: Array | None
    ) -> tuple[PhysicsState, Array | None]:
        """A kick to the root's horizontal velocity where it is due."""
        kick_key, next_key = jax.random.split(key)
        following = None if push_in is None else self._next_push(next_key, push_in.shape[0])
        if push_in is None or following is None:
            return physics, None
        due = push_in <= 1
        kick = self.config.randomisation.kick(kick_key, push_in.shape[0]) * due[:, None]
        return PhysicsState(physics.qpos, physics.qvel.at[:, :2].add(kick)), jnp.where(due, following, push_in - 1)
