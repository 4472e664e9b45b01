"""Iso-FLOP curves (approach 2 of Hoffmann et al. 2022): the best size of each budget by a parabola in log size."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import t

from scaling.errors import InputError
from scaling.laws.figures.drawing import GREY, MARKERS, STYLE, compact, logarithmic, new_figure, sequential, words
from scaling.laws.figures.points import fit_points
from scaling.laws.fit import Curve
from scaling.laws.isoflop import LEAST, WIDTH, Minimum, isoflop_minima
from scaling.laws.law import Law, Tabular


def optimal_exponent(minima: Sequence[Minimum], level: float = 0.95) -> tuple[float, float, float] | None:
    """Exponent a of best size ~ compute^a over the minima inside their grids, with its t interval; None below three."""
    kept = [(np.log(one.compute), np.log(one.size)) for one in minima if one.size is not None]
    if len(kept) < 3:
        return None
    x, y = np.array(kept).T
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    spread = float(np.sum((y - y.mean() - slope * x) ** 2)) / (len(kept) - 2)
    half = float(t.ppf(0.5 + level / 2.0, len(kept) - 2) * np.sqrt(spread / (x @ x)))
    return slope, slope - half, slope + half


def isoflop(law: Law, table: Tabular) -> Figure:
    """Loss against size at each budget with its parabola and minimum, and the best size against compute.

    Edge minima are drawn hollow and stay out of the line; its interval is the law's bootstrap where it has one. Where
    the law is one in size and data, its own optimum (the joint fit) is the dashed line beside it.
    """
    points = fit_points(law, table)
    if not {"size", "compute"} <= set(points.axes):
        raise InputError("iso-FLOP curves need size and compute: name --size with --compute or --data")
    size, compute = points.axes["size"], points.axes["compute"]
    minima = isoflop_minima(size, compute, points.loss)
    if not minima:
        raise InputError(f"no budget has {LEAST} sizes within {WIDTH:.0%} of compute: there are no iso-FLOP curves")
    colours = sequential(len(minima))
    with rc_context(STYLE):
        figure, (left, right) = new_figure(2, 5.0, 3.9)
        for k, (one, colour) in enumerate(zip(minima, colours, strict=True)):
            at = size[one.rows]
            grid = np.geomspace(at.min(), at.max(), 80)
            left.plot(at, points.loss[one.rows], MARKERS[k % len(MARKERS)], color=colour, markersize=3.5,
                      label=f"{compact(one.compute) if one.compute < 1e15 else f'{one.compute:.2g}'}")  # fmt: skip
            left.plot(grid, one.at(grid), color=colour, linewidth=1.2)
            if one.size is not None and one.loss is not None:
                left.plot([one.size], [one.loss], "*", color=colour, markersize=9.5, markeredgecolor="black",
                          markeredgewidth=0.6)  # fmt: skip
                right.plot([one.compute], [one.size], "*", color=colour, markersize=9.5, markeredgecolor="black",
                           markeredgewidth=0.6)  # fmt: skip
            else:
                best = at[np.argmin(points.loss[one.rows])]
                right.plot([one.compute], [best], "*", color=colour, markersize=9.5, markerfacecolor="white")
        span = np.geomspace(min(m.compute for m in minima), max(m.compute for m in minima), 60)
        line = optimal_exponent(minima)
        if line is not None:
            bounds = (law.record.get("isoflop") or {}).get("interval") or line[1:]
            kept = [(np.log(m.compute), np.log(m.size)) for m in minima if m.size is not None]
            middle = np.mean(kept, axis=0)
            right.plot(span, np.exp(middle[1] + line[0] * (np.log(span) - middle[0])), color=GREY,
                       label=f"minima: {line[0]:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})")  # fmt: skip
        joint = joint_optimum(law.curve, span, factor=float(np.median(compute / (size * points.axes["data"]))),
                              sizes=(float(size.min()), float(size.max())))  # fmt: skip
        if joint is not None:
            share = law.record["derived"].get("optimal_size_exponent")
            told = f": {share['value']:.3f} ({share['interval'][0]:.3f} to {share['interval'][1]:.3f})"
            right.plot(span, joint, "--", color="black", label=f"joint fit{told if share else ''}")
        edges = sum(one.size is None for one in minima)
        if edges:
            right.plot([], [], "*", color=GREY, markersize=9, markerfacecolor="white", label=f"{edges} at an edge: out")
        for panel in (left, right):
            logarithmic(panel)
        left.set_xlabel("size" if "size" not in law.record["columns"] else words(law.record["columns"]["size"]))
        left.set_ylabel(words(law.record["columns"]["loss"]))
        right.set_xlabel("compute")
        right.set_ylabel("best size")
        left.legend(title="compute", title_fontsize=7.5, ncols=2 if len(minima) > 5 else 1)
        right.legend(title="exponent of compute", title_fontsize=7.5)
    return figure


def joint_optimum(
    curve: Curve, compute: Float[np.ndarray, " m"], factor: float, sizes: tuple[float, float]
) -> Float[np.ndarray, " m"] | None:
    """Size of least loss at each compute = factor x size x data; NaN outside 10 x the sizes; None for other laws."""
    if set(curve.form.variables) != {"size", "data"}:
        return None
    grid = np.geomspace(sizes[0] / 10.0, sizes[1] * 10.0, 2000)
    best = np.empty(len(compute))
    for k, budget in enumerate(compute):
        columns = {"size": grid, "data": budget / (factor * grid)}
        value = curve.form.predict(curve.params, np.stack([columns[name] for name in curve.form.variables], axis=1))
        at = int(np.nanargmin(value))
        best[k] = grid[at] if 0 < at < len(grid) - 1 else np.nan
    return best
