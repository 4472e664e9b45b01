"""The stages that make students, and which runs a study has: pretrained, taught by a bank, or by nobody."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Int

from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.distill.dagger import RunSpec, forget, train_group
from scaling.distill.direct import train_direct
from scaling.distill.pretrain import pretrain
from scaling.distill.student import Student, load_student, save_student
from scaling.motion.corpus import Corpus, nested_arms
from scaling.motion.describe import complexities
from scaling.motion.selection import selection_order
from scaling.record.store import Artifact, ArtifactStore
from scaling.students.config import Family, StudentConfig
from scaling.students.ladder import ladder
from scaling.study.config import StudyConfig
from scaling.study.corpus_stages import (
    Clusters,
    load_clusters,
)
from scaling.study.once import Once
from scaling.study.stages import Teaching, shared_physics
from scaling.tracking.physics import backend_name

PRETRAIN_VERSION = 1
STUDENTS_VERSION = 2
DIRECT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """One run of a group: arm, seed and clustering; `spec` is what DAgger needs of it."""

    arm: float
    seed: int
    k: int
    spec: RunSpec


def arms_of(config: StudyConfig, corpus: Corpus, strata: Clusters) -> dict[float, Int[np.ndarray, "m"]]:
    """Fraction -> training segments, nested, in the order of the study's selection."""
    unique = corpus.unique_indices("train")
    features = None if strata.features is None else strata.features[unique]
    asked = complexities(corpus.subset(unique)) if config.selection == "complex" else np.zeros(len(unique))
    order = selection_order(config.selection, strata.labels[unique], features, asked, config.seed)
    return nested_arms(corpus, strata.labels, config.arms, config.seed, order)


def runs_of(config: StudyConfig, corpus: Corpus, strata: Clusters) -> list[Run]:
    """All runs of one student: every arm and seed with the first bank, and the full arm with each other bank."""
    arms = arms_of(config, corpus, strata)
    runs = []
    for teacher, k in enumerate(config.clusters):
        for arm in config.arms if teacher == 0 else (1.0,):
            for seed in range(config.seeds):
                name = f"arm{arm:g}-K{k}-seed{seed}"
                runs.append(Run(arm, seed, k, RunSpec(name, arms[arm], seed, teacher)))
    return runs


_STUDENTS: Once[StudentConfig] = Once()


def student_config(config: StudyConfig, family: str, size: str) -> StudentConfig:
    """The ladder's student for this study's observations; one object for all studies that agree in it."""
    given = (config.context, config.history, config.look_ahead, config.auxiliary, config.dtype, config.remat)

    def make() -> StudentConfig:
        sized = ladder(
            cast(Family, family),
            size,
            observation_dim(STUDENT_TERMS),
            context=config.context,
            history=config.history,
            look_ahead=config.look_ahead,
        )
        return replace(sized, auxiliary=config.auxiliary, dtype=config.dtype, remat=config.remat)

    return _STUDENTS.get((family, size, given), make)


def pretrain_stage(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, family: str, size: str
) -> Artifact | None:
    """The student's trunk, once for each seed, from reference motion alone; None where the study asks for no hours."""
    if config.pretrain.hours == 0:
        return None
    student = student_config(config, family, size)
    key = {"student": student, "pretrain": config.pretrain, "seeds": config.seeds, "seed": config.seed}

    def build(work: Path) -> None:
        held, seeds = Corpus.load(corpus.path), range(config.seeds)
        trunks = pretrain(student, held, config.pretrain, seeds, config.seed, work / "training")
        for seed, trained in zip(seeds, trunks, strict=True):
            save_student(work / f"seed{seed}", trained)
        forget(work / "training")

    return store.stage("pretrained", key, {"corpus": corpus}, PRETRAIN_VERSION, build)


def selection_key(config: StudyConfig) -> dict[str, str]:
    """What the choice of segments adds to a key: nothing where it is the one that there always was."""
    return {} if config.selection == "stratified" else {"selection": config.selection}


