"""A bank from a corpus: waves of experts with checkpoints, then competence measured in converged C MuJoCo."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from scaling.contract.normaliser import Normaliser
from scaling.errors import InputError
from scaling.experts.bank import Bank, BankCard, save_bank
from scaling.experts.competence import CompetenceConfig, measure_competence
from scaling.experts.dream_config import DreamConfig
from scaling.experts.loop import chunk_of, read_left, train_actors
from scaling.experts.mesh import ExpertConfig, Program, expert_mesh
from scaling.experts.roster import WaveConfig
from scaling.record.files import write_json
from scaling.record.hashing import content_hash
from scaling.record.progress import say
from scaling.robot.kinematics import soles
from scaling.tracking.env import TrackingEnv
from scaling.tracking.physics import make_physics
from scaling.tracking.randomise import draw_models
from scaling.tracking.reference import ClipStore

_UNDER_FLOOR_M = 0.5


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
    program = Program(TrackingEnv(physics, config.env), config, chunk_of(config, waves), mesh)
    training = train_actors(key, program, store, clusters, config, waves, work, title)
    bank = _bank(read_left(work, len(clusters)))
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


def _bank(leaves: list[Array]) -> Bank:
    *layers, mean, std = leaves
    half = len(layers) // 2
    return Bank(tuple(layers[:half]), tuple(layers[half:]), Normaliser(mean, std))
