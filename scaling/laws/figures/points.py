"""Every row of a fit beside what the law says of it: what the diagnostic figures and the report draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.laws.law import Law, Tabular, as_table
from scaling.laws.table import Table, is_missing

AXES = ("size", "data", "compute")


@dataclass(frozen=True)
class Points:
    """Rows of a fit; predictions and their intervals for a new run come from the curve that has not seen `held`."""

    row: Int[np.ndarray, " n"]
    run: tuple[str, ...]
    axes: Mapping[str, Float[np.ndarray, " n"]]
    loss: Float[np.ndarray, " n"]
    predicted: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    held: Bool[np.ndarray, " n"]

    @property
    def residual(self) -> Float[np.ndarray, " n"]:
        """Log of measured over predicted loss."""
        return np.log(self.loss / self.predicted)


def fit_points(law: Law, table: Tabular) -> Points:
    """The rows of `table` that `law` was fitted to or tested on, with the axes that the table gives or implies."""
    source, record = as_table(table), law.record
    curve = law.tested or law.curve
    out = {entry["row"] for entry in record["excluded"]}
    rows = np.array([i for i in range(len(source)) if i not in out], int)
    columns = record["columns"]
    wanted = dict.fromkeys((*AXES, *curve.form.variables))
    found = {name: variable(source, columns, name) for name in wanted}
    axes = {name: values[rows] for name, values in found.items() if values is not None}
    x = np.stack([axes[name] for name in curve.form.variables], axis=1) if curve.form.variables else np.empty((0, 0))
    predicted, low, high = curve.predict(x)
    named = source.column(columns["run"])[rows] if "run" in columns else [None] * len(rows)
    runs = tuple(f"row {i}" if is_missing(name) else str(name) for i, name in zip(rows, named, strict=True))
    held = np.isin(rows, [row["row"] for row in record["holdout"]])
    return Points(rows, runs, axes, source.numeric(columns["loss"])[0][rows], predicted, low, high, held)


def variable(source: Table, columns: Mapping[str, Any], role: str) -> Float[np.ndarray, " n"] | None:
    """Values of a role in every row of the table, derived where the fit derives them; None where it cannot be."""
    if role in columns:
        return source.numeric(columns[role])[0]
    if role == "data" and {"size", "compute"} <= set(columns):
        return source.numeric(columns["compute"])[0] / (6.0 * source.numeric(columns["size"])[0])
    if role == "compute" and {"size", "data"} <= set(columns):
        return 6.0 * source.numeric(columns["size"])[0] * source.numeric(columns["data"])[0]
    return None
