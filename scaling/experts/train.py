"""A bank from a corpus: waves of experts with checkpoints, then competence measured in converged C MuJoCo."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.contract.normaliser import Normaliser
from scaling.errors import InputError
from scaling.experts.bank import Bank, BankCard, save_bank
from scaling.experts.checkpoint import Checkpoints
from scaling.experts.competence import CompetenceConfig, measure_competence
from scaling.experts.dream import DreamConfig
from scaling.experts.mesh import ExpertConfig, Program, agreed, expert_mesh, gather
from scaling.experts.roster import WaveConfig, exchange, open_roster
from scaling.record.files import write_json
from scaling.record.hashing import content_hash
from scaling.record.progress import Progress, say
from scaling.record.runs import RunLog
from scaling.robot.kinematics import soles
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.physics import make_physics
from scaling.tracking.randomise import draw_models
from scaling.tracking.reference import ClipStore

_CHUNK = 5  # iterations between two looks at the clock and the log
_LOGGED = 32  # experts that get a line of their own in the log
_UNDER_FLOOR_M = 0.5


def pad_clusters(clusters: Sequence[Int[np.ndarray, "m"]], lengths: Int[np.ndarray, "S"]) -> tuple[Array, Array]:
    """`(clips [K, M], weights [K, M])`: each cluster's segments, weighted by length, padded with weight 0."""
    widest = max(len(cluster) for cluster in clusters)
    clips = np.zeros((len(clusters), widest), np.int32)
    weights = np.zeros((len(clusters), widest), np.float32)
    for index, cluster in enumerate(clusters):
        clips[index, : len(cluster)] = cluster
        weights[index, : len(cluster)] = lengths[cluster] / lengths[cluster].sum()
    return jnp.asarray(clips), jnp.asarray(weights)


def train_bank(
    key: Key[Array, ""],
    store: ClipStore,
    clusters: Sequence[Int[np.ndarray, "m"]],
    config: ExpertConfig,
    work: Path,
    backend: str = "auto",
    competence: CompetenceConfig = CompetenceConfig(),
    title: str = "experts",
    waves: WaveConfig = WaveConfig(),
    mesh: Mesh | None = None,
) -> tuple[Bank, BankCard]:
    """Trains one expert per cluster, resuming from `work` if it holds a checkpoint; saves and returns the bank.

    Experts are spread over `mesh` (default: all devices). In a run of several processes each calls this with the
    same arguments and a `work` that all can write to; process 0 measures and saves. Raises InputError, before anything
    compiles, for clips or clusters that cannot be trained on and for a checkpoint of another configuration.
    """
    check_clips(store, clusters)
    if isinstance(config, DreamConfig):
        check_horizon(store, clusters, config.horizon)
    mesh = mesh or expert_mesh()
    models = draw_models(config.env.randomisation)
    physics = make_physics(backend, models=models)
    _check_work(work, {"config": replace(config, iterations=1), "waves": waves, "physics": physics.name}, key, clusters)
    env = TrackingEnv(physics, config.env)
    training = _train(key, env, store, clusters, config, waves, mesh, work, title)
    bank = _read_left(work, len(clusters))
    rows = measure_competence(bank, store, clusters, config.assist, competence, title)
    for row in rows:
        row["restored"] = training[row["cluster"]]["restored"]
        if row["assist"] == 0 and not row["competent"]:
            say(
                f"{title}: expert {row['cluster']} is below target, {row['survival_ratio']:.2f}x the survival of "
                f"open-loop playback at assist 0 (asked {competence.target:g}x)"
            )
    card = BankCard(
        trainer="dream" if isinstance(config, DreamConfig) else "ppo",
        physics=physics.name,
        assist=config.assist,
        clusters=len(clusters),
        env_steps=sum(one["env_steps"] for one in training),
        config=asdict(config),
        competence=rows,
        training=training,
    )
    if jax.process_index() == 0:
        save_bank(work, bank, card)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)  # up to gigabytes, and of no use any more
    return bank, card


