"""RL fine-tuning of distilled students: PPO from their weights, held to the distilled policy by its KL divergence.

The machinery is that of the experts. A student acts on what the robot measures and remembers what it has seen; as in a
round of DAgger its memory begins anew with each unroll, so that the loss sees the very actions that were taken. The
critic, which no robot carries, sees everything.
"""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.training.acme import running_statistics, specs
from brax.training.agents.ppo import losses, networks
from jaxtyping import Array, Bool, Float, Key

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.distill.group import RunSpec
from scaling.distill.rollout import STUDENT_OBS
from scaling.distill.student import Student, policy, policy_params
from scaling.errors import InputError
from scaling.experts.loop import chunk_of, read_left, train_actors
from scaling.experts.loss import LossParts, Rollout, Weights, ppo_loss
from scaling.experts.mesh import PPOBank, Program, expert_mesh
from scaling.experts.ppo import PPOConfig, Trainer, TrainState, make_networks
from scaling.experts.roster import WaveConfig
from scaling.experts.train import check_clips
from scaling.motion.corpus import Corpus
from scaling.record.runs import LOG, read_log
from scaling.robot.g1 import NUM_JOINTS
from scaling.students import decode, model
from scaling.students.config import StudentConfig
from scaling.students.count import parameters, training_flops_per_token
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.physics import Physics
from scaling.tracking.randomise import Randomisation
from scaling.tracking.reference import make_store

