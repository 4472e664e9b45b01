"""What a study shows beside its laws: whether a family stalls, what K changes, who is fast, and loss beside success."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scaling.errors import InputError
from scaling.laws import figures
from scaling.laws.table import Table, from_rows
from scaling.record.runs import LOG, read_log

IDENTITY = ("run", "student", "size", "arm", "clusters", "seed")
# Against K: the teachers, what their students make of them, and the closed loop. `label_conflict` is drawn where a
# table has it.
AGAINST_K = (
    "expert_survival_s_assist0", "label_conflict", "shared_states", "val_loss", "val_loss_own", "val_loss_reference",
    "survival_s",
)  # fmt: skip
CAPTIONS = {
    "learning": "Validation loss against updates on the full arm, median and range over runs: a family that has "
    "stalled is flat where the other still falls.",
    "clusters": "Against the cluster count on the full arm, mean and range over seeds. K changes the teachers, and "
    "with them what the losses measure; the closed loop is what compares.",
    "throughput": "Work a second of a run on this machine, with all runs of a group in one program.",
    "success": "Success of each run against its validation loss, with its interval.",
}


def curve_rows(rows: Sequence[dict[str, Any]], runs: Path) -> list[dict[str, Any]]:
    """One row a run and logged step from the logs of these runs; a run without a log has none."""
    found = []
    for row in rows:
        folder = runs / f"{row['run']}-{row['config_hash']}"
        if not (folder / LOG).is_file():
            continue
        identity = {name: row[name] for name in IDENTITY}
        found += [{**identity, "step": line["step"], "val_loss": line.get("val_loss")} for line in read_log(folder)]
    return found


def distilled(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without those of students that were fine-tuned afterwards, whose losses were not measured."""
    return [row for row in rows if row.get("tuned_from") is None]


def comparisons(rows: Sequence[dict[str, Any]], curves: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Name -> figure of whatever these rows and curves can show."""
    done = [row for row in distilled(rows) if row["status"] == "finished"]
    if not done:
        return {}
    top, first = max(row["arm"] for row in done), done[0]["clusters"]
    full = from_rows([row for row in done if row["arm"] == top])
    learned = from_rows([row for row in curves if row["arm"] == top and row["clusters"] == first])
    table = from_rows(done)
    draw: dict[str, Callable[[], Figure]] = {
        "learning": lambda: figures.learning_curves(learned, panel="size"),
        "clusters": lambda: figures.against_clusters(full, AGAINST_K),
        "throughput": lambda: figures.throughput(table),
        "success": lambda: success(table),
    }
    found = {}
    for name, one in draw.items():
        try:
            found[name] = one()
        except InputError:
            continue  # a study of one family, one K or without logs has no such figure
    return found


def success(table: Table) -> Figure:
    """Success against validation loss, at assist 0 where the study measured it beside another."""
    names = [name for name in table.columns if name.startswith("success_") and not name.endswith(("_low", "_high"))]
    at_zero = [name for name in names if name.endswith("_assist0")]
    if not names:
        raise InputError(f"{table.source} has no column of success: run the closed loop first")
    name = (at_zero or names)[0]
    bounds = (f"{name}_low", f"{name}_high")
    interval = bounds if set(bounds) <= set(table.columns) else None
    return figures.loss_success(table, loss="val_loss", success=name, by=("student",), interval=interval)
