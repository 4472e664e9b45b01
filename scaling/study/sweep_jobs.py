"""A study as jobs: each stage once for all runs that need it, and one job that makes the rows.

A key names the physics, and "auto" is another one on another machine: a pool of both kinds would do everything twice,
or mix two physics in one table. So a sweep states its physics, and who plans or holds a lease starts no JAX.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scaling.errors import InputError
from scaling.motion.corpus import Corpus
from scaling.record.store import Artifact, ArtifactStore
from scaling.study import corpus_stages, judge, student_stages, sweep_cost, tuned_stages
from scaling.study.config import StudyConfig
from scaling.study.results import Finished, direct_rows, record_run, rows_of_group
from scaling.study.stages import Teaching
from scaling.study.student_stages import direct_runs, direct_stage
from scaling.study.sweep import Job, Needed, Run, job_key
from scaling.study.sweep_cost import Device
from scaling.study.sweep_stage import Builds, artifacts, stage_job
from scaling.study.sweep_teachers import Teachers, teachers_of
from scaling.tracking.physics import BACKENDS

ROWS_VERSION = 3


@dataclass(frozen=True)
class StudyJobs:
    """The jobs of every run of a sweep of studies, priced for a device."""

    device: Device = sweep_cost.CPU

    def __call__(self, run: Run) -> Iterator[Job]:
        """All jobs of one study, each after those that it needs.

        Raises InputError for a study whose physics is what each machine happens to have.
        """
        config: StudyConfig = run.config
        _check_physics(config)
        teachers = teachers_of(config, self.device)
        yield from teachers.jobs
        for family in config.families:
            for size in config.sizes:
                yield from self._student(config, teachers, family, size)

    def _student(self, config: StudyConfig, teachers: Teachers, family: str, size: str) -> Iterator[Job]:
        """All arms and seeds of one student, its closed loop and its rows; the same after PPO, and without experts,
        where asked.
        """
        corpus, needs = teachers.needs["corpus"], dict(teachers.needs)
        words = f"{family} {size}"
        figures = {"family": family, "size": size, "arms": config.arms, "seeds": config.seeds, "dagger": config.dagger}
        if config.pretrain.hours:
            needs["pretrained"] = stage_job(
                f"pretraining {words}",
                functools.partial(_pretrained, config, family, size),
                {"corpus": corpus},
                {"family": family, "size": size, "pretrain": config.pretrain, "seeds": config.seeds},
                sweep_cost.pretrained_cost(config, family, size, self.device),
            )
            yield needs["pretrained"]
        group = stage_job(
            f"students {words} K={','.join(map(str, config.clusters))}",
            lambda store, given: student_stages.students_stage(
                store, config, given["corpus"], _teachings(config, given), family, size, given.get("pretrained")
            ),
            needs,
            figures,
            sweep_cost.students_cost(config, family, size, self.device),
            together=True,
        )
        yield from self._judged(config, teachers, group, family, size, "taught")
        strata = teachers.needs[f"clusters-{config.clusters[0]}"]
        if config.finetune.iterations:
            tuned = stage_job(
                f"fine-tuning {words}",
                lambda store, given: tuned_stages.tuned_stage(
                    store, config, given["corpus"], given["students"], given["valset"],
                    _runs_if_built(tuned_stages.tuned_runs, config, store, given),
                ),
                {"corpus": corpus, "clusters": strata, "students": group}
                | {"valset": teachers.needs[f"valset-{config.clusters[0]}"]},
                figures | {"finetune": config.finetune},
                sweep_cost.tuned_cost(config, family, size, self.device),
                together=True,
            )  # fmt: skip
            yield from self._judged(config, teachers, tuned, family, size, "tuned")
        if config.direct is not None:
            alone = stage_job(
                f"direct {words}",
                lambda store, given: direct_stage(store, config, given["corpus"], given["clusters"], family, size),
                {"corpus": corpus, "clusters": strata},
                figures | {"direct": config.direct},
                sweep_cost.direct_cost(config, family, size, self.device),
            )
            yield from self._judged(config, teachers, alone, family, size, "direct")

    def _judged(
        self, config: StudyConfig, teachers: Teachers, group: Job, family: str, size: str, kind: str
    ) -> Iterator[Job]:
        """A group, its closed loop with one job a split, its loss against the reference bank, if any, and its rows."""
        runs = functools.partial(_runs_if_built, _KINDS[kind].runs_of, config)
        said = _KINDS[kind].words
        words = f"{family} {size}{said}," if said else f"{family} {size}"

        def play(store: ArtifactStore, given: Mapping[str, Artifact], split: str) -> Artifact:
            return judge.closed_loop_stage(store, config, given["corpus"], given["students"], runs(store, given), split)

        def measure(store: ArtifactStore, given: Mapping[str, Artifact]) -> Artifact:
            return judge.reference_stage(store, given["corpus"], given["valset"], given["students"], runs(store, given))

        corpus, strata = teachers.needs["corpus"], teachers.needs[f"clusters-{config.clusters[0]}"]
        needs = {"corpus": corpus, "clusters": strata, "students": group}
        figures = {"closed_loop": config.closed_loop, "assist": config.assist}
        price = sweep_cost.played_cost(config, self.device)
        found = {}
        for split in corpus_stages.played_splits(config):
            one = functools.partial(play, split=split)
            found[f"played-{split}"] = stage_job(
                f"closed loop {words} on {split}", one, needs, figures | {"split": split}, price
            )
        if teachers.reference is not None:
            needs = needs | {"valset": teachers.reference}
            found["reference"] = stage_job(
                f"reference loss {words}", measure, needs, {"seed": config.seed}, sweep_cost.REFERENCE
            )
        yield from (group, *found.values())
        yield _rows(config, family, size, {**teachers.needs, "students": group, **found}, kind)


def _check_physics(config: StudyConfig) -> None:
    if config.physics == "auto":
        raise InputError(
            "physics=auto is another backend on another machine, and the rows of a sweep share one: "
            f"--set physics={' or physics='.join(BACKENDS)}"
        )


def _pretrained(
    config: StudyConfig, family: str, size: str, store: ArtifactStore, given: Mapping[str, Artifact]
) -> Artifact:
    made = student_stages.pretrain_stage(store, config, given["corpus"], family, size)
    assert made is not None
    return made


def _teachings(config: StudyConfig, given: Mapping[str, Artifact]) -> list[Teaching]:
    parts = ("clusters", "bank", "valset", "played")
    return [Teaching(k, *(given[f"{part}-{k}"] for part in parts)) for k in config.clusters]


def _runs(runs_of: Any, config: StudyConfig, corpus: Artifact, strata: Artifact) -> list[student_stages.Run]:
    return runs_of(config, Corpus.load(corpus.path), corpus_stages.load_clusters(strata))


def _runs_if_built(
    runs_of: Any, config: StudyConfig, store: ArtifactStore, given: Mapping[str, Artifact]
) -> list[student_stages.Run]:
    """The runs of a stage that is being built; for its key alone they are not needed."""
    return _runs(runs_of, config, given["corpus"], given["clusters"]) if isinstance(store, Builds) else []


class _Kind(NamedTuple):
    """Which runs a group of students has, and what is said of it."""

    runs_of: Any
    words: str


_KINDS = {
    "taught": _Kind(student_stages.runs_of, ""),
    "tuned": _Kind(tuned_stages.tuned_runs, ", fine-tuned"),
    "direct": _Kind(direct_runs, ", direct"),
}


def _rows(config: StudyConfig, family: str, size: str, needs: Mapping[str, Job], kind: str) -> Job:
    """The rows of a finished group of a kind of `_KINDS`, and the record of each run with its curve."""
    keys = {label: job.key for label, job in needs.items()}

    def action(work: Path, needed: Mapping[str, Needed]) -> list[dict[str, Any]]:
        given = artifacts(needed, keys)
        strata = given[f"clusters-{config.clusters[0]}"]
        runs = _runs(_KINDS[kind].runs_of, config, given["corpus"], strata)
        splits = {split: given[f"played-{split}"] for split in corpus_stages.played_splits(config)}
        played = judge.load_closed_loop(splits, given.get("reference"))
        students = student_stages.load_students(given["students"], runs)
        group = Finished(family, size, given["students"], runs, students, played)
        if kind == "direct":
            found = direct_rows(config, group)
        else:
            rows = rows_of_group if kind == "taught" else tuned_stages.tuned_rows
            found = rows(config, group, _teachings(config, given))
        for row, student in zip(found, group.students, strict=True):
            record_run(work / "runs" / row["run"], row, student)
        return found

    figures = {"study": config, "family": family, "size": size, "taught": kind == "taught"}
    figures |= {"tuned": True} if kind == "tuned" else {}
    key = job_key("rows", figures, keys, ROWS_VERSION)
    name = f"rows {family} {size} K={','.join(map(str, config.clusters))}{_KINDS[kind].words}"
    expects = sweep_cost.expected_rows(config, family, size) if kind == "taught" else ()
    seconds = sweep_cost.ROWS.seconds
    return Job(key, "rows", name, figures, action, keys, rows=True, seconds=seconds, expects=expects, together=False)