_WAVES = WaveConfig()
_PURPOSE = 11  # sets these keys apart from those of a run's distillation
_SHOWN = ("reward", "failure_rate", "joint_error")


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tuning for `iterations` of PPO (0: none) of the first clustering's students on these `arms`.

    `kl` is the price of a nat of divergence from the distilled policy, whose actions are taken to have the deviations
    that the training begins with. `ppo.noise_std` is in units of the student's action scale, which is small beside what
    an expert explores with, and `ppo.kl_target` measures each step in it: with little of either a student stays where
    it was (`reach`). `iterations`, `hidden` and `warm_start` of `ppo` have no meaning here, and the harness is that of
    the study.
    """

    iterations: int = 0
    kl: float = 0.01
    arms: tuple[float, ...] = (1.0,)
    ppo: PPOConfig = field(
        default_factory=lambda: PPOConfig(
            envs=256,
            unroll=32,
            epochs=3,
            learning_rate=1e-4,
            kl_target=0.02,
            noise_std=0.8,
            critic_warmup=8,
            warm_start=0.0,
            env=EnvConfig(start_noise=0.5, randomisation=Randomisation(observation_noise=1.0)),
        )
    )

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"finetune iterations {self.iterations}: at least 0 (0: no fine-tuning)")
        if not 0 <= self.kl < np.inf:
            raise ValueError(f"finetune kl {self.kl}: at least 0")
        if not self.arms or min(self.arms) <= 0 or max(self.arms) > 1:
            raise ValueError(f"finetune arms {self.arms}: fractions above 0 and at most 1, one or more")
        if self.ppo.curriculum or self.ppo.assist:
            raise ValueError("finetune ppo: the study's assist is in force, so give it neither assist nor curriculum")

    def reach(self, iterations: int) -> float:
        """How far so many iterations lead at the target of KL if all go one way: root mean square over joints, in units
        of the student's action scale.
        """
        acting = max(0, iterations - self.ppo.critic_warmup)
        return acting * self.ppo.noise_std * math.sqrt(2 * self.ppo.kl_target / NUM_JOINTS)

    def training(self, assist: float) -> PPOConfig:
        """What PPO is run with."""
        return replace(self.ppo, iterations=self.iterations, assist=assist, warm_start=0.0)


class Seen(NamedTuple):
    """What the loss reads: all terms normalised for the critic, the student's own ones, where its memory begins, and
    what the distilled policy would do.
    """

    whole: Float[Array, "*b obs"]
    own: Any = ()
    first: Any = ()
    anchor: Any = ()


def divergence(
    mean: Float[Array, "*b 29"], std: Float[Array, "29"], anchor: Float[Array, "*b 29"], wide: float
) -> Float[Array, ""]:
    """KL from the distilled policy, a normal distribution of deviations `wide`, to this one; mean over states (nat)."""
    square = jnp.square(std / wide) + jnp.square((mean - anchor) / wide)
    return jnp.mean(jnp.sum(0.5 * (square - 1.0) - jnp.log(std / wide), axis=-1))


class Tuner(Trainer):
    """PPO for one student; actions are in units of its action scale.

    `params.policy` is {"student", "log_std"}; `anchor` the distilled student as `policy_params` gives it.
    """

    def __init__(self, env: TrackingEnv, config: PPOConfig, student: StudentConfig, kl: float) -> None:
        super().__init__(env, config)
        self.student, self.kl = student, kl
        self._play = policy(student)
        plain = make_networks(config)
        self._value = plain.value_network

        def forward(_: Any, params: Any, seen: Seen) -> tuple[Array, Array]:
            return model.forward(student, params["student"], seen.own, seen.first), jnp.exp(params["log_std"])

        def worth(_: Any, params: Any, seen: Seen) -> Array:
            value: Array = self._value.apply(None, params, seen.whole)
            return value

        self.networks = networks.PPONetworks(
            policy_network=networks.networks.FeedForwardNetwork(init=self._fresh, apply=forward),
            value_network=networks.networks.FeedForwardNetwork(init=self._value.init, apply=worth),
            parametric_action_distribution=plain.parametric_action_distribution,
        )

    def _fresh(self, key: Key[Array, ""]) -> Any:
        log_std = jnp.full((NUM_JOINTS,), jnp.log(self.config.noise_std))
        return {"student": model.init(self.student, key), "log_std": log_std}

    def init(self, key: Key[Array, ""], task: Task) -> TrainState:
        """A student that nobody taught, with an anchor of the right shape: `begun` puts the distilled one there."""
        policy_key, value_key, env_key, key = jax.random.split(key, 4)
        params = losses.PPONetworkParams(
            policy=self.networks.policy_network.init(policy_key), value=self.networks.value_network.init(value_key)
        )
        task = task._replace(assist=self.config.assist_at(0))
        env, obs = self.env.reset(env_key, task, self.config.envs)
        whole = specs.Array((observation_dim(EXPERT_TERMS),), jnp.dtype("float32"))
        statistics = running_statistics.init_state(whole)
        return TrainState(
            params=params,
            optimiser=losses.PPONetworkParams(self.optimiser.init(params.policy), self.optimiser.init(params.value)),
            # Brax leaves this one weakly typed, and a restored checkpoint would compile again.
            normaliser=statistics.replace(std_eps=jnp.asarray(statistics.std_eps, jnp.float32)),
            learning_rate=jnp.asarray(self.config.learning_rate, jnp.float32),
            env=env,
            obs=obs,
            key=jax.random.key_data(key),
            iteration=jnp.zeros((), jnp.int32),
            restored=jnp.zeros((), jnp.int32),
            anchor={
                "params": params.policy["student"],
                "mean": jnp.zeros((STUDENT_OBS,)),
                "std": jnp.ones((STUDENT_OBS,)),
                "scale": jnp.ones((NUM_JOINTS,)),
            },
        )

    def _memory(self, count: int) -> Any:
        return decode.init_state(self.student, count)

    def _mean(
        self, state: TrainState, memory: Any, obs: Float[Array, "E obs"], first: Bool[Array, "E"]
    ) -> tuple[Float[Array, "E 29"], Float[Array, "29"], Any]:
        mine = state.params.policy
        own = obs[..., :STUDENT_OBS]
        mean, memory = decode.act(self.student, mine["student"], _normaliser(state), memory, own, first)
        return mean, jnp.exp(mine["log_std"]), memory

    def _command(self, state: TrainState, action: Float[Array, "E 29"]) -> Float[Array, "E 29"]:
        return action * state.anchor["scale"]

    def _read(self, state: TrainState, rollout: Rollout) -> Rollout:
        own = _normaliser(state)(rollout.obs[..., :STUDENT_OBS])
        ended = rollout.failed | rollout.truncated
        first = jnp.concatenate([jnp.ones_like(ended[:, :1]), ended[:, :-1]], axis=1)
        anchor = model.forward(self.student, state.anchor["params"], own, first)
        plain = super()._read(state, rollout)
        return plain._replace(obs=Seen(plain.obs, own, first, anchor), last_obs=Seen(plain.last_obs))

    def _loss(
        self, params: losses.PPONetworkParams, batch: Rollout, std: Float[Array, "29"], weights: Weights
    ) -> tuple[Float[Array, ""], LossParts]:
        total, parts = ppo_loss(params, batch, std, self.networks, weights)
        mean, now = self.networks.policy_network.apply(None, params.policy, batch.obs)  # the same again: compiled once
        departure = divergence(mean, now, batch.obs.anchor, self.config.noise_std)
        return total + self.kl * departure, parts._replace(departure=jax.lax.stop_gradient(departure))


def _normaliser(state: TrainState) -> Normaliser:
    return Normaliser(state.anchor["mean"], state.anchor["std"])


class TunedBank(PPOBank):
    """Students in training share nothing."""

    def actors(self, state: TrainState) -> Any:
        """What `policy(...).act` takes as `params`."""
        return state.anchor | {"params": state.params.policy["student"]}


class TuningProgram(Program):
    """`Program` whose students begin as `students` are."""

    def __init__(
        self, env: TrackingEnv, config: PPOConfig, kl: float, students: Sequence[Student], seeds: Sequence[int]
    ) -> None:
        tuner = Tuner(env, config, students[0].config, kl)
        super().__init__(env, config, chunk_of(config, _WAVES), expert_mesh(), trainer=TunedBank(tuner))
        self._students, self._seeds = students, seeds

    def init(self, keys: Any, task: Task) -> TrainState:
        """See `Program`; slots that the mesh leaves over hold the first student, whom nobody looks at."""
        rows = [number if number < len(self._students) else 0 for number in range(len(keys))]
        own = [jax.random.fold_in(jax.random.key(self._seeds[row]), _PURPOSE) for row in rows]
        state: TrainState = super().init(np.stack([np.asarray(jax.random.key_data(key)) for key in own]), task)
        anchor = jax.tree.map(np.asarray, policy_params([self._students[row] for row in rows]))
        mine = state.params.policy | {"student": self._spread_out(anchor["params"])}
        params = losses.PPONetworkParams(policy=mine, value=state.params.value)
        return state._replace(params=params, anchor=self._spread_out(anchor))

    def _spread_out(self, tree: Any) -> Any:
        """Arrays of their own: the state is given away at each call."""
        put = jnp.array if self.mesh.size == 1 else self.by_expert
        return jax.tree.map(put, tree)


def finetune(
    students: Sequence[Student],
    runs: Sequence[RunSpec],
    corpus: Corpus,
    physics: Physics,
    config: FinetuneConfig,
    work: Path,
    assist: float = 0.0,
) -> list[Student]:
    """The students (of one config) after PPO on their runs' arms, all in one program; goes on from `work`.

    Their losses belong to what they were, so their columns hold none; `tuned_...` say what was done, and the curve is
    of PPO. Raises InputError, before anything compiles, for clips that cannot be trained on.
    """
    store = make_store(corpus.qpos, corpus.start, corpus.length)
    arms = [np.asarray(run.segments) for run in runs]
    check_clips(store, arms)
    if any(student.config != students[0].config for student in students):
        raise ValueError("students of different configs cannot be tuned in one program")
    if config.iterations == 0:
        raise InputError("finetune.iterations is 0: give at least one")
    student, training, began = students[0].config, config.training(assist), time.perf_counter()
    program = TuningProgram(
        TrackingEnv(physics, training.env), training, config.kl, students, [run.seed for run in runs]
    )
    title = f"fine-tuning {student.family} {parameters(student) / 1e6:.2g}M, {len(runs)} students"
    reports = train_actors(jax.random.key(0), program, store, arms, training, _WAVES, work, title)
    structure = jax.tree.structure(policy_params(students[0]))
    found = jax.tree.map(np.asarray, jax.tree.unflatten(structure, read_left(work, len(runs))))
    seconds = (time.perf_counter() - began) / len(runs)
    curves = _curves(work, len(runs))
    if jax.process_index() == 0:
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    return [
        replace(
            before,
            params=jax.tree.map(lambda x, n=n: x[n], found["params"]),
            columns=_columns(before, training, config.kl, reports[n], seconds),
            curve=curves[n],
        )
        for n, before in enumerate(students)
    ]


def _columns(before: Student, training: PPOConfig, kl: float, report: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A run's part of its row: what it was, less its losses, and what PPO added."""
    kept = {name: value for name, value in before.columns.items() if not name.startswith("val_")}
    steps = report["env_steps"]
    flops = training.epochs * steps * training_flops_per_token(before.config)
    added = {"student_frames": steps, "env_steps": steps, "flops": flops, "seconds": seconds}
    if kept.get("unique_frames"):
        added["epochs"] = steps / kept["unique_frames"]
    sums = {name: kept[name] + value for name, value in added.items() if kept.get(name) is not None}
    return kept | sums | {"tuned_env_steps": steps, "tuned_kl": kl, "tuned_undone": report["restored"]}


def _curves(work: Path, count: int) -> list[list[dict[str, Any]]]:
    """Reward, failure rate and joint error (rad) of each student by iteration, as far as the log tells them apart."""
    lines = read_log(work / "log") if (work / "log" / LOG).is_file() else []
    return [
        [
            {"update": line["step"], **{name: line.get(f"expert_{number}/{name}") for name in _SHOWN}}
            for line in lines
            if f"expert_{number}/{_SHOWN[0]}" in line
        ]
        for number in range(count)
    ]
