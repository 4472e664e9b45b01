"""What the field argues about, from a study's table: stalling families, cluster count, throughput, loss and success."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from scaling.errors import InputError
from scaling.laws.figures.drawing import (
    COLOURS,
    MARKERS,
    STYLE,
    groups_of,
    legend_below,
    levels_axis,
    logarithmic,
    new_figure,
    text,
    words,
)
from scaling.laws.law import Tabular, as_table, ordered
from scaling.laws.table import is_missing

Link = Callable[[float], tuple[float, float, float]]


def learning_curves(
    table: Tabular,
    *,
    step: str = "step",
    loss: str = "val_loss",
    by: Sequence[str] = ("student",),
    panel: str | None = None,
) -> Figure:
    """Loss against updates: median over the runs of each group, the band from the least to the largest.

    The table has a row for each run and logged step; `panel` is a column whose values get a panel each.
    """
    source = as_table(table)
    steps, losses = source.numeric(step)[0], source.numeric(loss)[0]
    good = np.isfinite(steps) & (steps > 0) & (losses > 0)
    parts = [(value, mask & good) for value, mask in groups_of(source, [panel] if panel else []) if (mask & good).any()]
    if not parts:
        raise InputError(f"{source.source} has no row with both {step} and {loss}: there is no curve to draw")
    series = {group: i for i, (group, _) in enumerate(groups_of(source, by))}
    with rc_context(STYLE):
        figure, panels = new_figure(len(parts), 3.6 if len(parts) > 1 else 5.0, 3.5)
        for axis, (value, part) in zip(panels, parts, strict=True):
            for group, mask in groups_of(source, by):
                rows = part & mask
                if not rows.any():
                    continue
                at = np.unique(steps[rows])
                spread = [losses[rows & (steps == s)] for s in at]
                colour = COLOURS[series[group] % len(COLOURS)]
                axis.plot(at, [np.median(s) for s in spread], color=colour,
                          label=", ".join(text(v) for v in group) or "all",
                          marker=MARKERS[series[group] % len(MARKERS)], markersize=3.5)  # fmt: skip
                axis.fill_between(at, [s.min() for s in spread], [s.max() for s in spread], color=colour, alpha=0.15,
                                  linewidth=0)  # fmt: skip
            axis.set_xlabel("updates" if step == "step" else words(step))
            axis.set_title(f"{words(panel)} {text(value[0])}" if panel else "", fontsize=9)
        low, high = losses[good].min(), losses[good].max()
        for axis in panels:
            axis.set_ylim(low / 1.05, high * 1.05)
            logarithmic(axis)
        panels[0].set_ylabel(words(loss))
        legend_below(figure, panels)
    return figure


def against_clusters(
    table: Tabular,
    columns: Sequence[str],
    *,
    clusters: str = "clusters",
    by: Sequence[str] = ("student", "size"),
) -> Figure:
    """Each of the columns against the cluster count K: mean over runs, the bar from the least to the largest.

    A column that is the same for every run of a K belongs to the bank and is one black line. Columns that the table
    lacks, or that are empty, have no panel.
    """
    source = as_table(table)
    count = source.numeric(clusters)[0]
    shown = [name for name in columns if name in source.columns and np.isfinite(source.numeric(name)[0]).any()]
    if not shown:
        raise InputError(f"{source.source} has none of {', '.join(columns)}: there is nothing to draw against K")
    levels = np.unique(count[np.isfinite(count)])
    if len(levels) < 2:
        raise InputError(f"{source.source} has a single value of {clusters}: a figure against it needs two")
    with rc_context(STYLE):
        figure, panels = new_figure(len(shown), 3.6, 3.3)
        for axis, name in zip(panels, shown, strict=True):
            y = source.numeric(name)[0]
            same = all(
                np.ptp(y[(count == k) & np.isfinite(y)]) < 1e-12 for k in levels if np.isfinite(y[count == k]).any()
            )
            groups = [((), np.ones(len(y), bool))] if same else groups_of(source, by)
            for i, (group, mask) in enumerate(groups):
                at = [k for k in levels if np.isfinite(y[mask & (count == k)]).any()]
                spread = [y[mask & (count == k) & np.isfinite(y)] for k in at]
                # Beside each other, so that bars of groups do not hide one another.
                x = np.array(at) * 1.03 ** (i - (len(groups) - 1) / 2.0)
                mean = np.array([s.mean() for s in spread])
                bars = np.array([[m - s.min(), s.max() - m] for m, s in zip(mean, spread, strict=True)]).T
                axis.errorbar(x, mean, yerr=None if same else bars, marker=MARKERS[i % len(MARKERS)], markersize=4.5,
                              color="black" if same else COLOURS[i % len(COLOURS)], linewidth=1.2, elinewidth=1.0,
                              label="the bank" if same else ", ".join(text(v) for v in group) or "all")  # fmt: skip
            levels_axis(axis, levels.tolist())
            axis.set_xlabel("clusters K")
            axis.set_title(words(name), fontsize=9)
        legend_below(figure, panels)
    return figure


def throughput(
    table: Tabular,
    *,
    work: Sequence[str] = ("labelled_frames", "flops"),
    seconds: str = "seconds",
    size: str = "params",
    by: Sequence[str] = ("student",),
) -> Figure:
    """Work a second against size, family by family: a panel for each column of work that the table has."""
    source = as_table(table)
    time, n = source.numeric(seconds)[0], source.numeric(size)[0]
    shown = [name for name in work if name in source.columns]
    if not shown:
        raise InputError(f"{source.source} has none of {', '.join(work)}: there is no work to divide by {seconds}")
    with rc_context(STYLE):
        figure, panels = new_figure(len(shown), 4.2, 3.3)
        for axis, name in zip(panels, shown, strict=True):
            rate = source.numeric(name)[0] / time
            for i, (group, mask) in enumerate(groups_of(source, by)):
                rows = mask & np.isfinite(rate) & (rate > 0) & (n > 0)
                sizes = np.unique(n[rows])
                colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
                axis.plot(n[rows], rate[rows], marker, color=colour, markersize=4.5, alpha=0.6)
                axis.plot(sizes, [np.median(rate[rows & (n == s)]) for s in sizes], "-" + marker, color=colour,
                          markersize=4.5, label=", ".join(text(v) for v in group) or "all")  # fmt: skip
            axis.set_xlabel(words(size))
            axis.set_ylabel(f"{words(name)} a second")
            axis.margins(0.12)
            logarithmic(axis)
        panels[-1].legend()
    return figure


def loss_success(
    table: Tabular,
    *,
    loss: str,
    success: str,
    by: Sequence[str] = (),
    interval: tuple[str, str] | None = None,
    link: Link | None = None,
) -> Figure:
    """Success rate of each run against its loss, with the bars of `interval` (two columns) and a fitted `link`.

    The link is any function from a loss to (success, low, high).
    """
    source = as_table(table)
    x, y = source.numeric(loss)[0], source.numeric(success)[0]
    bounds = [source.numeric(name)[0] for name in interval] if interval else None
    with rc_context(STYLE):
        figure, (axis,) = new_figure(1, 5.0, 3.7)
        for i, (group, mask) in enumerate(sorted(groups_of(source, by), key=lambda pair: ordered(pair[0]))):
            rows = mask & np.isfinite(y) & (x > 0)
            if not rows.any():
                continue
            colour = COLOURS[i % len(COLOURS)]
            if bounds is not None:
                axis.vlines(x[rows], bounds[0][rows], bounds[1][rows], color=colour, linewidth=0.8, alpha=0.35)
            axis.plot(x[rows], y[rows], MARKERS[i % len(MARKERS)], color=colour, markersize=4.5,
                      label=", ".join("-" if is_missing(v) else text(v) for v in group) or None)  # fmt: skip
        if link is not None:
            grid = np.geomspace(x[x > 0].min() / 1.1, x[x > 0].max() * 1.1, 80)
            value, low, high = np.array([link(float(loss_there)) for loss_there in grid]).T
            axis.plot(grid, value, color="black", linewidth=1.3, label="link")
            axis.fill_between(grid, low, high, color="black", alpha=0.08, linewidth=0)
        axis.set_xlabel(words(loss))
        axis.set_ylabel(words(success))
        reach = y if bounds is None else np.concatenate([y, bounds[1]])
        axis.set_ylim(-0.02, min(1.03, 1.15 * float(np.nanmax(reach, initial=0.1))))
        logarithmic(axis, "x")
        if by or link is not None:
            axis.legend()
    return figure
