"""A bank from a corpus: waves of chunks with checkpoints, competence measured in converged C MuJoCo."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, Int, Key

from scaling.contract.normaliser import Normaliser
from scaling.errors import InputError
from scaling.experts.bank import Bank, BankCard, act, save_bank
from scaling.experts.ppo import PPOConfig, TrainState, make_iterate
from scaling.record.progress import Progress, say
from scaling.record.runs import RunLog
from scaling.robot.model import CONVERGED
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.evaluate import Policy, Scores, Starts, Trace, make_player, random_starts, scores
from scaling.tracking.intervals import bootstrap_mean, wilson
from scaling.tracking.physics import CPhysics, Physics, make_physics
from scaling.tracking.randomise import draw_models
from scaling.tracking.reference import ClipStore

_CHUNK = 5  # iterations between two looks at the clock, the log and the checkpoint


@dataclass(frozen=True)
class CompetenceConfig:
    """How each expert is scored against open-loop playback: random starts, each at most `seconds` long."""

    starts: int = 128
    seconds: float = 3.0
    protocol: str = "sonic"

    def __post_init__(self) -> None:
        if self.starts < 1 or self.seconds <= 0:
            raise ValueError(f"starts {self.starts}, seconds {self.seconds}: both above 0")


def pad_clusters(clusters: Sequence[Int[np.ndarray, "m"]], lengths: Int[np.ndarray, "S"]) -> tuple[Array, Array]:
    """`(clips [K, M], weights [K, M])`: each cluster's segments, weighted by length, padded with weight 0."""
    widest = max(len(cluster) for cluster in clusters)
    clips = np.zeros((len(clusters), widest), np.int32)
    weights = np.zeros((len(clusters), widest), np.float32)
    for index, cluster in enumerate(clusters):
        clips[index, : len(cluster)] = cluster
        weights[index, : len(cluster)] = lengths[cluster] / lengths[cluster].sum()
    return jnp.asarray(clips), jnp.asarray(weights)


def bank_of(state: TrainState) -> Bank:
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


BANK_POLICY = Policy(
    init=lambda batch: (),
    act=lambda one, state, obs, first: (act(jax.tree.map(lambda x: x[None], one), obs[None])[0], state),
)
"""A single expert (one row of a bank, unstacked) as an evaluation policy."""


def train_bank(
    key: Key[Array, ""],
    store: ClipStore,
    clusters: Sequence[Int[np.ndarray, "m"]],
    config: PPOConfig,
    work: Path,
    backend: str = "auto",
    competence: CompetenceConfig = CompetenceConfig(),
    title: str = "experts",
) -> tuple[Bank, BankCard]:
    """Trains one expert per cluster, resuming from `work` if it holds a checkpoint; saves and returns the bank.

    Raises InputError, before anything compiles, for an empty cluster or a checkpoint of another configuration.
    """
    empty = [index for index, cluster in enumerate(clusters) if len(cluster) == 0]
    if empty:
        raise InputError(f"cluster {empty[0]} of {len(clusters)} has no segments; ask for fewer clusters")
    models = draw_models(config.env.randomisation)
    physics = make_physics(backend, models=models)
    env = TrackingEnv(physics, config.env)
    task = Task(store, *pad_clusters(clusters, np.asarray(store.length)), jnp.asarray(config.assist, jnp.float32))
    state = _train(key, env, task, config, work, title, len(clusters))
    bank = bank_of(state)
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(bank)):
        raise InputError(f"{work}: an expert's parameters are not finite; lower learning_rate and train again")
    rows = measure_competence(bank, store, clusters, config.assist, competence, title)
    restored = np.asarray(state.restored)
    for row in rows:
        row["restored"] = int(restored[row["cluster"]])
    card = BankCard(
        trainer="ppo",
        physics=physics.name,
        assist=config.assist,
        clusters=len(clusters),
        env_steps=config.steps * len(clusters),
        config=asdict(config),
        competence=rows,
    )
    save_bank(work, bank, card)
    return bank, card


