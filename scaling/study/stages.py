"""The stages that make teachers: pure functions of configs and earlier artifacts, each kept and never redone."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from scaling.distill.dagger import Teacher
from scaling.distill.valset import ValSet, load_conflict, make_valset
from scaling.dynamics.artifact import FOLDER as SIMULATOR
from scaling.errors import InputError
from scaling.experts.bank import BankCard, competent, load_bank, load_card, save_bank
from scaling.experts.dream_config import DreamConfig
from scaling.experts.kept import load_kept
from scaling.experts.simulator import card_simulator, keep_card
from scaling.experts.train import train_bank
from scaling.motion.corpus import Corpus
from scaling.record.files import read_json, write_json
from scaling.record.progress import Progress
from scaling.record.store import Artifact, ArtifactStore
from scaling.study.closed_loop import play_teachers
from scaling.study.config import StudyConfig
from scaling.study.corpus_stages import (
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
    # A trained bank's key names the physics that it was trained in; a kept one may be played in any.
    played_in = {} if config.bank is None else {"physics": backend_name(config.physics)}
    return store.stage("valset", {"val": config.val} | played_in, inputs, VALSET_VERSION, build)


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
