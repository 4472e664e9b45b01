"""Experts by back-propagation through a learned simulator: play, learn how the robot moves, improve in imagination.

SuperTrack (Fussell et al. 2021) and its successors: one model of the robot's motion for all experts, learned from the
play of all, and each actor follows the gradient of its reward through imagined roll-outs. No estimator of the policy
gradient, no advantages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics, specs
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.dynamics.data import CollectConfig, Play, Transitions, Window, advance, begin
from scaling.dynamics.model import Dream, ModelConfig, clip_cotangent, init, measure_scales, step
from scaling.dynamics.train import TrainConfig, losses
from scaling.experts.bank import Bank, act
from scaling.experts.warmstart import clone
from scaling.robot.g1 import NUM_JOINTS
from scaling.tracking import rewards
from scaling.tracking.env import EnvConfig, EnvState, Task, TrackingEnv
from scaling.tracking.episode import select
from scaling.tracking.errors import compare, key_bodies
from scaling.tracking.evaluate import Policy
from scaling.tracking.physics import PhysicsState
from scaling.tracking.reference import frame_at

OPTIMISERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": optax.scale_by_adam,
    "muon": lambda: optax.contrib.muon(-1.0),  # matrices by Muon, biases by Adam; the rate and its sign are ours
}
GRADIENTS = ("imagined", "true")
_MIN_STD = 0.05  # an entry that hardly varied yet must not be blown up when it starts to


@dataclass(frozen=True)
class DreamConfig:
    """Figures of one bank's training in a learned simulator; `envs` and `iterations` are per expert.

    An iteration: every expert plays `unroll` control steps with noise into its memory of the last `memory` steps of
    each environment; the model that all share makes `model_updates`; each actor makes `actor_updates` of `actor_batch`
    roll-outs of `horizon` steps. In the first `head_start` iterations the model alone learns. With `gradients` "true"
    a roll-out keeps to the states that the simulator gave and only its derivatives are the model's (DMO).
    """

    envs: int = 64
    unroll: int = 16
    iterations: int = 300
    memory: int = 256
    head_start: int = 5
    hidden: tuple[int, ...] = (256, 128)
    noise: float = 0.15
    warm_start: float = 2.0
    horizon: int = 32
    gradients: str = "imagined"
    actor_updates: int = 16
    actor_batch: int = 32
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    average: float = 0.98
    cotangent_limit: float = 10.0
    max_grad_norm: float = 1.0
    model: ModelConfig = field(default_factory=ModelConfig)
    model_updates: int = 24
    dynamics: TrainConfig = field(default_factory=lambda: TrainConfig(window=6, batch=512))
    env: EnvConfig = field(default_factory=lambda: EnvConfig(reward="absolute"))

    def __post_init__(self) -> None:
        for name in ("envs", "unroll", "iterations", "horizon", "actor_updates", "actor_batch", "model_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: at least 1")
        longest = max(self.horizon, self.dynamics.window)
        if self.memory % self.unroll or self.memory < max(longest, self.unroll):
            raise ValueError(
                f"memory {self.memory}: a multiple of unroll {self.unroll}, and not shorter than a roll-out ({longest})"
            )
        if self.gradients == "true" and self.horizon > self.unroll:
            raise ValueError(f"horizon {self.horizon}: with true states at most unroll, {self.unroll}")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser {self.optimiser!r}: one of {sorted(OPTIMISERS)}")
        if self.gradients not in GRADIENTS:
            raise ValueError(f"gradients {self.gradients!r}: one of {GRADIENTS}")
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"average {self.average}: at least 0 and below 1")
        if self.env.randomisation.variants > 1 or self.env.randomisation.latency[1] > 0:
            raise ValueError("a learned simulator is of one robot without delay: leave randomisation out")

    @property
    def assist(self) -> float:
        """The learned simulator knows no harness."""
        return 0.0

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one expert in one iteration."""
        return self.envs * self.unroll


class Actor(NamedTuple):
    """A network of dense layers, first to last."""

    kernels: tuple[Float[Array, "i o"], ...]
    biases: tuple[Float[Array, "o"], ...]


class ExpertState(NamedTuple):
    """One expert in training (stacked along a leading axis for a bank); `average` is what plays and is kept.

    `memory` holds the last control steps of each environment, in a ring along time.
    """

    actor: Actor
    average: Actor
    optimiser: Any
    statistics: running_statistics.RunningStatisticsState
    play: Play
    memory: Transitions
    key: UInt32[Array, "2"]
    iteration: Int[Array, ""]
    restored: Int[Array, ""]


