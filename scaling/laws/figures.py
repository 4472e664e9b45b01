"""Figures of scaling curves (matplotlib Agg, colour-blind safe, deterministic): SVG text or PNG bytes for a report."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from scaling.laws.law import Law, Tabular, as_table, ordered
from scaling.laws.table import Table

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5, "axes.axisbelow": True,
    "legend.frameon": False, "svg.hashsalt": "scaling", "svg.fonttype": "path", "lines.linewidth": 1.6,
    "figure.dpi": 100,
}  # fmt: skip


def svg(figure: Figure) -> str:
    """The figure as an `<svg>` element, the same text for the same data, ready to be put into a page."""
    buffer = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def new_figure(panels: int, width: float = 5.0, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A row of panels without pyplot's global state."""
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


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
        keys = list(zip(*(source.column(name) for name in by), strict=True)) if by else [()] * len(source)
        groups = sorted(set(keys), key=ordered)
        for panel, column in zip(axes, x, strict=True):
            for i, group in enumerate(groups):
                rows = np.array([k == group for k in keys])
                law = (laws or {}).get((column, group))
                series(panel, source, rows, column, loss, law, i, ", ".join(text(v) for v in group), beyond)
            panel.set_xlabel(labels.get(column, column.replace("_", " ")))
            panel.set_ylabel(labels.get(loss, loss.replace("_", " ")))
            logarithmic(panel)
        if any(group != () for group in groups) or laws:
            if any(law.record["holdout"] for law in (laws or {}).values()):
                axes[-1].plot([], [], "o", color="#555555", markerfacecolor="white", markersize=6, label="held out")
            axes[-1].legend(fontsize=7.5)
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
    panel.fill_between(grid, np.maximum(lower, 1e-3 * value), upper, color=colour, alpha=0.12, linewidth=0)


def held_points(law: Law) -> list[tuple[dict[str, Any], float]]:
    """Held-out rows of a one-variable law with their x."""
    return [(row, row["x"][0]) for row in law.record["holdout"] if len(row["x"]) == 1]


def note(law: Law | None) -> str:
    """What the legend says of a law."""
    if law is None:
        return ""
    return f": {law.form}, {law.label}" if law.supported else ": no law"


def logarithmic(panel: Axes) -> None:
    """Log axes with plain numbers at few ticks, whatever their span."""
    panel.set_xscale("log")
    panel.set_yscale("log")
    for axis, (low, high) in ((panel.xaxis, panel.get_xlim()), (panel.yaxis, panel.get_ylim())):
        if high / low < 3:
            axis.set_major_locator(MaxNLocator(6))
        else:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 300 else (1.0,)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(compact))


def compact(value: float, _position: int | None = None) -> str:
    """A tick: 20k, 1.5M, 0.03."""
    for step, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if step <= value < 1e15:
            return f"{value / step:.4g}{mark}"
    return f"{value:.4g}"


def predicted_measured(law: Law, table: Tabular) -> Figure:
    """Predicted against measured loss of every row of the fit, the held-out rows hollow with their interval."""
    source, record = as_table(table), law.record
    curve = law.tested or law.curve
    out = {entry["row"] for entry in record["excluded"]}
    held = {row["row"]: row for row in record["holdout"]}
    x = np.stack([variable(source, record, name) for name in curve.form.variables], axis=1)
    y = source.numeric(record["columns"]["loss"])[0]
    rows = np.array([i for i in range(len(source)) if i not in out])
    with rc_context(STYLE):
        figure, (panel,) = new_figure(1, 4.2, 4.0)
        fitted = np.array([i for i in rows if i not in held])
        value = curve.form.predict(curve.params, x[fitted])
        panel.plot(y[fitted], value, "o", color=COLOURS[0], markersize=3.5, label="fitted")
        for k, row in enumerate(held.values()):
            panel.plot([row["actual"]] * 2, row["interval"], color=COLOURS[1], linewidth=1.0)
            panel.plot([row["actual"]], [row["predicted"]], "s", color=COLOURS[1], markerfacecolor="white",
                       markersize=5, label="held out" if k == 0 else None)  # fmt: skip
        ends = [float(y[rows].min()), float(y[rows].max())]
        panel.plot(ends, ends, color="#555555", linewidth=0.8)
        panel.set_xlabel("measured loss")
        panel.set_ylabel("predicted loss")
        logarithmic(panel)
        panel.legend(fontsize=7.5)
    return figure


def variable(source: Table, record: Mapping[str, Any], role: str) -> np.ndarray:
    """Values of a role in every row of the table, derived where the fit derived them."""
    columns = record["columns"]
    if role in columns:
        return source.numeric(columns[role])[0]
    size = source.numeric(columns["size"])[0]
    if role == "data":
        return source.numeric(columns["compute"])[0] / (6.0 * size)
    return 6.0 * size * source.numeric(columns["data"])[0]


def text(value: Any) -> str:
    """A group's value for a legend."""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
