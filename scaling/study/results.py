"""From finished runs to the product: the table of rows, the laws fitted on it, and the choice of the best student."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.distill.student import Student
from scaling.experts.bank import BankCard
from scaling.laws import Law, figures, fit_groups
from scaling.record.files import write_json
from scaling.record.hashing import content_hash
from scaling.record.progress import Progress
from scaling.record.runs import RunLog, read_row
from scaling.record.store import Artifact, ArtifactStore
from scaling.record.table import write_table
from scaling.study.closed_loop import beside_teachers, closed_loop_rows
from scaling.study.comparisons import curve_rows, distilled
from scaling.study.config import StudyConfig
from scaling.study.stages import Teaching
from scaling.study.student_stages import Run, selection_key
from scaling.tracking.scores import SUCCESS

DATA_AXES = ("unique_frames", "hours")
GROUP = ("student", "size")
LAWS_VERSION = 4
_READ = ("run", "val_loss", *GROUP, *DATA_AXES)


@dataclass(frozen=True)
class Finished:
    """Students of one family and size: what each run was to be, what it became, and its columns of the closed loop."""

    family: str
    size: str
    artifact: Artifact
    runs: Sequence[Run]
    students: Sequence[Student]
    played: Sequence[dict[str, Any]]

    def saved(self, run: Run) -> dict[str, str]:
        """The column of a run's record that says where its student is: `{folder}`."""
        return {"folder": str(self.artifact.path / run.spec.name)}


def rows_of_group(config: StudyConfig, group: Finished, teachings: Sequence[Teaching]) -> list[dict[str, Any]]:
    """One row per run of a group: identity, data, training, losses, closed loop."""
    banks = {teaching.k: teaching for teaching in teachings}
    taught = {k: bank_columns(teaching.card()) | teaching.conflict() for k, teaching in banks.items()}
    beside = {k: teaching.closed_loop() for k, teaching in banks.items()}
    rows = []
    for run, student, closed in zip(group.runs, group.students, group.played, strict=True):
        bank = banks[run.k].bank.hash
        teaching = {"bank": bank, "bank_mode": "fixed", "expert_budget": config.expert_budget, **taught[run.k]}
        key = {"dagger": config.dagger, "bank": bank}
        if config.pretrain.hours:
            key["pretrain"] = config.pretrain
        closed = {**closed, **beside_teachers(closed, beside[run.k], config.closed_loop.protocols)}
        identity = {"student": group.family, "size": group.size, "arm": run.arm, "clusters": run.k, "seed": run.seed}
        rows.append(_row(config, identity, run, student, closed, key, teaching))
    return rows


def direct_rows(config: StudyConfig, group: Finished) -> list[dict[str, Any]]:
    """Rows of students that no expert taught: what belongs to a bank is missing in them."""
    rows = []
    for run, student, closed in zip(group.runs, group.students, group.played, strict=True):
        identity = {"student": group.family, "size": group.size, "arm": run.arm, "clusters": None, "seed": run.seed}
        rows.append(_row(config, identity, run, student, closed, {"direct": config.direct}, {"trainer": "direct"}))
    return rows


def _row(
    config: StudyConfig,
    identity: Mapping[str, Any],
    run: Run,
    student: Student,
    closed: Mapping[str, Any],
    key: Mapping[str, Any],
    teaching: Mapping[str, Any],
) -> dict[str, Any]:
    """A run's row; `key` is what its hash covers beside identity and student, `teaching` the columns of its recipe."""
    return {
        "run": f"{identity['student']}-{identity['size']}-{run.spec.name}",
        "study": config.name,
        **identity,
        **student.columns,
        **closed,
        "assist": config.assist,
        "protocol": config.closed_loop.protocol,
        **teaching,
        "selection": config.selection,
        "config_hash": content_hash({"identity": identity, "student": student.config, **key, **selection_key(config)}),
    }


def bank_columns(card: BankCard) -> dict[str, Any]:
    """What a bank was trained with, and how good its experts are on average, at assist 0."""
    rows = [row for row in card.competence if row["assist"] == 0]
    errors = [row["expert_mpjpe_rad"][0] for row in rows]
    known = [error for error in errors if error is not None and np.isfinite(error)]
    return {
        "trainer": card.trainer,
        "expert_physics": card.physics,
        "expert_envs": card.config["envs"],
        "expert_env_steps": card.env_steps,
        "expert_survival_s_assist0": float(np.mean([row["expert_seconds"][0] for row in rows])),
        "expert_mpjpe_rad_assist0": float(np.mean(known)) if known else None,
        "expert_survival_ratio_assist0": float(np.mean([row["survival_ratio"] for row in rows])),
        "expert_competent_share_assist0": float(np.mean([row["competent"] for row in rows])),
    }


@dataclass(frozen=True)
class LawResult:
    """Laws by (data axis, (student, size)), why some groups have none, and the sentence that the data supports."""

    laws: dict[tuple[str, tuple], Law]
    refused: dict[tuple[str, tuple], str]
    sentences: list[str]
    supported: bool
    validated: bool

    def to_json(self) -> dict[str, Any]:
        """What `law.json` holds: every law under "axis|student|size", the refusals and the sentences."""
        return {
            "sentences": self.sentences,
            "supported": self.supported,
            "validated": self.validated,
            "laws": {_name(key): law.to_json() for key, law in self.laws.items()},
            "refused": {_name(key): reason for key, reason in self.refused.items()},
        }

    @staticmethod
    def from_json(record: dict[str, Any]) -> "LawResult":
        """Inverse of `to_json`."""
        return LawResult(
            {_key(name): Law.from_json(law) for name, law in record["laws"].items()},
            {_key(name): reason for name, reason in record["refused"].items()},
            record["sentences"],
            record["supported"],
            record["validated"],
        )