class SharedState(NamedTuple):
    """The model of the robot's motion, its optimiser, the balance of its loss, and a key."""

    dream: Dream
    optimiser: Any
    balance: dict[str, Float[Array, ""]]
    key: UInt32[Array, "2"]


class DreamState(NamedTuple):
    """A bank in training."""

    experts: ExpertState
    shared: SharedState

    @property
    def iteration(self) -> Int[Array, "K"]:
        """Of each expert."""
        return self.experts.iteration

    @property
    def restored(self) -> Int[Array, "K"]:
        """Updates undone, of each expert."""
        return self.experts.restored


class DreamMetrics(NamedTuple):
    """Of one iteration, per expert; `dreamed` is the reward of an imagined step, `model_error` the model's loss."""

    reward: Float[Array, ""]
    failure_rate: Float[Array, ""]
    joint_error: Float[Array, ""]
    body_error: Float[Array, ""]
    dreamed: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    model_error: Float[Array, ""]


def _policy(bank: Bank, obs: Float[Array, "E obs"]) -> Float[Array, "E 29"]:
    return act(jax.tree.map(lambda x: x[None], bank), obs[None])[0]


PLAYER = Policy(init=lambda batch: (), act=lambda bank, state, obs, first: (_policy(bank, obs), state))


def _bank(actor: Actor, statistics: running_statistics.RunningStatisticsState) -> Bank:
    return Bank(actor.kernels, actor.biases, Normaliser(statistics.mean, statistics.std))


def dreamed_bank(state: DreamState) -> Bank:
    """The averaged actors of a bank in training."""
    return _bank(state.experts.average, state.experts.statistics)


def init_actor(key: Key[Array, ""], hidden: tuple[int, ...]) -> Actor:
    """A fresh actor whose last layer is near zero: it plays the reference."""
    shapes = list(pairwise((observation_dim(EXPERT_TERMS), *hidden, NUM_JOINTS)))
    scales = [1.0] * len(hidden) + [1e-4]
    kernels = [
        jax.nn.initializers.variance_scaling(scale, "fan_in", "uniform")(one, shape)
        for scale, one, shape in zip(scales, jax.random.split(key, len(shapes)), shapes, strict=True)
    ]
    return Actor(tuple(kernels), tuple(jnp.zeros(outputs) for _, outputs in shapes))