def _runs_key(config: StudyConfig, student: StudentConfig) -> dict[str, Any]:
    """What every training of a student's runs is keyed by, whoever teaches it."""
    return {
        "student": student,
        "arms": config.arms,
        "seeds": config.seeds,
        "seed": config.seed,
        "physics": backend_name(config.physics),
        **selection_key(config),
    }


def students_stage(
    store: ArtifactStore,
    config: StudyConfig,
    corpus: Artifact,
    teachings: Sequence[Teaching],
    family: str,
    size: str,
    pretrained: Artifact | None = None,
) -> Artifact:
    """All runs of one student, trained in one vmapped program; each begins with the trunk of its seed if there is one.

    Raises ValueError where the study is pretrained and no trunk is given.
    """
    if (pretrained is not None) != (config.pretrain.hours > 0):
        raise ValueError(f"pretrain.hours is {config.pretrain.hours:g} and the trunk is {pretrained}")
    student = student_config(config, family, size)
    inputs: dict[str, Artifact] = {"corpus": corpus}
    for teaching in teachings:
        inputs |= {f"bank-{teaching.k}": teaching.bank, f"valset-{teaching.k}": teaching.valset}
        inputs |= {f"clusters-{teaching.k}": teaching.clusters}
    if pretrained is not None:
        inputs["pretrained"] = pretrained
    key = _runs_key(config, student) | {"dagger": config.dagger, "clusters": config.clusters}

    def build(work: Path) -> None:
        held = Corpus.load(corpus.path)
        runs = runs_of(config, held, load_clusters(teachings[0].clusters))
        rounds = work / "rounds"
        specs = [
            replace(
                run.spec,
                segments=teachings[run.spec.teacher].taught(run.spec.segments, config.dagger.teachers),
                pretrained=None if pretrained is None else load_student(pretrained.path / f"seed{run.seed}"),
            )
            for run in runs
        ]
        students = train_group(
            student,
            specs,
            [teaching.teacher() for teaching in teachings],
            held,
            shared_physics(config.physics),
            config.dagger,
            rounds,
        )
        if jax.process_index():  # the first one writes
            return
        for run, trained in zip(runs, students, strict=True):
            save_student(work / run.spec.name, trained)
        forget(rounds)

    return store.stage("students", key, inputs, STUDENTS_VERSION, build)


def direct_runs(config: StudyConfig, corpus: Corpus, strata: Clusters) -> list[Run]:
    """The runs of one student that no expert teaches: K is 0."""
    if config.direct is None:
        return []
    arms = arms_of(config, corpus, strata)
    return [
        Run(arm, seed, 0, RunSpec(f"arm{arm:g}-direct-seed{seed}", arms[arm], seed))
        for arm in config.direct.arms
        for seed in range(config.seeds)
    ]


def direct_stage(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, clusters: Artifact, family: str, size: str
) -> Artifact:
    """The same student without experts, one run after the other; an interruption costs the run it falls in alone."""
    # Nobody predicts there what the next frame will be.
    student, direct = replace(student_config(config, family, size), auxiliary=0.0), config.direct
    if direct is None:
        raise ValueError("the study trains no student directly")
    key = _runs_key(config, student) | {"direct": direct}

    def build(work: Path) -> None:
        held = Corpus.load(corpus.path)
        specs = [run.spec for run in direct_runs(config, held, load_clusters(clusters))]
        train_direct(
            student,
            specs,
            held,
            shared_physics(config.physics),
            direct,
            work / "training",
            lambda run, trained: save_student(work / run.name, trained),
        )

    return store.stage("direct", key, {"corpus": corpus, "clusters": clusters}, DIRECT_VERSION, build)


def load_students(artifact: Artifact, runs: Sequence[Run]) -> list[Student]:
    """The students of a finished group, in the order of its runs."""
    return [load_student(artifact.path / run.spec.name) for run in runs]
