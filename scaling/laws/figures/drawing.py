"""What all figures share: palette, style, panels, readable log axes, and the same bytes for the same data."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from scaling.laws.law import ordered
from scaling.laws.table import Table

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
GREY = "#555555"
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5, "axes.axisbelow": True,
    "legend.frameon": False, "legend.fontsize": 7.5, "svg.hashsalt": "scaling", "svg.fonttype": "path",
    "lines.linewidth": 1.6, "figure.dpi": 100,
}  # fmt: skip


class Shown(str):
    """Text that a notebook shows as what it is: a figure's SVG as the figure, anything else as Markdown."""

    def _repr_html_(self) -> str | None:
        return str(self) if self.startswith("<svg") else None

    def _repr_markdown_(self) -> str | None:
        return None if self.startswith("<svg") else str(self)


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


def write_figure(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write NAME.svg and NAME.png into the folder and return both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
    vector.write_text(svg(figure) + "\n")
    pixels.write_bytes(png(figure))
    return vector, pixels


def new_figure(panels: int, width: float = 5.0, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A row of panels without pyplot's global state."""
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


def logarithmic(panel: Axes, axes: str = "xy") -> None:
    """Log axes with plain numbers at few ticks, whatever their span."""
    if "x" in axes:
        panel.set_xscale("log")
    if "y" in axes:
        panel.set_yscale("log")
    for name, axis, (low, high) in (("x", panel.xaxis, panel.get_xlim()), ("y", panel.yaxis, panel.get_ylim())):
        if name not in axes:
            continue
        if high / low < 3:
            axis.set_major_locator(MaxNLocator(6))
        elif high / low < 100:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        else:
            axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(compact))


def legend_below(figure: Figure, panels: Sequence[Axes], columns: int = 4) -> None:
    """One legend for all panels, under them, so that it covers no point."""
    entries = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if entries:
        wide = max(len(label) for label in entries) > 24
        figure.legend(list(entries.values()), list(entries), loc="outside lower center",
                      ncols=min(len(entries), max(1, columns // 2) if wide else columns))  # fmt: skip


def within(panel: Axes, values: Float[np.ndarray, " n"], margin: float = 1.35) -> None:
    """Limit a log y axis to the points and a margin, so that a wide band does not squeeze them."""
    low, high = panel.get_ylim()
    panel.set_ylim(max(low, float(values.min()) / margin), min(high, float(values.max()) * margin))


def levels_axis(panel: Axes, levels: Sequence[float]) -> None:
    """A log x axis with one tick at each of a few levels."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(list(levels)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(compact))
    panel.set_xlim(min(levels) / 1.4, max(levels) * 1.4)


def compact(value: float, _position: int | None = None, digits: int = 4) -> str:
    """A number in little room: 20k, 1.5M, 0.03, 1e+19."""
    for step, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if step <= value < 1e15:
            return f"{value / step:.{digits}g}{mark}"
    return f"{value:.{digits}g}"


def text(value: Any) -> str:
    """A group's value for a legend."""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def words(column: str) -> str:
    """A column's name for an axis."""
    return column.replace("_", " ")


def sequential(count: int) -> list[str]:
    """Colours of ordered things, dark to light (viridis without its palest end)."""
    return [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0.0, 0.85, max(count, 2)))[:count]]


def groups_of(source: Table, by: Sequence[str]) -> list[tuple[tuple, Bool[np.ndarray, " n"]]]:
    """Each value of the `by` columns with the mask of its rows; one group of all rows without any."""
    keys = list(zip(*(source.column(name) for name in by), strict=True)) if by else [()] * len(source)
    return [(group, np.array([key == group for key in keys])) for group in sorted(set(keys), key=ordered)]


def binned(values: Float[np.ndarray, " n"], most: int = 6) -> list[tuple[float, Bool[np.ndarray, " n"]]]:
    """Few (geometric mean, mask) of a positive axis: levels within 5 % of each other, or `most` equal log bins."""
    logs = np.log(values)
    order = np.argsort(logs, kind="stable")
    index = np.empty(len(logs), int)
    index[order] = np.cumsum(np.diff(logs[order], prepend=logs[order[0]]) > 0.05)
    if index.max() >= most:
        edges = np.linspace(logs.min(), logs.max(), most + 1)
        index = np.clip(np.searchsorted(edges, logs, side="right") - 1, 0, most - 1)
    return [(float(np.exp(logs[index == k].mean())), index == k) for k in np.unique(index)]