class Dreamer:
    """Trains a bank: `init`, then `iterate` until the budget is spent; both on all experts at once.

    With an `axis` it runs on each device of a mesh of that name, on the device's own experts: the model's gradient is
    averaged over devices, so that all hold the same model.
    """

    def __init__(self, env: TrackingEnv, config: DreamConfig, axis: str | None = None) -> None:
        self.env = env
        self.config = config
        self.axis = axis
        noise = CollectConfig(config.envs, config.unroll, config.noise)
        self._noise = noise
        clip = optax.clip_by_global_norm(config.max_grad_norm)
        self._actor = optax.chain(clip, OPTIMISERS[config.optimiser]())
        self._model = optax.chain(optax.clip_by_global_norm(config.dynamics.gradient_norm), optax.scale_by_radam())

    # All experts at once -----------------------------------------------------------------------------------------

    def init(self, keys: UInt32[Array, "K 2"], task: Task) -> DreamState:
        """Fresh experts with a memory of their first steps, and an untrained model of the robot that made them."""
        experts = self._over(self._first)(jax.random.wrap_key_data(keys), task)
        key, model_key, window_key = jax.random.split(jax.random.wrap_key_data(self._common(keys[0])), 3)
        rows = jax.tree.map(lambda x: x[:, : self.config.unroll].reshape(-1, *x.shape[3:]), experts.memory)
        rows = _finite(rows)[0]
        scales = measure_scales(self.config.model, rows.before, rows.ctrl, rows.after)
        dream = init(self.config.model, model_key, jax.tree.map(self._mean, scales))
        window = self._windows(window_key, experts)
        found = jax.tree.map(self._mean, losses(self.config.model, self.config.dynamics, dream, window))
        balance = {name: 1.0 / (len(found) * jnp.maximum(value, 1e-6)) for name, value in found.items()}
        return DreamState(
            experts, SharedState(dream, self._model.init(dream.params), balance, jax.random.key_data(key))
        )

    def iterate(self, state: DreamState, task: Task) -> tuple[DreamState, DreamMetrics]:
        """Play, model, actors. What is not finite is undone: of an actor alone, or of the model."""
        experts, seen = self._over(self._played)(state.experts, task)
        shared, model_error = self._learn(state.shared, experts)
        dream = shared.dream
        improve = lambda expert, task: self._improve(expert, dream, task)  # noqa: E731
        experts, dreamed, norm = self._over(improve)(experts, task)
        reward, failures, joint, body = seen
        metrics = DreamMetrics(
            reward, failures, joint, body, dreamed, norm, jnp.broadcast_to(model_error, dreamed.shape)
        )
        spent = state.experts.iteration >= self.config.iterations
        return DreamState(select(spent, state.experts, experts), shared), metrics

    def _over(self, function: Any) -> Any:
        return jax.vmap(function, in_axes=(0, Task(None, 0, 0, None)))  # type: ignore[arg-type]

    def _mean(self, value: Array) -> Array:
        return value if self.axis is None else jax.lax.pmean(value, self.axis)

    def _common(self, key: UInt32[Array, "2"]) -> UInt32[Array, "2"]:
        """Device 0's, on every device."""
        return key if self.axis is None else jax.lax.all_gather(key, self.axis)[0]

    # One expert --------------------------------------------------------------------------------------------------

    def _first(self, key: Key[Array, ""], task: Task) -> ExpertState:
        config = self.config
        actor_key, clone_key, start_key, play_key, key = jax.random.split(key, 5)
        actor = init_actor(actor_key, config.hidden)
        statistics = running_statistics.init_state(specs.Array((observation_dim(EXPERT_TERMS),), jnp.dtype("float32")))
        if config.warm_start > 0:
            actor, statistics = clone(
                clone_key, self.env, task, config.envs, config.warm_start, actor, (statistics, _absorb),
                lambda statistics, actor, obs: _policy(_bank(actor, statistics), obs),
            )  # fmt: skip
        # Brax leaves this one weakly typed, and a restored checkpoint would compile again.
        statistics = statistics.replace(std_eps=jnp.asarray(statistics.std_eps, jnp.float32))
        play = begin(start_key, self.env, PLAYER, self._noise, task)
        bank = _bank(actor, statistics)
        play, rows = advance(self.env, PLAYER, self._noise, config.unroll, bank, task, play_key, play)
        empty = jax.tree.map(lambda x: jnp.zeros((config.memory, *x.shape[1:]), x.dtype), rows)
        return ExpertState(
            actor, actor, self._actor.init(actor), statistics, play, _written(empty, rows, 0),
            jax.random.key_data(key), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32),
        )  # fmt: skip

    def _played(self, state: ExpertState, task: Task) -> tuple[ExpertState, tuple[Array, ...]]:
        """The expert after `unroll` more steps; their failures, and while nobody fell reward, joint and body error."""
        config = self.config
        key, play_key = jax.random.split(jax.random.wrap_key_data(state.key))
        bank = _bank(state.average, state.statistics)
        play, rows = advance(self.env, PLAYER, self._noise, config.unroll, bank, task, play_key, state.play)
        at = (state.iteration + 1) % (config.memory // config.unroll) * config.unroll
        rows, _ = _finite(rows)
        after = self._episodes(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows), after=True)
        errors = self.env.errors(task.store, after)
        obs = self.env.observe(after, task.store)
        state = state._replace(
            play=play,
            memory=_written(state.memory, rows, at),
            statistics=_absorb(state.statistics, obs),
            key=jax.random.key_data(key),
            iteration=state.iteration + 1,
        )
        gain = rewards.reward(
            config.env.reward, rewards.RewardInputs(errors, after.physics.qpos, after.last_action, after.last_action)
        )
        up = ~rows.failed.reshape(-1)

        def mean(values: Array) -> Array:
            return jnp.sum(jnp.where(up, values, 0.0)) / jnp.maximum(jnp.sum(up), 1)

        return state, (
            mean(gain),
            jnp.mean(rows.ends & rows.failed),  # a fall is played on for some steps and counted once
            mean(jnp.mean(jnp.abs(errors.joint_position), axis=-1)),
            mean(jnp.mean(errors.local_position, axis=-1)),
        )

    def _episodes(self, rows: Transitions, after: bool = False) -> EnvState:
        """Episodes standing at the start (or the end) of each of these steps."""
        count = rows.clip.shape[0]
        zeros = jnp.zeros((count,), jnp.int32)
        return EnvState(
            physics=rows.after if after else rows.before,
            clip=rows.clip,
            frame=rows.frame + int(after),
            age=zeros,
            last_action=rows.last_action,
            variant=zeros,
        )

    def _filled(self, iteration: Int[Array, ""]) -> Int[Array, ""]:
        """Steps of each environment that the memory holds."""
        return jnp.minimum((iteration + 1) * self.config.unroll, self.config.memory)

    def _newest(self, iteration: Int[Array, ""]) -> Int[Array, ""]:
        """Where the newest step stands in the ring."""
        return (iteration * self.config.unroll) % self.config.memory + self.config.unroll - 1

    def _rows(
        self, key: Key[Array, ""], state: ExpertState, batch: int, width: int, latest: int | None = None
    ) -> tuple[Transitions, Float[Array, "B W"]]:
        """`batch` stretches of `width` steps of the memory, and 1 where a step belongs to its stretch's episode.

        Of the whole memory, or of the `latest` steps of each environment.
        """
        env_key, time_key = jax.random.split(key)
        env = jax.random.randint(env_key, (batch,), 0, self.config.envs)
        held = self._filled(state.iteration)
        reach = held if latest is None else jnp.minimum(latest, held)
        oldest = self._newest(state.iteration) + 1 - reach  # below 0 it stands at the ring's end
        first = jax.random.randint(time_key, (batch, 1), 0, reach - width + 1)
        time = (oldest + first + jnp.arange(width)) % self.config.memory
        rows, finite = _finite(jax.tree.map(lambda x: x[time, env[:, None]], state.memory))
        before = jnp.concatenate([jnp.zeros((batch, 1), bool), rows.ends[:, :-1]], axis=1)
        return rows, (jnp.cumsum(before | ~finite, axis=1) == 0).astype(jnp.float32)

    # The model ---------------------------------------------------------------------------------------------------

    def _windows(self, key: Key[Array, ""], experts: ExpertState) -> Window:
        """A batch of windows, as many of each expert's."""
        count = experts.iteration.shape[0]
        width, batch = self.config.dynamics.window, -(-self.config.dynamics.batch // count)
        draw = jax.vmap(lambda key, state: self._rows(key, state, batch, width))
        rows, weight = draw(jax.random.split(key, count), experts)
        rows, weight = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (rows, weight))
        start = PhysicsState(rows.qpos[:, 0], rows.qvel[:, 0])
        return Window(start, rows.ctrl, rows.after, weight)

    def _learn(self, shared: SharedState, experts: ExpertState) -> tuple[SharedState, Float[Array, ""]]:
        config = self.config
        key, draw_key = jax.random.split(jax.random.wrap_key_data(shared.key))
        if self.axis is not None:
            draw_key = jax.random.fold_in(draw_key, jax.lax.axis_index(self.axis))
        progress = jnp.mean(experts.iteration.astype(jnp.float32)) / config.iterations
        rate = config.dynamics.learning_rate * _cosine(self._mean(progress))
        scales = shared.dream.scales

        def loss(params: Any, window: Window) -> Array:
            found = losses(config.model, config.dynamics, Dream(params, scales), window)
            return sum((shared.balance[name] * value for name, value in found.items()), jnp.zeros(()))

        def update(carry: Any, key: Array) -> tuple[Any, Array]:
            params, moments = carry
            value, grads = jax.value_and_grad(loss)(params, self._windows(key, experts))
            value, grads = jax.tree.map(self._mean, (value, grads))
            change, after = self._model.update(grads, moments, params)
            healthy = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(grads))
            stepped = jax.tree.map(lambda p, c: p - rate * c, params, change)
            return _kept(healthy, (stepped, after), (params, moments)), value

        start = (shared.dream.params, shared.optimiser)
        (params, moments), values = jax.lax.scan(update, start, jax.random.split(draw_key, config.model_updates))
        return SharedState(Dream(params, scales), moments, shared.balance, jax.random.key_data(key)), jnp.mean(values)

    # The actor ---------------------------------------------------------------------------------------------------

    def _improve(self, state: ExpertState, dream: Dream, task: Task) -> tuple[ExpertState, Array, Array]:
        """The expert after its updates, the reward of an imagined step, and the norm of the gradient."""
        config = self.config
        key, draw_key = jax.random.split(jax.random.wrap_key_data(state.key))
        progress = state.iteration.astype(jnp.float32) / config.iterations
        rate = jnp.where(state.iteration <= config.head_start, 0.0, config.learning_rate * _cosine(progress))

        def update(carry: Any, key: Array) -> tuple[Any, Any]:
            actor, average, moments, undone = carry
            row_key, noise_key = jax.random.split(key)
            rows, weight = self._rows(row_key, state, config.actor_batch, *self._reach)
            loss = lambda actor: self._imagined(actor, state.statistics, dream, task, rows, weight, noise_key)  # noqa: E731
            value, grads = jax.value_and_grad(loss)(actor)
            norm = optax.tree.norm(grads)
            change, after = self._actor.update(grads, moments, actor)
            stepped = jax.tree.map(lambda p, c: p - rate * c, actor, change)
            healthy = jnp.isfinite(value) & jnp.isfinite(norm)
            actor, moments = _kept(healthy, (stepped, after), (actor, moments))
            average = jax.tree.map(lambda a, p: config.average * a + (1.0 - config.average) * p, average, actor)
            return (actor, average, moments, undone + ~healthy), (value, norm)

        start = (state.actor, state.average, state.optimiser, state.restored)
        keys = jax.random.split(draw_key, config.actor_updates)
        (actor, average, moments, undone), (values, norms) = jax.lax.scan(update, start, keys)
        state = state._replace(
            actor=actor, average=average, optimiser=moments, restored=undone, key=jax.random.key_data(key)
        )
        return state, -jnp.mean(values), jnp.mean(norms)

    @property
    def _reach(self) -> tuple[int, int | None]:
        """Steps of the memory that a roll-out reads, and of which latest ones: its start; or with true states, which
        have to be those of the policy of the day, all along.
        """
        return (self.config.horizon, self.config.unroll) if self.config.gradients == "true" else (1, None)

    def _imagined(
        self,
        actor: Actor,
        statistics: running_statistics.RunningStatisticsState,
        dream: Dream,
        task: Task,
        rows: Transitions,
        weight: Float[Array, "B W"],
        key: Key[Array, ""],
    ) -> Float[Array, ""]:
        """Minus the mean reward of a step of roll-outs from the first of these rows on."""
        config, bank = self.config, _bank(actor, statistics)
        first = jax.tree.map(lambda x: x[:, 0], rows)
        start = self._episodes(first)
        upright = weight[:, 0] * ~first.failed
        ahead = first.frame + 1 + jnp.arange(config.horizon)[:, None]
        wanted = key_bodies(*frame_at(task.store, jnp.broadcast_to(first.clip, ahead.shape), ahead))
        true = None
        if config.gradients == "true":
            true = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (rows, weight))

        def body(state: EnvState, given: Any) -> tuple[EnvState, tuple[Array, Array]]:
            key, wanted, true = given
            state = state._replace(physics=clip_cotangent(config.cotangent_limit, state.physics))
            action = _policy(bank, self.env.observe(state, task.store))
            action = action + config.noise * jax.random.normal(key, action.shape)
            ctrl = self.env.targets(task.store, state, action)
            counts = state.frame < task.store.length[state.clip] - 1
            if true is not None:
                rows, belongs = true
                counts = counts & (belongs > 0)
                ctrl = _valued(rows.ctrl, ctrl)
            physics = step(config.model, dream, state.physics, ctrl)
            if true is not None:
                physics = jax.tree.map(_valued, rows.after, physics)
            moved = state._replace(physics=physics, frame=state.frame + 1, last_action=action)
            errors = compare(key_bodies(physics.qpos, physics.qvel), wanted)
            inputs = rewards.RewardInputs(errors, physics.qpos, action, state.last_action)
            return moved, (rewards.reward(config.env.reward, inputs), counts)

        keys = jax.random.split(key, config.horizon)
        _, (gain, counts) = jax.lax.scan(body, start, (keys, wanted, true))
        counts = counts * upright
        return -jnp.sum(jnp.where(counts > 0, gain, 0.0)) / jnp.maximum(jnp.sum(counts), 1.0)


