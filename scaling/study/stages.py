"""The stages of a study: pure functions of configs and earlier artifacts, each kept in the store and never redone."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Int

from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.distill.dagger import RunSpec, Teacher, forget, train_group
from scaling.distill.direct import train_direct
from scaling.distill.pretrain import pretrain
from scaling.distill.student import Student, load_student, save_student
from scaling.distill.valset import ValSet, load_conflict, make_valset
from scaling.dynamics.artifact import FOLDER as SIMULATOR
from scaling.errors import InputError
from scaling.experts.bank import BankCard, competent, load_bank, load_card, save_bank
from scaling.experts.dream_config import DreamConfig
from scaling.experts.kept import load_kept
from scaling.experts.simulator import card_simulator, keep_card
from scaling.experts.train import train_bank
from scaling.motion.corpus import Corpus, nested_arms
from scaling.motion.describe import complexities
from scaling.motion.selection import selection_order
from scaling.record.files import read_json, write_json
from scaling.record.progress import Progress
from scaling.record.store import Artifact, ArtifactStore
from scaling.students.config import Family, StudentConfig
from scaling.students.ladder import ladder
from scaling.study.closed_loop import play_teachers
from scaling.study.config import StudyConfig
from scaling.study.corpus_stages import (
    Clusters,
    cluster_stage,
    embedding_stage,
    kept_cluster_stage,
    load_clusters,
    store_of,
)
from scaling.tracking.physics import Physics, backend_name, make_physics
from scaling.view.experts import picture_bank

BANK_VERSION = 4
VALSET_VERSION = 2
PRETRAIN_VERSION = 1
STUDENTS_VERSION = 2
DIRECT_VERSION = 1
TEACHERS_VERSION = 1
_PLAYED = "played.json"


def bank_stage(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, clusters: Artifact, k: int | None = None
) -> Artifact:
    """One expert per cluster, trained in one program, with its competence beside open-loop playback.

    `k` is the number of clusters, for who asks before they are there; else it is read.
    """
    if config.bank is not None:
        kept = load_kept(Path(config.bank))

        def copy(work: Path) -> None:
            save_bank(work, kept.bank, kept.card)
            picture_bank(work, kept.bank, kept.card, store_of(Corpus.load(corpus.path)))

        inputs = {"corpus": corpus, "clusters": clusters}
        return store.stage("bank", {"kept": kept.content_hash}, inputs, BANK_VERSION, copy)
    count = k or load_clusters(clusters).report["clusters"]
    experts = config.experts_for(count)
    key = {
        "experts": experts,
        "waves": config.waves,
        "competence": config.competence,
        "seed": config.seed,
        "physics": backend_name(config.physics),
    }

    def build(work: Path) -> None:
        held = Corpus.load(corpus.path)
        clips = store_of(held)
        bank, card = train_bank(
            jax.random.key(config.seed),
            clips,
            load_clusters(clusters).experts(held),
            experts,
            work,
            config.physics,
            config.competence,
            f"experts K={count}",
            config.waves,
        )
        if jax.process_index():  # the first one writes
            return
        picture_bank(work, bank, card, clips)
        if isinstance(experts, DreamConfig):
            unseen = load_clusters(clusters).of_split(held, "test")
            found = card_simulator(
                jax.random.key(config.seed), work / SIMULATOR, bank, clips, unseen, shared_physics(config.physics)
            )
            if found is not None:
                keep_card(work / SIMULATOR, found)

    return store.stage("bank", key, {"corpus": corpus, "clusters": clusters}, BANK_VERSION, build)


@functools.cache
def shared_physics(name: str) -> Physics:
    """One backend for all stages of a process: programs are compiled for the object, not for its name."""
    return make_physics(name)


def valset_stage(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, clusters: Artifact, bank: Artifact
) -> Artifact:
    """The bank's frozen validation set."""

    def build(work: Path) -> None:
        with Progress(f"validation set K={load_clusters(clusters).report['clusters']}", 1) as progress:
            progress.update(0, message="compiling")
            experts, _ = load_bank(bank.path)
            make_valset(
                experts,
                load_clusters(clusters).labels,
                Corpus.load(corpus.path),
                shared_physics(config.physics),
                config.val,
            ).save(work)
            progress.update(1)

    inputs = {"corpus": corpus, "clusters": clusters, "bank": bank}
    return store.stage("valset", {"val": config.val}, inputs, VALSET_VERSION, build)


