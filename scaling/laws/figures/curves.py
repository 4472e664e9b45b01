"""Loss against data with the fitted curves: the series of a study, and one law size by size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.errors import InputError
from scaling.laws.figures.drawing import (
    COLOURS,
    GREY,
    MARKERS,
    STYLE,
    binned,
    compact,
    groups_of,
    legend_below,
    logarithmic,
    new_figure,
    sequential,
    text,
    within,
    words,
)
from scaling.laws.figures.points import Points, fit_points
from scaling.laws.fit import Curve
from scaling.laws.law import Law, Tabular, as_table
from scaling.laws.table import Table

Along = Float[np.ndarray, " m"]


def loss_curves(
    table: Tabular,
    *,
    loss: str,
    x: Sequence[str],
    by: Sequence[str] = (),
    laws: Mapping[tuple[str, tuple], Law] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "",
    beyond: float = 2.0,
) -> Figure:
    """Loss against each column of `x` (one panel each), one series for each value of the `by` columns.

    Points are runs, the bar at a level spans its runs. `laws[(column of x, group)]` adds the curve that was fitted
    without the held-out rows (hollow points): solid over its rows, dashed beyond, with the interval for a new run. A
    law that the table does not support is dotted, without band, and the legend says so. `beyond` extends the axis.
    """
    source, labels = as_table(table), dict(labels or {})
    with rc_context(STYLE):
        figure, axes = new_figure(len(x))
        groups = groups_of(source, by)
        for panel, column in zip(axes, x, strict=True):
            for i, (group, rows) in enumerate(groups):
                law = (laws or {}).get((column, group))
                series(panel, source, rows, column, loss, law, i, ", ".join(text(v) for v in group), beyond)
            panel.set_xlabel(labels.get(column, words(column)))
            panel.set_ylabel(labels.get(loss, words(loss)))
            drawn = source.numeric(loss)[0]
            within(panel, drawn[drawn > 0])
            logarithmic(panel)
        if any(group != () for group, _ in groups) or laws:
            if any(law.record["holdout"] for law in (laws or {}).values()):
                axes[-1].plot([], [], "o", color=GREY, markerfacecolor="white", markersize=6, label="held out")
            legend_below(figure, axes[-1:], 2 * len(x))
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def series(
    panel: Axes,
    source: Table,
    rows: np.ndarray,
    column: str,
    loss: str,
    law: Law | None,
    index: int,
    name: str,
    beyond: float,
) -> None:
    """Runs, seed spread and curve of one group."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    x, y = source.numeric(column)[0], source.numeric(loss)[0]
    good = rows & (x > 0) & (y > 0)
    where = np.flatnonzero(good)
    left = {(h["actual"], round(np.log(h_x), 9)) for h, h_x in held_points(law)} if law else set()
    held = np.array([(y[i], round(np.log(x[i]), 9)) in left for i in where], bool)
    for level in np.unique(x[good]):
        at = y[good & (x == level)]
        panel.plot([level, level], [at.min(), at.max()], color=colour, linewidth=1.0, alpha=0.6)
    panel.plot(x[where[~held]], y[where[~held]], marker, color=colour, markersize=4.5, linestyle="none",
               label=name + note(law) if not held.all() else None)  # fmt: skip
    panel.plot(x[where[held]], y[where[held]], marker, color=colour, markerfacecolor="white", markersize=6,
               linestyle="none")  # fmt: skip
    if law is None or len(law.curve.form.variables) != 1:
        return
    curve = law.tested or law.curve
    low, high = curve.span[curve.form.variables[0]]
    grid = np.geomspace(low, max(beyond * x[good].max(), high), 160)
    value, lower, upper = curve.predict(grid[:, None])
    inside = grid <= high * (1 + 1e-9)
    if not law.supported:
        panel.plot(grid[inside], value[inside], ":", color=colour, linewidth=1.0)
        return
    panel.plot(grid[inside], value[inside], "-", color=colour)
    panel.plot(grid[~inside], value[~inside], "--", color=colour)
    panel.fill_between(grid, np.maximum(lower, 1e-3 * value), upper, color=colour, alpha=0.1, linewidth=0.5)


def held_points(law: Law) -> list[tuple[dict[str, Any], float]]:
    """Held-out rows of a one-variable law with their x."""
    return [(row, row["x"][0]) for row in law.record["holdout"] if len(row["x"]) == 1]


def note(law: Law | None) -> str:
    """What the legend says of a law."""
    if law is None:
        return ""
    return f": {law.form}, {law.label}" if law.supported else ": no law"