def check_clips(store: ClipStore, clusters: Sequence[Int[np.ndarray, "m"]]) -> None:
    """Raises InputError for an empty cluster, and for a clip that is not finite or whose feet are under the floor."""
    for index, cluster in enumerate(clusters):
        if len(cluster) == 0:
            raise InputError(f"cluster {index} of {len(clusters)} has no segments; ask for fewer clusters")
    qpos, start, length = (np.asarray(part) for part in store)
    for clip in np.unique(np.concatenate([np.asarray(cluster) for cluster in clusters])):
        frames = qpos[start[clip] : start[clip] + length[clip]]
        if not np.isfinite(frames).all():
            raise InputError(f"clip {clip} holds values that are not finite; leave it out or mend it")
        depth = -float(np.median(soles(frames)[..., 2].min(axis=(1, 2))))
        if depth > _UNDER_FLOOR_M:
            raise InputError(f"clip {clip} has its feet {depth:.2f} m under the floor; raise it or leave it out")


def check_horizon(store: ClipStore, clusters: Sequence[Int[np.ndarray, "m"]], horizon: int) -> None:
    """Raises InputError for a cluster whose clips all end before an imagined roll-out does."""
    for index, cluster in enumerate(clusters):
        longest = int(np.asarray(store.length)[np.asarray(cluster)].max())
        if longest <= horizon:
            raise InputError(
                f"horizon {horizon} is longer than any clip of cluster {index} ({longest} frames); shorten it or take "
                "longer clips"
            )


def _check_work(
    work: Path, settings: dict[str, Any], key: Key[Array, ""], clusters: Sequence[Int[np.ndarray, "m"]]
) -> None:
    """Remembers what is trained in `work`, and refuses to go on there with something else."""
    mark = {
        "settings": content_hash(settings),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "clusters": content_hash([np.asarray(cluster).tolist() for cluster in clusters]),
    }
    path = work / "training.json"
    if path.exists():
        if json.loads(path.read_text()) != mark:
            raise InputError(f"{work}: the checkpoint there is of another configuration; delete the folder")
    elif jax.process_index() == 0:
        work.mkdir(parents=True, exist_ok=True)
        write_json(path, mark)


def _train(
    key: Key[Array, ""],
    env: TrackingEnv,
    store: ClipStore,
    clusters: Sequence[Int[np.ndarray, "m"]],
    config: ExpertConfig,
    waves: WaveConfig,
    mesh: Mesh,
    work: Path,
    title: str,
) -> list[dict[str, Any]]:
    """Trains until every expert has left; each one's actor is then in `work/left`. Returns what each training was."""
    experts = len(clusters)
    reports = [work / "left" / f"{expert:05d}.json" for expert in range(experts)]
    if all(path.exists() for path in reports):
        return [json.loads(path.read_text()) for path in reports]
    chunk = min(_CHUNK, config.iterations, waves.boundary or _CHUNK)
    clips, weights = (np.asarray(x) for x in pad_clusters(clusters, np.asarray(store.length)))
    keys = np.asarray(jax.random.key_data(jax.random.split(key, experts)))
    program = Program(env, config, chunk, mesh)
    roster = open_roster(experts, waves, mesh.size)

    def task_of(ids: Int[np.ndarray, "S"]) -> Task:
        return program.place(Task(store, clips[ids], weights[ids], jnp.zeros(())))

    total = experts * config.iterations
    with Progress(title, total) as progress, Checkpoints(work / "checkpoints") as checkpoints:
        progress.update(0, message="compiling")
        task = task_of(roster.experts)
        state = program.init(keys[roster.experts], task)
        state, roster, turn = checkpoints.restore(state, roster)
        task = task_of(roster.experts)
        mine = "log" if jax.process_index() == 0 else f"log-{jax.process_index()}"
        with RunLog(work / mine, resume_from=turn + 1) as log:
            began, steps, restored = time.monotonic(), 0, 0
            told: set[str] = set()
            while roster.busy.any():
                state, metrics = program.advance(state, task)
                history = gather(metrics)
                shown = {name: value[:, -1] for name, value in history._asdict().items()}
                failing = history.failure_rate.mean(axis=1)
                done, undone = gather(state.iteration), gather(state.restored)
                turn += chunk
                steps += chunk * config.steps_per_iteration * int(roster.busy.sum())
                speed = steps / (time.monotonic() - began)
                _log(log, turn, shown, roster.slots, speed, config)
                progress.update(
                    int(roster.left.sum()) * config.iterations + int(done[roster.busy].sum()),
                    message=_words(shown, failing, roster.busy, speed),
                )
                wild = {name for name, value in shown.items() if not np.isfinite(value[roster.busy]).all()}
                if wild - told:
                    told |= wild
                    say(f"{title}: {', '.join(sorted(wild))} not finite at iteration {turn}; lower the learning rate")
                if undone[roster.busy].sum() > restored:
                    restored = int(undone[roster.busy].sum())
                    who = roster.slots[roster.busy & (undone > 0)].tolist()
                    say(f"{title}: updates that were not finite were undone ({restored} so far, experts {who})")
                leaving = _leaving(done, failing, turn, config, waves) & roster.busy
                if leaving.any():
                    if jax.process_index() == 0:
                        program.leave(state, work)
                    _write_left(work, gather(program.actors(state)), roster.slots, leaving, done, undone, turn, config)
                    roster, fresh = exchange(roster, leaving)
                    if fresh.any():
                        task = task_of(roster.experts)
                        state = program.exchange(fresh, program.init(keys[roster.experts], task), state)
                    restored = 0
                if leaving.any() or agreed(checkpoints.due):
                    checkpoints.save(turn, state, roster)
    return [json.loads(path.read_text()) for path in reports]


