"""What the students of a study wait for, as jobs: corpus, clusters, experts and their validation sets, made once."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from scaling.record.store import Artifact, ArtifactStore
from scaling.study import corpus_stages, judge, stages, sweep_cost
from scaling.study.config import StudyConfig
from scaling.study.once import Once
from scaling.study.sweep import Job
from scaling.study.sweep_cost import Device
from scaling.study.sweep_stage import stage_job

# What students alone are made by: two studies that differ in nothing else have the same teachers.
STUDENTS_OWN = (
    "name", "dagger", "direct", "families", "sizes", "context", "history", "resamples", "look_ahead", "auxiliary",
    "pretrain", "dtype", "remat", "selection", "finetune",
)  # fmt: skip
_TEACHING = tuple(one.name for one in fields(StudyConfig) if one.name not in STUDENTS_OWN)


@dataclass(frozen=True)
class Teachers:
    """What the students of a study need by label, a reference bank's validation set if there is one, and all jobs that
    these come to, each after those that it needs.
    """

    needs: Mapping[str, Job]
    reference: Job | None
    jobs: tuple[Job, ...]


_MADE: Once[Teachers] = Once()


def teachers_of(config: StudyConfig, device: Device) -> Teachers:
    """What is done once for all students of a study, and for all studies that differ in their students alone."""
    figures = [getattr(config, name) for name in _TEACHING]
    return _MADE.get((device, *figures), lambda: _teachers(config, device))


def _teachers(config: StudyConfig, device: Device) -> Teachers:
    corpus = _corpus(config.motions, config.corpus, config.arms, config.clusters, config.bank)
    embedding = _embedding(config, corpus)
    needs: dict[str, Job] = {"corpus": corpus}
    for k in config.clusters:
        needs |= _teaching(config, device, corpus, embedding, k)
    apart: tuple[Job, ...] = ()
    if config.reference:
        other = judge.reference_study(config)
        apart = _learned_from(other, device, corpus, embedding, config.clusters[0], "reference: ")
    first = () if embedding is None else (embedding,)
    return Teachers(needs, apart[-1] if apart else None, (corpus, *first, *list(needs.values())[1:], *apart))


def _teaching(config: StudyConfig, device: Device, corpus: Job, embedding: Job | None, k: int) -> dict[str, Job]:
    """What `k` experts come to: one job each, however many students need them."""
    clusters, bank, valset = _learned_from(config, device, corpus, embedding, k)
    played = stage_job(
        f"closed loop of experts K={k}",
        lambda store, given: stages.teachers_stage(store, config, given["corpus"], given["clusters"], given["bank"]),
        {"corpus": corpus, "clusters": clusters, "bank": bank},
        {"clusters": k, "closed_loop": config.closed_loop, "assist": config.assist},
        sweep_cost.played_cost(config, device),
    )
    return {f"clusters-{k}": clusters, f"bank-{k}": bank, f"valset-{k}": valset, f"played-{k}": played}


def _learned_from(
    config: StudyConfig, device: Device, corpus: Job, embedding: Job | None, k: int, words: str = ""
) -> tuple[Job, Job, Job]:
    """Clustering, bank and validation set of `k` experts."""

    def cluster(store: ArtifactStore, given: Mapping[str, Artifact]) -> Artifact:
        if config.bank is not None:
            return corpus_stages.kept_cluster_stage(store, given["corpus"], config.bank)
        return corpus_stages.cluster_stage(store, given["corpus"], given["embedding"], k, config.seed)

    needs = {"corpus": corpus} | ({} if embedding is None else {"embedding": embedding})
    figures, price = {"clusters": k, "seed": config.seed}, sweep_cost.clusters_cost(device)
    clusters = stage_job(f"{words}clusters K={k}", cluster, needs, figures, price)
    bank = stage_job(
        f"{words}experts K={k}",
        lambda store, given: stages.bank_stage(store, config, given["corpus"], given["clusters"], k),
        {"corpus": corpus, "clusters": clusters},
        {"clusters": k, "experts": config.experts, "seed": config.seed},
        sweep_cost.bank_cost(config, k, device),
        together=config.bank is None,
    )
    valset = stage_job(
        f"{words}validation set K={k}",
        lambda store, given: stages.valset_stage(store, config, given["corpus"], given["clusters"], given["bank"]),
        {"corpus": corpus, "clusters": clusters, "bank": bank},
        {"clusters": k, "val": config.val},
        sweep_cost.valset_cost(device),
    )
    return clusters, bank, valset


@functools.cache
def _corpus(motions: Any, corpus: Any, arms: tuple[float, ...], clusters: tuple[int, ...], bank: str | None) -> Job:
    """One corpus for all studies on the same motions, whose files are hashed once."""
    config = StudyConfig(motions=motions, corpus=corpus, arms=arms, clusters=clusters, bank=bank)
    figures = {"motions": motions, "corpus": corpus}
    return stage_job(
        "corpus", lambda store, given: corpus_stages.corpus_stage(store, config), {}, figures, sweep_cost.CORPUS
    )


def _embedding(config: StudyConfig, corpus: Job) -> Job | None:
    """The embedding that all cluster counts share; None where a kept bank brings its clustering."""
    if config.bank is not None:
        return None
    return stage_job(
        "embedding",
        lambda store, given: corpus_stages.embedding_stage(store, given["corpus"], config.embed),
        {"corpus": corpus},
        {"embed": config.embed},
        sweep_cost.embedding_cost(config),
    )