@dataclass(frozen=True)
class Teaching:
    """What students learn from: a clustering, its bank, its validation set, and its experts in the closed loop."""

    k: int
    clusters: Artifact
    bank: Artifact
    valset: Artifact
    played: Artifact

    def teacher(self) -> Teacher:
        """The loaded pieces."""
        return load_teacher(self.clusters, self.bank, self.valset)

    def card(self) -> BankCard:
        """How the bank was trained and how good it is."""
        return load_card(self.bank.path)

    def conflict(self) -> dict[str, float | None]:
        """Columns of `distill.conflict`: loss between experts on shared states, and the share of these."""
        found = load_conflict(self.valset.path)
        return {
            "label_conflict": None if found is None else found.loss,
            "shared_states": None if found is None else found.share,
        }

    def closed_loop(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Columns of experts and playback (`play_teachers`) by split."""
        found: dict[str, dict[str, dict[str, Any]]] = read_json(self.played.path / _PLAYED)
        return found

    def taught(self, segments: Int[np.ndarray, "n"], teachers: str) -> Int[np.ndarray, "m"]:
        """The segments with a teacher: all of them, or those whose expert is competent.

        Raises InputError where none is left.
        """
        if teachers == "all":
            return segments
        kept = segments[competent(self.card())[load_clusters(self.clusters).labels[segments]]]
        if len(kept) == 0:
            raise InputError(
                f"no expert of the {self.k} reaches the target of survival, so there is nobody to learn from; train "
                "them longer, or set dagger.teachers=all"
            )
        return kept


def load_teacher(clusters: Artifact, bank: Artifact, valset: Artifact) -> Teacher:
    """What students learn from, loaded."""
    return Teacher(load_bank(bank.path)[0], load_clusters(clusters).labels, ValSet.load(valset.path))


def teaching_stages(
    store: ArtifactStore,
    config: StudyConfig,
    corpus: Artifact,
    k: int,
    keep: Callable[[str, Artifact], Artifact] = lambda title, artifact: artifact,
    embedding: Artifact | None = None,
) -> Teaching:
    """Clusters, bank and validation set for K = `k`; `keep(title, artifact)` sees each as it is done.

    `embedding` is that of `embedding_stage`, found or made here where it is left out; a kept bank needs none.
    """
    if config.bank is not None:
        grouped = kept_cluster_stage(store, corpus, config.bank)
    else:
        embedding = embedding or embedding_stage(store, corpus, config.embed)
        grouped = cluster_stage(store, corpus, embedding, k, config.seed)
    clusters = keep(f"clusters K={k}", grouped)
    bank = keep(f"experts K={k}", bank_stage(store, config, corpus, clusters))
    valset = keep(f"validation set K={k}", valset_stage(store, config, corpus, clusters, bank))
    played = keep(f"closed loop of experts K={k}", teachers_stage(store, config, corpus, clusters, bank))
    return Teaching(k, clusters, bank, valset, played)


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


def student_config(config: StudyConfig, family: str, size: str) -> StudentConfig:
    """The ladder's student for this study's observations."""
    sized = ladder(
        cast(Family, family),
        size,
        observation_dim(STUDENT_TERMS),
        context=config.context,
        history=config.history,
        look_ahead=config.look_ahead,
    )
    return replace(sized, auxiliary=config.auxiliary, dtype=config.dtype, remat=config.remat)


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
        for seed, trained in zip(seeds, pretrain(student, held, config.pretrain, seeds, config.seed), strict=True):
            save_student(work / f"seed{seed}", trained)

    return store.stage("pretrained", key, {"corpus": corpus}, PRETRAIN_VERSION, build)


def selection_key(config: StudyConfig) -> dict[str, str]:
    """What the choice of segments adds to a key: nothing where it is the one that there always was."""
    return {} if config.selection == "stratified" else {"selection": config.selection}


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
    key = {
        "student": student,
        "dagger": config.dagger,
        "arms": config.arms,
        "seeds": config.seeds,
        "clusters": config.clusters,
        "seed": config.seed,
        "physics": backend_name(config.physics),
        **selection_key(config),
    }

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
    key = {
        "student": student,
        "direct": direct,
        "arms": config.arms,
        "seeds": config.seeds,
        "seed": config.seed,
        "physics": backend_name(config.physics),
        **selection_key(config),
    }

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


def teachers_stage(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, clusters: Artifact, bank: Artifact
) -> Artifact:
    """The experts, each on the clips of its cluster, and open-loop playback, on the starts that students have."""
    key = {"closed_loop": config.closed_loop, "assist": config.assist, "seed": config.seed}

    def build(work: Path) -> None:
        held, experts = Corpus.load(corpus.path), load_bank(bank.path)[0]
        labels, clips = load_clusters(clusters).labels, store_of(held)
        found = {
            split: play_teachers(experts, labels, clips, held.indices(split), config.assist, config.closed_loop)
            for split in config.closed_loop.splits
            if len(held.indices(split))
        }
        write_json(work / _PLAYED, found)

    inputs = {"corpus": corpus, "clusters": clusters, "bank": bank}
    return store.stage("teachers", key, inputs, TEACHERS_VERSION, build)