def law_curves(law: Law, table: Tabular, *, x: Sequence[str] = (), beyond: float = 2.0) -> Figure:
    """The rows of a fit against its data, size by size, with the curve that has not seen the hollow points.

    Curves are solid over the fitted rows and dashed beyond, bands are the interval for a new run; without support
    they are dotted and have no band. `beyond` extends them past the largest row of their size. Further panels show
    columns `x` that are proportional to the data (hours beside frames). Sizes within 5 % of each other, or within one
    of six bins where there are more, share a curve at their geometric mean, as does any further variable of the law.
    """
    source, points = as_table(table), fit_points(law, table)
    axis, split, parts = lanes(law, points)
    scales = {axis_name(law, axis): 1.0} | {column: proportion(source, points, axis, column) for column in x}
    colours = sequential(len(parts)) if split else [COLOURS[0]]
    with rc_context(STYLE):
        figure, panels = new_figure(len(scales), 5.2, 3.9)
        for panel, (name, scale) in zip(panels, scales.items(), strict=True):
            for i, ((label, rows), colour) in enumerate(zip(parts, colours, strict=True)):
                at, marker = points.axes[axis] * scale, MARKERS[i % len(MARKERS)]
                mark: Any = {"color": colour, "marker": marker, "linestyle": "none"}
                seen, held = rows & ~points.held, rows & points.held
                panel.plot(at[seen], points.loss[seen], markersize=4, label=label or "fitted", **mark)
                panel.plot(at[held], points.loss[held], markersize=5.5, markerfacecolor="white", **mark)
                one_curve(panel, law, points, rows, axis, scale, colour, beyond)
            panel.set_xlabel(words(name))
            panel.set_ylabel(words(law.record["columns"]["loss"]))
            within(panel, points.loss)
            logarithmic(panel)
        if points.held.any():
            panels[-1].plot([], [], "o", color=GREY, markerfacecolor="white", markersize=5.5, label="held out")
        panels[-1].legend(title=axis_name(law, split) if split else None, title_fontsize=7.5)
        figure.suptitle(f"{law.form}: {law.label if falls(law) else f'no law ({law.status})'}", fontsize=9.5)
    return figure


def one_curve(
    panel: Axes,
    law: Law,
    points: Points,
    rows: np.ndarray,
    axis: str,
    scale: float,
    colour: str,
    beyond: float,
) -> None:
    """The law over these rows and on to `beyond` times the largest."""
    grid, inside, value, lower, upper = law_grid(law.tested or law.curve, points, rows, axis, beyond)
    if not falls(law):
        panel.plot(grid[inside] * scale, value[inside], ":", color=colour, linewidth=1.0)
        return
    panel.plot(grid[inside] * scale, value[inside], "-", color=colour, linewidth=1.3)
    panel.plot(grid[~inside] * scale, value[~inside], "--", color=colour, linewidth=1.1)
    panel.fill_between(grid * scale, np.maximum(lower, 1e-3 * value), upper, color=colour, alpha=0.12, linewidth=0)


def law_grid(
    curve: Curve, points: Points, rows: Bool[np.ndarray, " n"], axis: str, beyond: float = 2.0
) -> tuple[Along, Bool[np.ndarray, " m"], Along, Along, Along]:
    """Along the axis: places, whether within the fitted rows, loss, and the interval for a new run.

    The law's other variables stay at their geometric mean over the rows.
    """
    there = points.axes[axis][rows & ~points.held]
    there = there if len(there) else points.axes[axis][rows]
    grid = np.geomspace(float(there.min()) / 1.1, beyond * float(points.axes[axis][rows].max()), 120)
    others = {name: np.exp(np.log(values[rows]).mean()) for name, values in points.axes.items()}
    columns = {name: np.full_like(grid, value) for name, value in others.items()} | {axis: grid}
    value, low, high = curve.predict(np.stack([columns[name] for name in curve.form.variables], axis=1))
    return grid, grid <= float(there.max()) * (1 + 1e-9), value, low, high


def lanes(law: Law, points: Points) -> tuple[str, str | None, list[tuple[str, Bool[np.ndarray, " n"]]]]:
    """The axis to draw a law along, the variable that splits its rows, and a name and mask for each part of them."""
    variables = law.curve.form.variables
    axis = next((name for name in ("data", "compute", "size") if name in variables), None)
    if axis is None:
        raise InputError(
            f"a {law.form} law has no axis to be drawn along: it is one in {', '.join(variables) or 'none'}"
        )
    rest = [name for name in variables if name != axis]
    if not rest:
        return axis, None, [("", np.ones(len(points.row), bool))]
    split = "size" if "size" in rest else rest[0]
    values, parts = points.axes[split], []
    for level, rows in binned(values):
        about = "" if np.ptp(np.log(values[rows])) < 1e-8 else "about "
        parts.append((f"{about}{compact(level, digits=3)}", rows))
    return axis, split, parts


def falls(law: Law) -> bool:
    """Whether there is a law to draw: one that is supported, or one that the held-out rows refuted."""
    return law.supported or law.label.startswith("refuted")


def axis_name(law: Law, role: str) -> str:
    """The column of a role, or the role where it was derived."""
    return str(law.record["columns"].get(role, role))


def proportion(source: Table, points: Points, axis: str, column: str) -> float:
    """How much of `column` one unit of the axis is; an `InputError` where the two are not proportional."""
    ratio: Float[np.ndarray, " n"] = source.numeric(column)[0][points.row] / points.axes[axis]
    if not np.all(np.isfinite(ratio)) or ratio.max() > 1.001 * ratio.min():
        raise InputError(f"column '{column}' of {source.source} is not proportional to {axis}: leave it out of x")
    return float(np.median(ratio))