def _train(
    key: Key[Array, ""], env: TrackingEnv, task: Task, config: PPOConfig, work: Path, title: str, experts: int
) -> TrainState:
    chunk = min(_CHUNK, config.iterations)
    init, advance = make_iterate(env, config, chunk)
    with Progress(title, config.iterations) as progress, _Checkpoints(work / "checkpoints") as checkpoints:
        progress.update(0, message="compiling")
        state = init(jax.random.split(key, experts), task)
        state, done = checkpoints.restore(state)
        with RunLog(work / "log", resume_from=done + 1) as log:
            while done < config.iterations:
                state, metrics = advance(state, task)
                done += chunk
                shown = {name: np.asarray(value)[:, -1] for name, value in metrics._asdict().items()}
                log.log(
                    done,
                    env_steps=done * config.envs * config.unroll * experts,
                    assist=config.assist,
                    **{name: float(value.mean()) for name, value in shown.items()},
                    **{f"reward_{index}": float(value) for index, value in enumerate(shown["reward"])},
                )
                checkpoints.save(done, state)
                progress.update(
                    min(done, config.iterations),
                    message=f"joint error {shown['joint_error'].mean():.3f} rad, "
                    f"{100 * shown['failure_rate'].mean():.1f} % of steps fail",
                )
    return state


class _Checkpoints:
    """Orbax checkpoints of a stacked training state, the newest two kept; keys as their raw data."""

    def __init__(self, folder: Path) -> None:
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        )

    def __enter__(self) -> "_Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, state: TrainState) -> None:
        self._manager.save(step, args=ocp.args.StandardSave(_raw(state)))

    def restore(self, fresh: TrainState) -> tuple[TrainState, int]:
        """The newest state, or the fresh one at 0."""
        step = self._manager.latest_step()
        if step is None:
            return fresh, 0
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, _raw(fresh))
        try:
            raw = self._manager.restore(step, args=ocp.args.StandardRestore(template))
        except (ValueError, KeyError) as error:
            raise InputError(f"the checkpoint is of another configuration; delete its folder ({error})") from None
        say(f"resuming from iteration {step}")
        return raw._replace(key=jax.random.wrap_key_data(raw.key)), step


def _raw(state: TrainState) -> TrainState:
    return state._replace(key=jax.random.key_data(state.key))


def measure_competence(
    bank: Bank,
    store: ClipStore,
    clusters: Sequence[Int[np.ndarray, "m"]],
    assist: float,
    config: CompetenceConfig,
    title: str = "experts",
) -> list[dict[str, Any]]:
    """Per expert and assist (in force, then 0): survival and error beside open-loop playback, with intervals.

    Always in converged C MuJoCo, on the same starts for both.
    """
    physics: Physics = CPhysics(CONVERGED)
    steps = round(config.seconds * 50)
    each = [random_starts(store, cluster, config.starts, steps, seed=7) for cluster in clusters]
    starts: Starts = jax.tree.map(lambda *x: jnp.stack(x), *each)
    play = make_player(physics, BANK_POLICY, config.protocol, batched_params=True)
    # A bank of zeros acts zero, which is open-loop playback: one program serves both.
    contestants = (bank, jax.tree.map(jnp.zeros_like, bank)._replace(normaliser=bank.normaliser))
    rows: list[dict[str, Any]] = []
    levels = [assist, 0.0] if assist else [0.0]
    with Progress(f"{title}: competence", 2 * len(levels)) as progress:
        for level in levels:
            figures: list[list[Scores]] = []
            for params in contestants:
                trace = play(params, store, starts, jnp.asarray(level, jnp.float32), steps)
                figures.append([scores(Trace(*(values[k] for values in trace))) for k in range(len(clusters))])
                progress.update(2 * levels.index(level) + len(figures))
            for k, (mine, open_loop) in enumerate(zip(*figures, strict=True)):
                rows.append({"cluster": k, "segments": len(clusters[k]), "assist": level, **_compare(mine, open_loop)})
    return rows


def _compare(expert: Scores, open_loop: Scores) -> dict[str, Any]:
    """Expert beside baseline, and whether it beats it: 1.3x the survival, or equal survival and 10 % less error."""
    row: dict[str, Any] = {"starts": len(expert.seconds)}
    for name, figures in (("expert", expert), ("open_loop", open_loop)):
        for quantity in ("seconds", "mpjpe_rad", "mpjpe_l_mm"):
            row[f"{name}_{quantity}"] = list(bootstrap_mean(getattr(figures, quantity)))
        row[f"{name}_success"] = list(wilson(figures.success))
    survival, error = row["expert_seconds"], row["expert_mpjpe_rad"]
    base, base_error = row["open_loop_seconds"], row["open_loop_mpjpe_rad"]
    row["survival_ratio"] = survival[0] / max(base[0], 1e-9)
    row["error_ratio"] = error[0] / max(base_error[0], 1e-9)
    longer = row["survival_ratio"] >= 1.3 and survival[1] > base[2]
    closer = survival[2] >= base[1] and row["error_ratio"] <= 0.9 and error[2] < base_error[1]
    row["beats_open_loop"] = bool(longer or closer)
    return row
