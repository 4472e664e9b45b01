"""Diagnostics of one fit: predicted against measured, residuals against each axis, bootstrap of the exponents."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from scaling.laws.figures.drawing import COLOURS, GREY, STYLE, compact, legend_below, logarithmic, new_figure, words
from scaling.laws.figures.points import fit_points
from scaling.laws.law import Law, Tabular

SYMBOLS = {"alpha": "α", "beta": "β", "gamma": "γ", "optimal_size_exponent": "optimal size exponent"}


def predicted_measured(law: Law, table: Tabular) -> Figure:
    """Predicted against measured loss of every row of the fit, the held-out rows hollow with their interval."""
    points = fit_points(law, table)
    with rc_context(STYLE):
        figure, (panel,) = new_figure(1, 4.2, 4.0)
        ends = [float(points.loss.min()), float(points.loss.max())]
        panel.plot(ends, ends, color=GREY, linewidth=0.8)
        seen = ~points.held
        panel.plot(points.loss[seen], points.predicted[seen], "o", color=COLOURS[0], markersize=3.5, label="fitted")
        for k, i in enumerate(np.flatnonzero(points.held)):
            panel.plot([points.loss[i]] * 2, [points.low[i], points.high[i]], color=COLOURS[1], linewidth=1.0)
            panel.plot([points.loss[i]], [points.predicted[i]], "s", color=COLOURS[1], markerfacecolor="white",
                       markersize=5, label=f"held out: {law.label}" if k == 0 else None)  # fmt: skip
        panel.set_xlabel(f"measured {words(law.record['columns']['loss'])}")
        panel.set_ylabel(f"predicted {words(law.record['columns']['loss'])}")
        logarithmic(panel)
        panel.legend(loc="upper left")
    return figure


def residuals(law: Law, table: Tabular) -> Figure:
    """Log of measured over predicted loss against log size, data and compute, those held out hollow.

    The grey band is the interval for a new run around the median row. An axis with a single level has no panel.
    """
    points = fit_points(law, table)
    axes = {name: x for name, x in points.axes.items() if len(np.unique(np.round(np.log(x), 9))) > 1}
    with rc_context(STYLE):
        figure, panels = new_figure(max(1, len(axes)), 3.9, 3.3)
        low = float(np.median(np.log(points.low / points.predicted)))
        high = float(np.median(np.log(points.high / points.predicted)))
        for panel, (name, x) in zip(panels, axes.items(), strict=False):
            panel.axhspan(low, high, color="#eeeeee", zorder=0)
            panel.axhline(0.0, color=GREY, linewidth=0.8)
            for held in (False, True):
                rows = points.held == held
                face = "white" if held else COLOURS[0]
                panel.plot(x[rows], points.residual[rows], "s" if held else "o", color=COLOURS[int(held)],
                           markerfacecolor=face, markersize=5 if held else 3.5, linestyle="none",
                           label=("held out" if held else "fitted") if rows.any() else None)  # fmt: skip
            column = law.record["columns"].get(name)
            panel.set_xlabel(f"{name}: {words(column)}" if column else f"{name} (derived)")
            logarithmic(panel, "x")
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panels[0].set_ylabel("log(measured / predicted)")
        legend_below(figure, panels)
    return figure


def exponents(law: Law) -> Figure:
    """Bootstrap of each exponent (of every parameter where the form has none), with the estimate and its interval."""
    curve, record = law.curve, law.record
    names = [n for n in curve.form.parameters if n in curve.form.exponents] or list(curve.form.parameters)
    columns = dict(zip(curve.form.parameters, curve.draws.T, strict=True))
    shown = [(name, columns[name], record["params"][name], record["intervals"][name]) for name in names]
    if {"alpha", "beta"} <= set(columns) and "optimal_size_exponent" in record["derived"]:
        share = record["derived"]["optimal_size_exponent"]
        draws = columns["beta"] / (columns["alpha"] + columns["beta"])
        shown.append(("optimal_size_exponent", draws, share["value"], share["interval"]))
    with rc_context(STYLE):
        figure, panels = new_figure(len(shown), 3.2, 2.9)
        for panel, (name, draws, value, bounds) in zip(panels, shown, strict=True):
            draws = draws[np.isfinite(draws)]
            inner = np.quantile(draws, [0.005, 0.995])
            low, high = min(inner[0], bounds[0]), max(inner[1], bounds[1])  # the outermost tails would squeeze the rest
            panel.hist(draws, bins=40, range=(low, high) if high > low else None, color=COLOURS[0], alpha=0.45)
            panel.axvspan(bounds[0], bounds[1], color=COLOURS[0], alpha=0.1, linewidth=0)
            panel.axvline(value, color=COLOURS[1], linewidth=1.4)
            panel.set_xlabel(SYMBOLS.get(name, name))
            panel.set_title(f"{value:.3g}, {record['level']:.0%}: {bounds[0]:.3g} to {bounds[1]:.3g}", fontsize=8.5)
            panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.xaxis.set_major_formatter(FuncFormatter(compact))
            panel.set_yticks([])
            panel.grid(visible=False, axis="y")
        panels[0].set_ylabel(f"{len(curve.draws)} resamples of whole runs")
    return figure
