"""Students without experts: each is trained through the learned simulator on all of its clips at once.

The third recipe of a study, beside PPO's and dreamed experts with DAgger. The student acts on what the robot measures,
as it will when it is played; its gradient comes through imagined roll-outs that begin with what it really saw.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from scaling.contract.normaliser import Normaliser
from scaling.distill.group import RunSpec
from scaling.distill.rollout import STUDENT_OBS
from scaling.distill.student import Student, policy
from scaling.errors import InputError
from scaling.experts.dream_config import DreamConfig
from scaling.experts.loop import chunk_of, read_left, train_actors
from scaling.experts.mesh import Program
from scaling.experts.roster import WaveConfig
from scaling.experts.train import check_clips, check_horizon
from scaling.motion.corpus import Corpus
from scaling.students import count, model
from scaling.students.config import StudentConfig
from scaling.students.count import parameters, training_flops_per_token
from scaling.tracking.env import EnvConfig, TrackingEnv
from scaling.tracking.physics import Physics
from scaling.tracking.randomise import Randomisation
from scaling.tracking.reference import make_store

_WAVES = WaveConfig()


@dataclass(frozen=True)
class DirectConfig:
    """The training of one student, and the arms that are trained this way.

    `dream.hidden` has no meaning here. The network's output is in units of `action_scale`.
    """

    dream: DreamConfig = field(
        default_factory=lambda: DreamConfig(
            envs=128,
            actor_batch=64,
            warm_start=0.0,
            env=EnvConfig(reward="absolute", start_noise=0.5, randomisation=Randomisation(observation_noise=1.0)),
        )
    )
    arms: tuple[float, ...] = (1.0,)
    action_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.arms or min(self.arms) <= 0 or max(self.arms) > 1:
            raise ValueError(f"arms {self.arms}: fractions above 0 and at most 1, one or more")
        if self.action_scale <= 0:
            raise ValueError(f"action_scale {self.action_scale}: above 0")


class StudentActors:
    """Students as `experts.actor.Actors`; an imagined roll-out begins with the frames of one window remembered."""

    def __init__(self, student: StudentConfig, action_scale: float) -> None:
        self.student, self.scale = student, action_scale
        self.memory = student.window - 1
        self.policy = policy(student)

    def init(self, key: Key[Array, ""]) -> Any:
        """See `Actors`."""
        return model.init(self.student, key)

    def params(self, actor: Any, normaliser: Normaliser) -> Any:
        """See `Actors`: what the head of the observation is scaled by."""
        return {
            "params": actor,
            "mean": normaliser.mean[:STUDENT_OBS],
            "std": normaliser.std[:STUDENT_OBS],
            "scale": jnp.full((29,), self.scale),
        }


def train_direct(
    student: StudentConfig,
    runs: Sequence[RunSpec],
    corpus: Corpus,
    physics: Physics,
    config: DirectConfig,
    work: Path,
    kept: Callable[[RunSpec, Student], None] = lambda run, student: None,
) -> list[Student]:
    """The students of `runs`, in order: each by itself, with a simulator of its own, in one program for each arm.

    A training goes on from its checkpoint in `work`; `kept` hears of each student as it is done. Raises InputError,
    before anything compiles, for clips that cannot be trained on, and where there are several processes.
    """
    if jax.process_count() > 1:
        raise InputError("students without experts are trained by one process: work this sweep without --gang")
    store = make_store(corpus.qpos, corpus.start, corpus.length)
    arms = [np.asarray(run.segments) for run in runs]
    for run, arm in zip(runs, arms, strict=True):
        if len(arm) == 0 or not np.isin(arm, corpus.indices("train")).all():
            raise InputError(f"run {run.name}: its arm must be train segments of the corpus, at least one")
    check_clips(store, arms)
    check_horizon(store, arms, config.dream.horizon)
    dream = config.dream
    actors = StudentActors(student, config.action_scale)
    program = Program(TrackingEnv(physics, dream.env), dream, chunk_of(dream, _WAVES), kind=actors)
    structure = jax.tree.structure(
        jax.eval_shape(lambda: actors.params(actors.init(jax.random.key(0)), Normaliser(jnp.zeros(0), jnp.ones(0))))
    )
    students = []
    for run, arm in zip(runs, arms, strict=True):
        began, folder = time.perf_counter(), work / run.name
        folder.mkdir(parents=True, exist_ok=True)
        title = f"direct {student.family} {parameters(student) / 1e6:.2g}M {run.name}"
        reports = train_actors(
            jax.random.fold_in(jax.random.key(run.seed), 7), program, store, [arm], dream, _WAVES, folder, title
        )
        params = jax.tree.map(lambda x: np.asarray(x[0]), jax.tree.unflatten(structure, read_left(folder, 1)))
        columns = _columns(student, config, corpus, run, reports[0], physics, time.perf_counter() - began)
        done = Student(
            student, params["params"], Normaliser(params["mean"], params["std"]), params["scale"], columns, []
        )
        kept(run, done)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        students.append(done)
    return students


def _columns(
    student: StudentConfig,
    config: DirectConfig,
    corpus: Corpus,
    run: RunSpec,
    report: dict[str, Any],
    physics: Physics,
    seconds: float,
) -> dict[str, Any]:
    """A run's part of its row; nobody labelled anything, so it has no validation loss."""
    dream, unique = config.dream, corpus.frames(run.segments)
    updates = report["iterations"] * dream.actor_updates
    imagined = updates * dream.actor_batch * dream.horizon
    return {
        **count.columns(student),
        "corpus_hash": corpus.content_hash,
        "unique_frames": unique,
        "augmented_frames": corpus.augmented_frames(run.segments),
        "hours": corpus.hours(run.segments),
        "rate_hz": corpus.rate_hz,
        "student_frames": report["env_steps"],
        "epochs": report["env_steps"] / unique,
        "updates": updates,
        "flops": imagined * training_flops_per_token(student),
        "env_steps": report["env_steps"],
        "assist": 0.0,
        "seconds": seconds,
        "physics": physics.name,
        "status": "finished",
    }
