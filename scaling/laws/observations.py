"""What a fit sees of a table: positive numbers by role, the run of each row, and every row left out with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.errors import InputError
from scaling.laws.table import Table, is_missing

BUDGETS = ("size", "data", "compute")
ROLES = (*BUDGETS, "unique_data", "clusters", "teacher", "alone")


@dataclass(frozen=True)
class Observations:
    """Rows that can be fitted; `row` is the 0-based row of the table, `run` the index of the row's run (a cluster)."""

    table: Table
    columns: Mapping[str, str]
    values: Mapping[str, Float[np.ndarray, " n"]]
    loss: Float[np.ndarray, " n"]
    run: Int[np.ndarray, " n"]
    row: Int[np.ndarray, " n"]
    excluded: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.loss)

    def x(self, variables: tuple[str, ...]) -> Float[np.ndarray, "n v"]:
        """The variables of a form side by side."""
        missing = [name for name in variables if name not in self.values]
        if missing:
            raise InputError(
                f"this form needs {' and '.join(variables)}: name the column with --{missing[0].replace('_', '-')}"
            )
        return np.stack([self.values[name] for name in variables], axis=1) if variables else np.empty((len(self), 0))

    def keep(self, mask: Bool[np.ndarray, " n"], reason: str = "") -> "Observations":
        """The rows of the mask; with a reason the others are listed as excluded."""
        left = tuple((int(r), reason) for r in self.row[~mask]) if reason else ()
        return replace(
            self,
            values={name: value[mask] for name, value in self.values.items()},
            loss=self.loss[mask],
            run=np.unique(self.run[mask], return_inverse=True)[1],
            row=self.row[mask],
            excluded=tuple(sorted(self.excluded + left)),
        )


def levels(values: np.ndarray) -> np.ndarray:
    """Distinct levels of a positive axis, up to rounding of the file."""
    return np.unique(np.round(np.log(values), 9))


def cells(x: Float[np.ndarray, "n v"]) -> Int[np.ndarray, " n"]:
    """Index of the design point of each row: rows of one cell differ by seed alone."""
    return np.unique(np.round(np.log(x), 9), axis=0, return_inverse=True)[1].reshape(-1)


def observe(
    table: Table,
    *,
    loss: str,
    size: str | None = None,
    data: str | None = None,
    compute: str | None = None,
    run: str | None = None,
    unique_data: str | None = None,
    clusters: str | None = None,
    teacher: str | None = None,
    alone: str | None = None,
    drop_highest: int = 0,
) -> Observations:
    """Rows of `table` that can be fitted.

    Missing, text and infinite cells and exact repeats of a row leave the row out with a reason; a number that is not
    positive, or two losses for the same run and point, is an `InputError`. Data = compute / (6 size) is derived where
    only the other two are given, and compute = 6 size data for use in hold-out expressions.
    """
    given = (size, data, compute, unique_data, clusters, teacher, alone)
    columns = {role: name for role, name in zip(ROLES, given, strict=True) if name is not None}
    if not set(columns) & set(BUDGETS):
        raise InputError("nothing to fit the loss against: name at least one of --size, --data, --compute")
    reasons: dict[int, str] = {}
    values: dict[str, np.ndarray] = {}
    for role, name in {"loss": loss, **columns}.items():
        values[role], bad = table.numeric(name)
        for index, reason in bad.items():
            reasons.setdefault(index, reason)
        negative = np.flatnonzero(values[role] <= 0)
        if len(negative):
            what = f"row {negative[0]} of {table.source} has {name} = {values[role][negative[0]]:g}"
            raise InputError(f"{what}: a law needs {role} > 0, mend or drop it")
    runs = table.column(run) if run is not None else np.arange(len(table))
    points = [role for role in ROLES if role in values]
    seen: dict[tuple, int] = {}
    for i in range(len(table)):
        if i in reasons:
            continue
        owner = None if run is None else (f"row {i}" if is_missing(runs[i]) else str(runs[i]))
        key = (owner, *(values[role][i] for role in points))
        same = (*key, values["loss"][i]) if run is None else key
        if same not in seen:
            seen[same] = i
        elif values["loss"][seen[same]] == values["loss"][i]:
            reasons[i] = f"repeats row {seen[same]}"
        else:
            raise InputError(
                f"rows {seen[same]} and {i} of {table.source} give one run and point two losses: keep one of them"
            )
    good = np.array([i for i in range(len(table)) if i not in reasons], int)
    notes = [] if run is not None else ["no run column: each row is taken as its own run"]
    values = {role: value[good] for role, value in values.items()}
    if {"size", "compute"} <= set(columns) and "data" not in columns:
        values["data"] = values["compute"] / (6.0 * values["size"])
        notes.append("data derived as compute / (6 size)")
    if {"size", "data"} <= set(columns) and "compute" not in columns:
        values["compute"] = 6.0 * values["size"] * values["data"]
        notes.append("compute derived as 6 size data")
    names = [f"row {i}" if is_missing(runs[i]) else str(runs[i]) for i in good]
    cluster = np.unique(names, return_inverse=True)[1] if len(good) else np.empty(0, int)
    seen_loss = values.pop("loss")
    found = Observations(
        table,
        columns={**columns, "loss": loss, **({"run": run} if run else {})},
        values=values,
        loss=seen_loss,
        run=cluster,
        row=good,
        excluded=tuple(sorted(reasons.items())),
        notes=tuple(notes),
    )
    if drop_highest < 0:
        raise InputError(f"--drop-highest {drop_highest} is negative: give how many of the highest losses to leave out")
    if drop_highest:
        mask = np.ones(len(found), bool)
        mask[np.argsort(-found.loss, kind="stable")[:drop_highest]] = False
        found = found.keep(mask, f"among the {drop_highest} highest losses (drop-highest)")
    if len(found) < 2:
        why = f" ({reasons[min(reasons)]}, ...)" if reasons else ""
        raise InputError(f"{table.source} has {len(found)} usable rows of {len(table)}{why}: a fit needs more")
    return found