def _name(key: tuple[str, tuple]) -> str:
    return "|".join([key[0], *(str(part) for part in key[1])])


def _key(name: str) -> tuple[str, tuple]:
    axis, *group = name.split("|")
    return axis, tuple(group)


def laws_stage(store: ArtifactStore, config: StudyConfig, rows: Sequence[dict[str, Any]]) -> Artifact:
    """The fits of a table, keyed by the columns that they read."""
    read = [{name: row.get(name) for name in (*_READ, "clusters", "status")} for row in distilled(rows)]
    key = {"rows": read, "clusters": config.clusters, "resamples": config.resamples, "seed": config.seed}

    def build(work: Path) -> None:
        with Progress("laws", 1) as progress:
            progress.update(0, message=f"{config.resamples} bootstrap resamples of each fit")
            write_json(work / "law.json", fit_laws(rows, config).to_json())
            progress.update(1)

    return store.stage("laws", key, {}, LAWS_VERSION, build)


def fit_laws(rows: Sequence[dict[str, Any]], config: StudyConfig) -> LawResult:
    """Validation loss against frames and hours of each student, over the first bank's arms, the largest held out."""
    taught = [row for row in distilled(rows) if row["clusters"] == config.clusters[0]]
    arms = [row for row in taught if row["status"] == "finished"]
    laws: dict[tuple[str, tuple], Law] = {}
    refused: dict[tuple[str, tuple], str] = {}
    if not arms:
        return LawResult({}, {}, ["No run finished: there is nothing to fit."], False, False)
    columns = {name: [row[name] for row in arms] for name in _READ}
    for axis in DATA_AXES:
        found, failed = fit_groups(
            columns, by=GROUP, loss="val_loss", data=axis, run="run", resamples=config.resamples, seed=config.seed
        )
        laws |= {(axis, group): law for group, law in found.items()}
        refused |= {(axis, group): reason for group, reason in failed.items()}
    shown = {group: law for (axis, group), law in laws.items() if axis == DATA_AXES[0]}
    sentences = [f"{' '.join(map(str, group))}: {law.verdict}" for group, law in shown.items()]
    without = {group: reason for (axis, group), reason in refused.items() if axis == DATA_AXES[0]}
    sentences += [f"{' '.join(map(str, group))}: no law ({reason})" for group, reason in without.items()]
    supported = [law for law in shown.values() if law.supported]
    validated = [law for law in supported if law.record["validated"]]
    students = len(shown) + len(without)
    if supported:
        lead = (
            f"{len(supported)} of {students} students support a law of validation loss against unique frames; "
            f"the held-out largest arm fell inside the prediction intervals of {len(validated)} of these."
        )
    else:
        lead = f"None of {students} students supports a law of validation loss against unique frames on this data."
    return LawResult(laws, refused, [lead, *sentences], bool(supported), bool(validated))


def law_figure(rows: Sequence[dict[str, Any]], result: LawResult, config: StudyConfig) -> str:
    """SVG of loss against frames and hours, one series per student, with the fitted curves."""
    arms = [row for row in distilled(rows) if row["clusters"] == config.clusters[0]]
    columns = {name: [row[name] for row in arms] for name in _READ}
    figure = figures.loss_curves(
        columns,
        loss="val_loss",
        x=DATA_AXES,
        by=GROUP,
        laws=result.laws,
        labels={"unique_frames": "unique frames U", "hours": "hours of motion", "val_loss": "validation loss"},
    )
    return figures.svg(figure)


def best_row(rows: Sequence[dict[str, Any]], protocol: str) -> dict[str, Any]:
    """The student to export: `val` success at assist 0, then survival there, then validation loss; never `test`."""
    done = [row for row in rows if row["status"] == "finished"]

    def merit(row: dict[str, Any]) -> tuple[float, float, float]:
        zero = "_assist0" if "survival_s_assist0" in row else ""
        loss = row.get("val_loss")
        return (row[f"{SUCCESS[protocol]}{zero}"], row[f"survival_s{zero}"], -np.inf if loss is None else -loss)

    return max(done, key=merit)


def record_run(folder: Path, row: dict[str, Any], student: Student) -> None:
    """The record of a run, unless it is there: its curve (JSONL, mirrored to TensorBoard) and its row (JSON)."""
    kept = read_row(folder)
    if kept is not None and kept.get("folder") == row.get("folder"):
        return
    with RunLog(folder, resume_from=0) as log:
        for point in student.curve:
            losses = {name: value for name, value in point.items() if name != "update"}
            log.log(point["update"], **losses)
        log.finish(row)


def write_results(
    out: Path, rows: Sequence[dict[str, Any]], result: LawResult, splits: Sequence[str]
) -> tuple[Path, Path]:
    """`runs.csv`, `closed_loop.csv` (students beside experts and playback, by split) and `learning.csv` (runs by logged
    step), each with its JSONL twin, and `law.json`.
    """
    table, law = out / "runs.csv", out / "law.json"
    write_table(rows, table)
    write_table(closed_loop_rows(rows, splits), out / "closed_loop.csv")
    write_table(curve_rows(rows, out / "runs"), out / "learning.csv")
    write_json(law, result.to_json())
    return table, law
