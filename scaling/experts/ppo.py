"""PPO for one expert as pure functions of its state; a bank is their `vmap` (see `mesh.py`)."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics, specs
from brax.training.agents.ppo import losses, networks
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.experts.bank import Bank
from scaling.experts.loss import LossParts, Rollout, Weights, log_probability, policy, ppo_loss
from scaling.experts.warmstart import clone
from scaling.robot.g1 import NUM_JOINTS
from scaling.tracking.env import EnvConfig, EnvState, Task, TrackingEnv


@dataclass(frozen=True)
class PPOConfig:
    """Figures of one bank's training; `envs` and `iterations` are per expert.

    `warm_start` is the gain of the joint-error feedback cloned into the actor before PPO (0: none, the first
    policy is open-loop playback); in the first `critic_warmup` iterations the critic alone learns. `curriculum` is the
    harness on a schedule: pairs `(until, assist)` in environment steps of one expert, `assist` from the last on.
    """

    envs: int = 256
    unroll: int = 16
    iterations: int = 100
    minibatches: int = 4
    epochs: int = 4
    hidden: tuple[int, ...] = (256, 128)
    value_hidden: tuple[int, ...] = (256, 128)
    learning_rate: float = 3e-4
    value_learning_rate: float = 1e-3
    kl_target: float = 0.02
    gamma: float = 0.985
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    max_grad_norm: float = 1.0
    noise_std: float = 0.4
    assist: float = 0.0
    curriculum: tuple[tuple[int, float], ...] = ()
    warm_start: float = 2.0
    critic_warmup: int = 10
    env: EnvConfig = field(default_factory=EnvConfig)

    def __post_init__(self) -> None:
        if self.envs % self.minibatches:
            raise ValueError(f"envs {self.envs} per expert must be a multiple of minibatches {self.minibatches}")
        if not all(0.0 <= assist <= 1.0 for assist in (self.assist, *(assist for _, assist in self.curriculum))):
            raise ValueError(f"assist {self.assist}, curriculum {self.curriculum}: strengths between 0 and 1")
        until = [until for until, _ in self.curriculum]
        if any(until <= before for until, before in zip(until, [0, *until], strict=False)):
            raise ValueError(f"curriculum {self.curriculum}: (until, assist) pairs, their steps above 0 and rising")
        for name in ("envs", "unroll", "iterations", "minibatches", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: at least 1")

    @property
    def steps(self) -> int:
        """Environment steps of one expert over the whole training."""
        return self.steps_per_iteration * self.iterations

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one expert in one iteration."""
        return self.envs * self.unroll

    def assist_at(self, iteration: Int[Array, ""] | int) -> Float[Array, ""]:
        """The harness in force during an iteration (counted from 0)."""
        done = jnp.asarray(iteration) * self.steps_per_iteration
        assist = jnp.asarray(self.assist, jnp.float32)
        for until, strength in reversed(self.curriculum):
            assist = jnp.where(done < until, jnp.float32(strength), assist)
        return assist


class TrainState(NamedTuple):
    """One expert in training (stacked along a leading axis for a bank); `key` is raw, so that it can be stored.

    `anchor` is what another kind of policy is held to; an expert has none.
    """

    params: losses.PPONetworkParams
    optimiser: losses.PPONetworkParams
    normaliser: running_statistics.RunningStatisticsState
    learning_rate: Float[Array, ""]
    env: EnvState
    obs: Float[Array, "E obs"]
    key: UInt32[Array, "2"]
    iteration: Int[Array, ""]
    restored: Int[Array, ""]
    anchor: Any = ()


class Metrics(NamedTuple):
    """Of one iteration, per expert: what the progress bar and the log show."""

    assist: Float[Array, ""]
    reward: Float[Array, ""]
    failure_rate: Float[Array, ""]
    joint_error: Float[Array, ""]
    body_error: Float[Array, ""]
    kl: Float[Array, ""]
    learning_rate: Float[Array, ""]
    value_loss: Float[Array, ""]
    noise_std: Float[Array, ""]
    departure: Float[Array, ""] | None = None


def actor_bank(state: TrainState) -> Bank:
    """The actors of a stacked training state."""
    layers = state.params.policy["params"]
    hidden = layers["MLP_0"]
    names = sorted(hidden, key=lambda name: int(name.rsplit("_", 1)[1]))
    stacked = [hidden[name] for name in names] + [layers["Dense_0"]]
    return Bank(
        tuple(layer["kernel"] for layer in stacked),
        tuple(layer["bias"] for layer in stacked),
        Normaliser(state.normaliser.mean, state.normaliser.std),
    )


_MIN_STD = 0.05  # an entry that hardly varied yet must not be blown up when it starts to


def _normalise(obs: Array, statistics: running_statistics.RunningStatisticsState | None) -> Array:
    """Normalised observations; without statistics they are so already."""
    return obs if statistics is None else Normaliser(statistics.mean, statistics.std)(obs)


