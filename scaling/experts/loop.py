"""The loop over iterations that trains the actors of any recipe: waves, checkpoints, log, and who is done written."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.errors import InputError
from scaling.experts.checkpoint import Checkpoints
from scaling.experts.mesh import ExpertConfig, Program, agreed, anyone, gather
from scaling.experts.roster import WaveConfig, exchange, open_roster
from scaling.record.files import write_json
from scaling.record.progress import Progress, say
from scaling.record.runs import RunLog
from scaling.record.stopping import Stopped, saving
from scaling.tracking.env import Task
from scaling.tracking.reference import ClipStore

CHUNK = 5  # iterations between two looks at the clock and the log
_LOGGED = 32  # experts that get a line of their own in the log


def pad_clusters(clusters: Sequence[Int[np.ndarray, "m"]], lengths: Int[np.ndarray, "S"]) -> tuple[Array, Array]:
    """`(clips [K, M], weights [K, M])`: each cluster's segments, weighted by length, padded with weight 0."""
    widest = max(len(cluster) for cluster in clusters)
    clips = np.zeros((len(clusters), widest), np.int32)
    weights = np.zeros((len(clusters), widest), np.float32)
    for index, cluster in enumerate(clusters):
        clips[index, : len(cluster)] = cluster
        weights[index, : len(cluster)] = lengths[cluster] / lengths[cluster].sum()
    return jnp.asarray(clips), jnp.asarray(weights)


def chunk_of(config: ExpertConfig, waves: WaveConfig) -> int:
    """Iterations of one call of the program that trains under these."""
    return min(CHUNK, config.iterations, waves.boundary or CHUNK)


def train_actors(
    key: Key[Array, ""],
    program: Program,
    store: ClipStore,
    clusters: Sequence[Int[np.ndarray, "m"]],
    config: ExpertConfig,
    waves: WaveConfig,
    work: Path,
    title: str,
) -> list[dict[str, Any]]:
    """Trains until every expert has left; each one's actor is then in `work/left`. Returns what each training was.

    The program is of `config` and `chunk_of` iterations. Goes on from a checkpoint in `work`; asked to stop, it saves
    one after the call that it is in.
    """
    experts = len(clusters)
    reports = [work / "left" / f"{expert:05d}.json" for expert in range(experts)]
    if all(path.exists() for path in reports):
        return [json.loads(path.read_text()) for path in reports]
    chunk = program.count
    clips, weights = (np.asarray(x) for x in pad_clusters(clusters, np.asarray(store.length)))
    keys = np.asarray(jax.random.key_data(jax.random.split(key, experts)))
    roster = open_roster(experts, waves, program.mesh.size)

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
        with RunLog(work / mine, resume_from=turn + 1) as log, saving() as asked:
            began, steps, restored = time.monotonic(), 0, 0
            told: set[str] = set()
            while roster.busy.any():
                state, metrics = program.advance(state, task)
                history = gather(metrics)
                shown = {name: value[:, -1] for name, value in history._asdict().items() if value is not None}
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
                if not shown.get("falls_held", np.ones(1)).any() and "falls_held" not in told:
                    told.add("falls_held")
                    say(
                        f"{title}: nobody fell up to iteration {turn}, and a simulator that never saw a fall is "
                        "trusted in one; raise experts.noise"
                    )
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
                stopping = anyone(asked())
                if leaving.any() or stopping or agreed(checkpoints.due):
                    checkpoints.save(turn, state, roster)
                if stopping:
                    raise Stopped
    return [json.loads(path.read_text()) for path in reports]


def _leaving(
    done: Int[np.ndarray, "S"], failing: Float[np.ndarray, "S"], turn: int, config: ExpertConfig, waves: WaveConfig
) -> Bool[np.ndarray, "S"]:
    """Slots whose expert has spent its budget or, at a wave boundary, falls seldom enough."""
    spent = done >= config.iterations
    boundary = waves.boundary or config.iterations
    return spent | ((turn % boundary < min(CHUNK, boundary)) & (failing < waves.leave_below))


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
    actors: Any,
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
        leaves = jax.tree.leaves(jax.tree.map(lambda x, slot=slot: x[slot], actors))
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


def read_left(work: Path, experts: int) -> list[Array]:
    """The leaves of all experts' actors, stacked, when all have left."""
    each = []
    for expert in range(experts):
        with np.load(work / "left" / f"{expert:05d}.npz") as held:
            each.append([held[f"arr_{index}"] for index in range(len(held.files))])
    return [jnp.asarray(np.stack(leaves)) for leaves in zip(*each, strict=True)]
