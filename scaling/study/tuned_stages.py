"""RL fine-tuning in a study: which students are tuned, their stage, and their rows beside what they were before."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from scaling.distill.finetune import finetune
from scaling.distill.reference import reference_losses
from scaling.distill.student import load_student, save_student
from scaling.distill.valset import ValSet
from scaling.motion.corpus import Corpus
from scaling.record.hashing import content_hash
from scaling.record.store import Artifact, ArtifactStore
from scaling.study.config import StudyConfig
from scaling.study.corpus_stages import Clusters
from scaling.study.results import Finished, rows_of_group
from scaling.study.stages import Teaching, shared_physics
from scaling.study.student_stages import Run, runs_of
from scaling.tracking.physics import backend_name
from scaling.tracking.scores import SUCCESS

TUNED_VERSION = 1
_MARK = "-tuned"


def tuned_runs(config: StudyConfig, corpus: Corpus, strata: Clusters) -> list[Run]:
    """The runs of one student that are fine-tuned: the first clustering's on the arms of `finetune`."""
    if config.finetune.iterations == 0:
        return []
    chosen = (
        run for run in runs_of(config, corpus, strata) if run.spec.teacher == 0 and run.arm in config.finetune.arms
    )
    return [replace(run, spec=replace(run.spec, name=run.spec.name + _MARK)) for run in chosen]


def tuned_stage(
    store: ArtifactStore,
    config: StudyConfig,
    corpus: Artifact,
    students: Artifact,
    valset: Artifact,
    runs: Sequence[Run],
) -> Artifact:
    """Distilled students after PPO from their weights, all of a group in one program; a killed training goes on.

    `tuned_val_loss` is what is left of the imitation: the loss on their bank's validation set, `valset`.
    """
    key = {"finetune": config.finetune, "assist": config.assist, "physics": backend_name(config.physics)}

    def build(work: Path) -> None:
        before = [load_student(students.path / _before(run)) for run in runs]
        specs = [run.spec for run in runs]
        held, physics = Corpus.load(corpus.path), shared_physics(config.physics)
        after = finetune(before, specs, held, physics, config.finetune, work / "training", config.assist)
        if jax.process_index():  # the first one writes
            return
        losses = reference_losses(after, ValSet.load(valset.path))
        for spec, student, loss in zip(specs, after, losses, strict=True):
            columns = student.columns | {"tuned_val_loss": float(loss)}
            save_student(work / spec.name, replace(student, columns=columns))

    inputs = {"corpus": corpus, "students": students, "valset": valset}
    return store.stage("tuned", key, inputs, TUNED_VERSION, build)


def tuned_rows(config: StudyConfig, group: Finished, teachings: Sequence[Teaching]) -> list[dict[str, Any]]:
    """Rows of tuned students; `tuned_from` names the row of what each was before. No law is fitted on them."""
    found = rows_of_group(config, group, teachings)
    for row, run in zip(found, group.runs, strict=True):
        row["tuned_from"] = f"{group.family}-{group.size}-{_before(run)}"
        row["config_hash"] = content_hash({"before": row["config_hash"], "finetune": config.finetune})
    return found


def beside_before(row: Mapping[str, Any], before: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """A tuned row with what its student reached in the closed loop before, as `before_...`."""
    names = (SUCCESS[protocol], "survival_s", "mpjpe_l_mm", "mpjpe_rad")
    wanted = [name for name in before if name.removesuffix("_assist0").removeprefix("test_") in names]
    return {**row, **{f"before_{name}": before[name] for name in wanted}}


def _before(run: Run) -> str:
    return run.spec.name.removesuffix(_MARK)