def _absorb(
    statistics: running_statistics.RunningStatisticsState, obs: Array
) -> running_statistics.RunningStatisticsState:
    return running_statistics.update(statistics, obs, std_min_value=_MIN_STD)


def make_networks(config: PPOConfig) -> networks.PPONetworks:
    """Brax's actor and critic; the mean head starts near zero, so that the first policy is the reference itself."""
    return networks.make_ppo_networks(
        observation_dim(EXPERT_TERMS),
        NUM_JOINTS,
        preprocess_observations_fn=_normalise,
        policy_hidden_layer_sizes=config.hidden,
        value_hidden_layer_sizes=config.value_hidden,
        distribution_type="normal",
        noise_std_type="log",
        init_noise_std=config.noise_std,
        mean_kernel_init_fn=lambda: jax.nn.initializers.variance_scaling(1e-4, "fan_in", "uniform"),
    )


class Trainer:
    """PPO for one expert: `init`, then `iterate` until its budget is spent.

    Another kind of policy overrides what is below "The policy": how it acts, and what its loss reads.
    """

    def __init__(self, env: TrackingEnv, config: PPOConfig) -> None:
        self.env = env
        self.config = config
        self.networks = make_networks(config)
        self.optimiser = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=1e-5))

    def init(self, key: Key[Array, ""], task: Task) -> TrainState:
        """Fresh networks, statistics and episodes."""
        policy_key, value_key, env_key, key = jax.random.split(key, 4)
        task = task._replace(assist=self.config.assist_at(0))
        params = losses.PPONetworkParams(
            policy=self.networks.policy_network.init(policy_key), value=self.networks.value_network.init(value_key)
        )
        normaliser = running_statistics.init_state(specs.Array((observation_dim(EXPERT_TERMS),), jnp.dtype("float32")))
        if self.config.warm_start > 0:
            clone_key, env_key = jax.random.split(env_key)
            statistics = (normaliser, _absorb)
            policy, normaliser = clone(
                clone_key,
                self.env,
                task,
                self.config.envs,
                self.config.warm_start,
                params.policy,
                statistics,
                lambda state, policy, obs: self.networks.policy_network.apply(state, policy, obs)[0],
            )
            params = losses.PPONetworkParams(policy=policy, value=params.value)
        env, obs = self.env.reset(env_key, task, self.config.envs)
        return TrainState(
            params=params,
            optimiser=losses.PPONetworkParams(self.optimiser.init(params.policy), self.optimiser.init(params.value)),
            normaliser=normaliser,
            learning_rate=jnp.asarray(self.config.learning_rate),
            env=env,
            obs=obs,
            key=jax.random.key_data(key),
            iteration=jnp.zeros((), jnp.int32),
            restored=jnp.zeros((), jnp.int32),
        )

    def iterate(self, state: TrainState, task: Task) -> tuple[TrainState, Metrics]:
        """Collect `unroll` steps in every environment, then `epochs` passes of clipped policy updates.

        An update that leaves something that is not finite is undone and counted in `restored`; an expert whose
        iterations are spent stays as it is.
        """
        key, collect_key, update_key = jax.random.split(jax.random.wrap_key_data(state.key), 3)
        task = task._replace(assist=self.config.assist_at(state.iteration))
        env, rollout, std, (failed, joint_error, body_error) = self._collect(collect_key, state, task)
        params, optimiser, rate, parts = self._update(update_key, state, rollout, std)
        normaliser = _absorb(state.normaliser, rollout.obs)
        healthy = jnp.all(
            jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((params, normaliser.mean))])
        )

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new, old)

        after = TrainState(
            params=keep(params, state.params),
            optimiser=keep(optimiser, state.optimiser),
            normaliser=keep(normaliser, state.normaliser),
            learning_rate=jnp.where(healthy, rate, 0.5 * state.learning_rate),
            env=env,
            obs=rollout.last_obs,
            key=jax.random.key_data(key),
            iteration=state.iteration + 1,
            restored=state.restored + (1 - healthy.astype(jnp.int32)),
            anchor=state.anchor,
        )
        going = state.iteration < self.config.iterations
        after = jax.tree.map(lambda new, old: jnp.where(going, new, old), after, state)
        metrics = Metrics(
            assist=task.assist,
            reward=jnp.mean(rollout.reward),
            failure_rate=jnp.mean(failed),
            joint_error=jnp.mean(joint_error),
            body_error=jnp.mean(body_error),
            kl=parts.kl,
            learning_rate=after.learning_rate,
            value_loss=parts.value,
            noise_std=parts.std,
            departure=parts.departure,
        )
        return after, metrics

    def _collect(
        self, key: Key[Array, ""], state: TrainState, task: Task
    ) -> tuple[EnvState, Rollout, Float[Array, "29"], tuple[Array, Array, Array]]:
        """Episodes in flight after `unroll` steps, the steps, the behaviour's deviations, and what the log shows."""

        def act(carry: tuple[EnvState, Array, Any, Array], key: Key[Array, ""]) -> tuple[Any, Any]:
            env, obs, memory, first = carry
            act_key, step_key = jax.random.split(key)
            mean, std, memory = self._mean(state, memory, obs, first)
            action = mean + std * jax.random.normal(act_key, mean.shape)
            env, step = self.env.step(step_key, task, env, self._command(state, action))
            seen = {
                "obs": obs,
                "action": action,
                "mean": mean,
                "log_prob": log_probability(action, mean, std),
                "reward": step.reward,
                "failed": step.failed,
                "truncated": step.truncated,
            }
            return (env, step.obs, memory, step.done), (seen, std, (step.failed, step.joint_error, step.body_error))

        keys, count = jax.random.split(key, self.config.unroll), self.config.envs
        begun = (state.env, state.obs, self._memory(count), jnp.ones((count,), bool))
        (env, obs, _, _), (seen, std, info) = jax.lax.scan(act, begun, keys)
        steps = {name: jnp.swapaxes(values, 0, 1) for name, values in seen.items()}
        return env, Rollout(**steps, last_obs=obs), std[0], info

    def _update(
        self, key: Key[Array, ""], state: TrainState, rollout: Rollout, std: Float[Array, "29"]
    ) -> tuple[Any, Any, Any, LossParts]:
        config = self.config
        loss_and_grad = jax.value_and_grad(self._loss, has_aux=True)
        weights = Weights(config.gamma, config.gae_lambda, config.clip, config.entropy)
        rollout = self._read(state, rollout)

        def minibatch(carry: Any, rows: Array) -> tuple[Any, Any]:
            params, optimiser, rate = carry
            batch = jax.tree.map(lambda x: x[rows], rollout)
            (_, parts), grads = loss_and_grad(params, batch, std, weights)
            # Actor and critic are clipped and stepped apart: the KL rule holds back the actor alone.
            policy_step, policy_optimiser = self.optimiser.update(grads.policy, optimiser.policy)
            value_step, value_optimiser = self.optimiser.update(grads.value, optimiser.value)
            optimiser = losses.PPONetworkParams(policy_optimiser, value_optimiser)
            held = jnp.where(state.iteration < config.critic_warmup, 0.0, rate)
            params = losses.PPONetworkParams(
                jax.tree.map(lambda p, u: p - held * u, params.policy, policy_step),
                jax.tree.map(lambda p, u: p - config.value_learning_rate * u, params.value, value_step),
            )
            rate = jnp.where(parts.kl > 2.0 * config.kl_target, rate / 1.5, rate)
            rate = jnp.where((parts.kl < 0.5 * config.kl_target) & (held > 0), rate * 1.1, rate)
            rate = jnp.clip(rate, 1e-5, 3e-3)
            return (params, optimiser, rate), parts

        def epoch(carry: Any, key: Key[Array, ""]) -> tuple[Any, Any]:
            order = jax.random.permutation(key, config.envs)
            return jax.lax.scan(minibatch, carry, order.reshape(config.minibatches, -1))

        carry = (state.params, state.optimiser, state.learning_rate)
        (params, optimiser, rate), parts = jax.lax.scan(epoch, carry, jax.random.split(key, config.epochs))
        return params, optimiser, rate, jax.tree.map(jnp.mean, parts)

    # The policy --------------------------------------------------------------------------------------------------

    def _memory(self, count: int) -> Any:
        """What `count` policies remember at the beginning of an unroll."""
        return ()

    def _mean(
        self, state: TrainState, memory: Any, obs: Float[Array, "E obs"], first: Bool[Array, "E"]
    ) -> tuple[Float[Array, "E 29"], Float[Array, "29"], Any]:
        """Mean action, its deviations, and the memory afterwards; an episode, or the memory, begins where `first`."""
        return *policy(self.networks, state.normaliser, state.params.policy, obs), memory

    def _command(self, state: TrainState, action: Float[Array, "E 29"]) -> Float[Array, "E 29"]:
        """What the environment is told to do."""
        return action

    def _read(self, state: TrainState, rollout: Rollout) -> Rollout:
        """An iteration's steps as the loss reads them."""
        # Once for all epochs, by the statistics that the behaviour saw: a moved normaliser would read as KL.
        obs, last_obs = (_normalise(x, state.normaliser) for x in (rollout.obs, rollout.last_obs))
        return rollout._replace(obs=obs, last_obs=last_obs)

    def _loss(
        self, params: losses.PPONetworkParams, batch: Rollout, std: Float[Array, "29"], weights: Weights
    ) -> tuple[Float[Array, ""], LossParts]:
        """The loss of a minibatch and what is shown of it."""
        return ppo_loss(params, batch, std, self.networks, weights)