def _leaving(
    done: Int[np.ndarray, "S"], failing: Float[np.ndarray, "S"], turn: int, config: ExpertConfig, waves: WaveConfig
) -> Bool[np.ndarray, "S"]:
    """Slots whose expert has spent its budget or, at a wave boundary, falls seldom enough."""
    spent = done >= config.iterations
    boundary = waves.boundary or config.iterations
    return spent | ((turn % boundary < min(_CHUNK, boundary)) & (failing < waves.leave_below))


def _words(
    shown: dict[str, Float[np.ndarray, "S"]], failing: Float[np.ndarray, "S"], busy: Bool[np.ndarray, "S"], speed: float
) -> str:
    falls = 0.02 / np.maximum(failing[busy], 1e-9)
    seconds = "rarely falls" if np.median(falls) > 100 else f"falls every {np.median(falls):.1f} s"
    return f"{seconds}, joint error {shown['joint_error'][busy].mean():.3f} rad, {speed / 1000:.1f} k steps/s"


def _log(log: RunLog, turn: int, shown: dict, slots: Int[np.ndarray, "S"], speed: float, config: ExpertConfig) -> None:
    busy = slots >= 0
    each = {
        f"expert_{slots[slot]}/{name}": float(shown[name][slot])
        for slot in np.flatnonzero(busy)[:_LOGGED]
        for name in ("reward", "failure_rate", "joint_error")
    }
    log.log(
        turn,
        env_steps=turn * config.steps_per_iteration,
        steps_per_s=speed,
        **{name: float(value[busy].mean()) for name, value in shown.items()},
        **each,
    )


def _write_left(
    work: Path,
    bank: Bank,
    slots: Int[np.ndarray, "S"],
    leaving: Bool[np.ndarray, "S"],
    done: Int[np.ndarray, "S"],
    restored: Int[np.ndarray, "S"],
    turn: int,
    config: ExpertConfig,
) -> None:
    """The actors of those who leave, one file each, the JSON last: with it the expert is finished."""
    if jax.process_index() != 0:
        return
    folder = work / "left"
    folder.mkdir(parents=True, exist_ok=True)
    for slot in np.flatnonzero(leaving):
        leaves = jax.tree.leaves(jax.tree.map(lambda x, slot=slot: x[slot], bank))
        if not all(np.isfinite(leaf).all() for leaf in leaves):
            raise InputError(f"{work}: expert {slots[slot]} is not finite; lower learning_rate and train again")
        np.savez(folder / f"{slots[slot]:05d}.npz", *leaves)
        write_json(
            folder / f"{slots[slot]:05d}.json",
            {
                "expert": int(slots[slot]),
                "iterations": int(done[slot]),
                "env_steps": int(done[slot]) * config.steps_per_iteration,
                "left_at": turn,
                "restored": int(restored[slot]),
            },
        )


def _read_left(work: Path, experts: int) -> Bank:
    """The bank of all experts that have left."""
    each = []
    for expert in range(experts):
        with np.load(work / "left" / f"{expert:05d}.npz") as held:
            each.append([held[f"arr_{index}"] for index in range(len(held.files))])
    *layers, mean, std = (jnp.asarray(np.stack(leaves)) for leaves in zip(*each, strict=True))
    half = len(layers) // 2
    return Bank(tuple(layers[:half]), tuple(layers[half:]), Normaliser(mean, std))
