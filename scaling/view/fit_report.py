"""The report of a fit: its figures (SVG and PNG), its card, and one offline page whose points name their run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.errors import InputError
from scaling.laws import Law, Table, card_markdown, figures, write_card
from scaling.laws.figures.curves import axis_name, falls, lanes
from scaling.laws.figures.drawing import sequential, words
from scaling.laws.figures.points import Points
from scaling.laws.law import Tabular, as_table
from scaling.laws.link import Link
from scaling.view import sections as parts
from scaling.view.report import write_report

PAGE = "report.html"
# Columns that say which run a point is, beside the axes of the fit; a table that lacks them is none the worse.
CONFIG = ("config_hash", "student", "family", "size", "arm", "clusters", "seed", "epochs", "updates")
CAPTIONS = {
    "curves": "Loss against data. Hollow points were held out of the curves, which are dashed beyond the fitted rows; "
    "bands are the interval for a new run.",
    "fit": "Predicted against measured; the bars of held-out rows are the intervals that they had to fall into.",
    "residuals": "Residuals against each axis: a slope or a bow says that the form is wrong there.",
    "exponents": "Bootstrap over whole runs: the line is the estimate, the shade its interval.",
    "isoflop": "Iso-FLOP curves with their minima, and the best size of each budget beside the joint fit's.",
    "success": "Success of each run against its loss.",
}


def write_fit_report(law: Law, table: Tabular, folder: Path | str, title: str = "Fit") -> Path:
    """Write card, figures and page into the folder; returns the page. Figures that the table cannot give are named."""
    folder, source = Path(folder), as_table(table)
    write_card(law, folder)
    drawn, missing = [], []
    for name, draw in drawings(law, source).items():
        try:
            figure = draw()
            vector, _ = figures.write_figure(figure, folder, name)
            drawn.append(parts.Figure(vector, f"{CAPTIONS[name]} [{name}]", wide=len(figure.axes) > 1))
        except InputError as error:
            missing.append(f"- {name}: {error}")
    points = figures.fit_points(law, source)
    record = law.record
    note = "Not drawn:\n\n" + "\n".join(missing) if missing else ""
    page: list[parts.Section] = [
        headline(law),
        parts.Charts("Runs", charts(law, source, points), note="Point at a run to see which it is."),
        parts.Figures("Figures", drawn, note=note),
        parts.Table("Predictions", rows(law, points), note="Residuals are log(measured / predicted), in per cent."),
        parts.FitCard("Fit card", card_markdown(law).split("\n", 3)[3]),
    ]
    if record["command"]:
        page.append(parts.Reproduce([record["command"]]))
    subtitle = f"{record['n']} rows of {record['source']}, data hash {record['data_hash']}"
    return write_report(folder / PAGE, title=title, subtitle=subtitle, sections=page)


def drawings(law: Law, source: Table) -> dict[str, Callable[[], Figure]]:
    """Name -> how to draw it; drawing raises `InputError` where the table does not give it."""
    loss = law.record["columns"]["loss"]
    rates = [name for name in source.columns if name.startswith("success") and not name.endswith(("_low", "_high"))]
    linked = law.record.get("link")
    link = None if linked is None else Link.from_json(linked).predict
    rates = rates if linked is None else [linked["columns"]["success"]]
    found: dict[str, Callable[[], Figure]] = {
        "curves": lambda: figures.law_curves(law, source, x=hours(law, source)),
        "fit": lambda: figures.predicted_measured(law, source),
        "residuals": lambda: figures.residuals(law, source),
        "exponents": lambda: figures.exponents(law),
        "isoflop": lambda: figures.isoflop(law, source),
    }
    if rates:
        bounds = (f"{rates[0]}_low", f"{rates[0]}_high")
        interval = bounds if set(bounds) <= set(source.columns) else None
        by = [name for name in ("student",) if name in source.columns]
        found["success"] = lambda: figures.loss_success(
            source, loss=loss, success=rates[0], by=by, interval=interval, link=link
        )
    return found


def hours(law: Law, source: Table) -> list[str]:
    """The column of hours where the table has one that is proportional to the data."""
    data = law.record["columns"].get("data")
    if data in (None, "hours") or "hours" not in source.columns:
        return []
    ratio = source.numeric("hours")[0] / source.numeric(data)[0]
    ratio = ratio[np.isfinite(ratio)]
    return ["hours"] if len(ratio) == len(source) and ratio.max() <= 1.001 * ratio.min() else []


def headline(law: Law) -> parts.Headline:
    """Verdict, label and the figures that one asks for first."""
    record = law.record
    summary = record["holdout_summary"]
    facts: dict[str, Any] = {}
    for name in [*law.curve.form.exponents, *record["derived"]]:
        entry = record["derived"].get(name)
        value, bounds = (entry["value"], entry["interval"]) if entry else (law.params[name], record["intervals"][name])
        facts[words(name)] = parts.Estimate(value, *bounds)
    facts["residual noise"] = f"{record['residual_noise']:.2%}"
    if summary is not None:
        facts["held-out error"] = f"{summary['mean_relative_error']:.2%}"
        facts["held-out coverage"] = f"{summary['coverage']:.0%} of {record['level']:.0%}"
    label = f"`{record['formula']}`, **{record['label']}**: {record['label_reason']}."
    return parts.Headline([label], record["verdict"], record["validated"] if falls(law) else None, facts)


def rows(law: Law, points: Points) -> list[dict[str, Any]]:
    """One row of the page's table for each row of the fit."""
    return [
        {
            "row": int(points.row[i]),
            "run": points.run[i],
            **{name: float(values[i]) for name, values in points.axes.items()},
            words(law.record["columns"]["loss"]): float(points.loss[i]),
            "predicted": estimate(points, i),
            "residual, %": round(100.0 * float(points.residual[i]), 3),
            "held out": bool(points.held[i]),
        }
        for i in range(len(points.row))
    ]


