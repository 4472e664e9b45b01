"""Experts by back-propagation through a learned simulator: play, learn how the robot moves, improve in imagination.

SuperTrack (Fussell et al. 2021) and its successors: one model of the robot's motion for all experts, learned from the
play of all, and each actor follows the gradient of its reward through imagined roll-outs. No estimator of the policy
gradient, no advantages.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics, specs
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from scaling.contract.normaliser import Normaliser
from scaling.dynamics.data import CollectConfig, Play, Transitions, Window, advance, begin
from scaling.dynamics.model import Dream, init, measure_scales
from scaling.dynamics.train import OPTIMISERS as MODEL_OPTIMISERS
from scaling.dynamics.train import losses
from scaling.experts import critic
from scaling.experts.actor import OBS, Actors, ExpertActors
from scaling.experts.dream_config import OPTIMISERS, DreamConfig
from scaling.experts.imagine import Happened, Imagination, episodes, imagine, remember
from scaling.experts.memory import belongs, empty, finite, stretches, written
from scaling.experts.warmstart import clone
from scaling.tracking import rewards
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.episode import select
from scaling.tracking.physics import PhysicsState

_MIN_STD = 0.05  # an entry that hardly varied yet must not be blown up when it starts to


class ExpertState(NamedTuple):
    """One expert in training (stacked along a leading axis for a bank); `average` is what plays and is kept.

    `memory` holds the last control steps of each environment, in a ring along time; `critic` is () without a tail.
    """

    actor: Any
    average: Any
    optimiser: Any
    critic: Any
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
    """Of one iteration, per expert; `dreamed` is the reward of an imagined step, `model_error` the model's loss, and
    `falls_held` the share of the memory's steps that are of a fall.
    """

    reward: Float[Array, ""]
    failure_rate: Float[Array, ""]
    joint_error: Float[Array, ""]
    body_error: Float[Array, ""]
    dreamed: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    model_error: Float[Array, ""]
    falls_held: Float[Array, ""]


class Dreamer:
    """Trains a bank: `init`, then `iterate` until the budget is spent; both on all experts at once.

    With an `axis` it runs on each device of a mesh of that name, on the device's own experts: the model's gradient is
    averaged over devices, so that all hold the same model.
    """

    def __init__(
        self, env: TrackingEnv, config: DreamConfig, axis: str | None = None, kind: Actors | None = None
    ) -> None:
        self.env = env
        self.config = config
        self.axis = axis
        self.kind: Actors = kind or ExpertActors(config.hidden)
        if (config.head_start + 2) * config.unroll <= self.kind.memory or config.memory <= self.kind.memory:
            raise ValueError(
                f"head_start {config.head_start} of {config.unroll} steps, memory {config.memory}: the actors look "
                f"back over {self.kind.memory} steps"
            )
        self._how = Imagination(config.horizon, config.noise, config.env.reward, config.cotangent_limit, config.model)
        noise = CollectConfig(config.envs, config.unroll, config.noise)
        self._noise = noise
        clip = optax.clip_by_global_norm(config.max_grad_norm)
        self._actor = optax.chain(clip, OPTIMISERS[config.optimiser]())
        downhill = MODEL_OPTIMISERS[config.dynamics.optimiser](1.0)
        self._model = optax.chain(optax.clip_by_global_norm(config.dynamics.gradient_norm), downhill)

    # All experts at once -----------------------------------------------------------------------------------------

    def init(self, keys: UInt32[Array, "K 2"], task: Task) -> DreamState:
        """Fresh experts with a memory of their first steps, and an untrained model of the robot that made them."""
        experts = self._over(self._first)(jax.random.wrap_key_data(keys), task)
        key, model_key, window_key = jax.random.split(jax.random.wrap_key_data(self._common(keys[0])), 3)
        rows = jax.tree.map(lambda x: x[:, : self.config.unroll].reshape(-1, *x.shape[3:]), experts.memory)
        rows = finite(rows)[0]
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
        falls = jnp.mean(experts.memory.failed, axis=(1, 2))  # what is not filled yet counts as no fall
        metrics = DreamMetrics(
            reward, failures, joint, body, dreamed, norm, jnp.broadcast_to(model_error, dreamed.shape), falls
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
        actor_key, clone_key, start_key, play_key, critic_key, key = jax.random.split(key, 6)
        actor = self.kind.init(actor_key)
        statistics = running_statistics.init_state(specs.Array((OBS,), jnp.dtype("float32")))
        if config.warm_start > 0:
            actor, statistics = clone(
                clone_key, self.env, task, config.envs, config.warm_start, actor, (statistics, _absorb), self._at_once
            )
        # Brax leaves this one weakly typed, and a restored checkpoint would compile again.
        statistics = statistics.replace(std_eps=jnp.asarray(statistics.std_eps, jnp.float32))
        policy = self.kind.policy
        play = begin(start_key, self.env, policy, self._noise, task)
        params = self._params(actor, statistics)
        play, rows = advance(self.env, policy, self._noise, config.unroll, params, task, play_key, play)
        return ExpertState(
            actor, actor, self._actor.init(actor), () if config.tail is None else critic.init(config.tail, critic_key),
            statistics, play, written(empty(rows, config.memory), rows, 0), jax.random.key_data(key),
            jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32),
        )  # fmt: skip

    def _params(self, actor: Any, statistics: running_statistics.RunningStatisticsState) -> Any:
        return self.kind.params(actor, normaliser_of(statistics))

    def _at_once(self, statistics: Any, actor: Any, obs: Float[Array, "B obs"]) -> Float[Array, "B 29"]:
        """Actions on first sight."""
        policy, count = self.kind.policy, obs.shape[0]
        return policy.act(self._params(actor, statistics), policy.init(count), obs, jnp.ones((count,), bool))[0]

    def _played(self, state: ExpertState, task: Task) -> tuple[ExpertState, tuple[Array, ...]]:
        """The expert after `unroll` more steps; their failures, and while nobody fell reward, joint and body error."""
        config = self.config
        key, play_key = jax.random.split(jax.random.wrap_key_data(state.key))
        params = self._params(state.average, state.statistics)
        play, rows = advance(self.env, self.kind.policy, self._noise, config.unroll, params, task, play_key, state.play)
        at = (state.iteration + 1) % (config.memory // config.unroll) * config.unroll
        rows, _ = finite(rows)
        after = episodes(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows), after=True)
        errors = self.env.errors(task.store, after)
        obs = self.env.observe(after, task.store)
        state = state._replace(
            play=play,
            memory=written(state.memory, rows, at),
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

    def _held(self, iteration: Int[Array, ""]) -> Int[Array, ""]:
        """Steps of each environment that the memory holds."""
        return jnp.minimum((iteration + 1) * self.config.unroll, self.config.memory)

    def _stretches(
        self, key: Key[Array, ""], state: ExpertState, batch: int, width: int, latest: int | None = None
    ) -> tuple[Transitions, Array]:
        """`stretches` of the whole memory, or of the `latest` steps of each environment."""
        held = self._held(state.iteration)
        end = (state.iteration * self.config.unroll) % self.config.memory + self.config.unroll
        return stretches(key, state.memory, end, held if latest is None else jnp.minimum(latest, held), batch, width)

    # The model ---------------------------------------------------------------------------------------------------

    def _windows(self, key: Key[Array, ""], experts: ExpertState) -> Window:
        """A batch of windows, as many of each expert's."""
        count = experts.iteration.shape[0]
        width, batch = self.config.dynamics.window, -(-self.config.dynamics.batch // count)
        draw = jax.vmap(lambda key, state: self._stretches(key, state, batch, width))
        rows, fine = draw(jax.random.split(key, count), experts)
        rows, fine = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (rows, fine))
        weight = belongs(rows, fine).astype(jnp.float32)
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
            stepped = jax.tree.map(lambda p, c: p + rate * c, params, change)
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
            actor, average, moments, tail, undone = carry
            draw_key, noise_key = jax.random.split(key)
            drawn = self._drawn(draw_key, state)

            def loss(actor: Any, values: Any) -> tuple[Array, Array]:
                return self._imagined(actor, values, tail, state.statistics, dream, task, drawn, noise_key)

            values = () if config.tail is None else tail.params
            (value, gain), (grads, value_grads) = jax.value_and_grad(loss, (0, 1), has_aux=True)(actor, values)
            norm = optax.tree.norm(grads)
            change, after = self._actor.update(grads, moments, actor)
            stepped = jax.tree.map(lambda p, c: p - rate * c, actor, change)
            healthy = jnp.isfinite(value) & jnp.isfinite(norm)
            learned = tail if config.tail is None else critic.learn(config.tail, tail, value_grads)
            actor, moments, tail = _kept(healthy, (stepped, after, learned), (actor, moments, tail))
            average = jax.tree.map(lambda a, p: config.average * a + (1.0 - config.average) * p, average, actor)
            return (actor, average, moments, tail, undone + ~healthy), (gain, norm)

        start = (state.actor, state.average, state.optimiser, state.critic, state.restored)
        keys = jax.random.split(draw_key, config.actor_updates)
        (actor, average, moments, tail, undone), (gains, norms) = jax.lax.scan(update, start, keys)
        state = state._replace(
            actor=actor, average=average, optimiser=moments, critic=tail, restored=undone, key=jax.random.key_data(key)
        )
        return state, jnp.mean(gains), jnp.mean(norms)

    def _drawn(self, key: Key[Array, ""], state: ExpertState) -> tuple[Transitions, Array]:
        """Stretches of a past that fills the actors' memory and, with true states (which have to be those of the policy
        of the day), of the future.
        """
        past, config = self.kind.memory, self.config
        if config.gradients == "true":
            return self._stretches(key, state, config.actor_batch, past + config.horizon, past + config.unroll)
        return self._stretches(key, state, config.actor_batch, past + 1)

    def _imagined(
        self,
        actor: Any,
        values: Any,
        tail: Any,
        statistics: running_statistics.RunningStatisticsState,
        dream: Dream,
        task: Task,
        drawn: tuple[Transitions, Array],
        key: Key[Array, ""],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """What is to be made small, and the mean reward of an imagined step."""
        config, past = self.config, self.kind.memory
        params, policy = self._params(actor, statistics), self.kind.policy
        rows, fine = drawn
        cut = lambda low, high: jax.tree.map(lambda x: x[:, low:high], rows)  # noqa: E731
        begun = jax.tree.map(lambda x: x[:, past], rows)
        batch = begun.clip.shape[0]
        memory, first = policy.init(batch), jnp.ones((batch,), bool)
        if past:
            memory = jax.lax.stop_gradient(remember(self.env, policy, params, task, cut(0, past)))
            first = rows.ends[:, past - 1]
        happened = None
        if config.gradients == "true":
            ahead = cut(past, None)
            given = (ahead.ctrl, ahead.after, belongs(ahead, fine[:, past:]))
            happened = Happened(*jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), given))
        seen = imagine(self._how, self.env, policy, params, dream, task, episodes(begun), memory, first, key, happened)
        counts = seen.counts & fine[:, past] & ~begun.failed
        gain = jnp.sum(jnp.where(counts, seen.reward, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
        if config.tail is None:
            return -gain, gain
        normaliser = normaliser_of(statistics)
        return critic.objective(config.tail, values, tail, normaliser(seen.obs), seen.reward, counts), gain


def normaliser_of(statistics: running_statistics.RunningStatisticsState) -> Normaliser:
    """What is known of the observations so far."""
    return Normaliser(statistics.mean, statistics.std)


def _absorb(
    statistics: running_statistics.RunningStatisticsState, obs: Array
) -> running_statistics.RunningStatisticsState:
    return running_statistics.update(statistics, obs, std_min_value=_MIN_STD)


def _kept(healthy: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new, old)


def _cosine(progress: Float[Array, ""]) -> Float[Array, ""]:
    """From 1 down to a tenth."""
    return 0.1 + 0.45 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