def _absorb(
    statistics: running_statistics.RunningStatisticsState, obs: Array
) -> running_statistics.RunningStatisticsState:
    return running_statistics.update(statistics, obs, std_min_value=_MIN_STD)


def _written(memory: Transitions, rows: Transitions, at: Int[Array, ""] | int) -> Transitions:
    """The ring with these steps [T, E, ...] from column `at` on."""
    return jax.tree.map(lambda ring, new: jax.lax.dynamic_update_slice_in_dim(ring, new, at, 0), memory, rows)


def _finite(rows: Transitions) -> tuple[Transitions, Bool[Array, "*b"]]:
    """Steps whose outcome is not finite end where they began; and which were finite."""
    fine = jnp.all(jnp.isfinite(jnp.concatenate(rows.after, axis=-1)), axis=-1)
    qpos, qvel = select(fine, tuple(rows.after), tuple(rows.before))
    return rows._replace(next_qpos=qpos, next_qvel=qvel), fine


def _valued(value: Array, derivative: Array) -> Array:
    """The first argument, with the second's derivatives."""
    return jax.lax.stop_gradient(value - derivative) + derivative


def _kept(healthy: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new, old)


def _cosine(progress: Float[Array, ""]) -> Float[Array, ""]:
    """From 1 down to a tenth."""
    return 0.1 + 0.45 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