def estimate(points: Points, i: int) -> parts.Estimate:
    """Prediction of a row with its interval; None where the form has no value there."""
    value, low, high = (
        float(n) if np.isfinite(n) else None for n in (points.predicted[i], points.low[i], points.high[i])
    )
    return parts.Estimate(value, low, high)


def tips(law: Law, source: Table, points: Points) -> list[dict[str, Any]]:
    """What pointing at each row shows: the run, its configuration, its axes, its loss beside the prediction."""
    columns = law.record["columns"]
    taken = set(columns.values())
    config = [name for name in CONFIG if name in source.columns and name not in taken]
    found = []
    for i, row in enumerate(points.row):
        tip: dict[str, Any] = {"run": points.run[i]}
        tip |= {words(name): source.column(name)[row] for name in config}
        tip |= {words(columns.get(name, name)): float(values[i]) for name, values in points.axes.items()}
        tip[words(columns["loss"])] = float(points.loss[i])
        tip["predicted"] = estimate(points, i)
        tip["error"] = (
            f"{points.predicted[i] / points.loss[i] - 1.0:+.2%}" if np.isfinite(points.predicted[i]) else None
        )
        tip["held out"] = "yes" if points.held[i] else "no"
        found.append(tip)
    return found


def charts(law: Law, source: Table, points: Points) -> list[parts.Chart]:
    """Loss against data size by size with the law's curves, and measured against predicted."""
    axis, split, groups = lanes(law, points)
    said = tips(law, source, points)
    loss = words(law.record["columns"]["loss"])
    colours = sequential(len(groups)) if split else [figures.COLOURS[0]]
    curves, scatter = [], []
    for (label, mask), colour in zip(groups, colours, strict=True):
        name = f"{axis_name(law, split)} {label}" if split else ""
        lines = law_lines(law, points, mask, axis)
        curves.append(parts.Series(name, colour, dots(points, mask, points.axes[axis], points.loss, said), lines))
        bounds = list(zip(points.low[mask].tolist(), points.high[mask].tolist(), strict=True))
        bounds = [pair if out else (np.nan, np.nan) for pair, out in zip(bounds, points.held[mask], strict=True)]
        scatter.append(parts.Series(name, colour, dots(points, mask, points.loss, points.predicted, said, bounds)))
    ends = [float(points.loss.min()), float(points.loss.max())]
    scatter.insert(0, parts.Series("", "#8a929c", lines=[parts.Line(ends, ends)]))
    # The diagonal comes first; an empty series in the other chart keeps the markers of both alike.
    curves.insert(0, parts.Series("", "#8a929c"))
    hollow = "Hollow points were held out." if points.held.any() else "No rows were held out."
    caption = "Curves are solid over the fitted rows, dashed beyond; bands are the interval for a new run."
    return [
        parts.Chart(words(axis_name(law, axis)), loss, curves, caption=caption),
        parts.Chart(f"measured {loss}", f"predicted {loss}", scatter, caption=hollow),
    ]


def dots(
    points: Points,
    mask: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    said: list[dict[str, Any]],
    bounds: list[tuple[float, float]] | None = None,
) -> parts.Dots:
    """The rows of a mask as points of a chart."""
    where = np.flatnonzero(mask)
    ids = [str(points.row[i]) for i in where]
    return parts.Dots(
        x[mask].tolist(), y[mask].tolist(), [said[i] for i in where], ids, points.held[mask].tolist(), bounds
    )


def law_lines(law: Law, points: Points, mask: np.ndarray, axis: str) -> list[parts.Line]:
    """The law's curve over these rows."""
    grid, seen, value, low, high = figures.law_grid(law.tested or law.curve, points, mask, axis)
    if not falls(law):
        return [parts.Line(grid[seen].tolist(), value[seen].tolist(), "dotted")]
    first = parts.Line(grid[seen].tolist(), value[seen].tolist(), "solid", low[seen].tolist(), high[seen].tolist())
    on = np.append(np.flatnonzero(seen)[-1:], np.flatnonzero(~seen))
    return [first, parts.Line(grid[on].tolist(), value[on].tolist(), "dashed", low[on].tolist(), high[on].tolist())]
