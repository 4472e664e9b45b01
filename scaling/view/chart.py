"""A chart of points and curves as inline SVG; the report's script shows what a point is when the pointer is near."""

import json
import math
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup, escape

from scaling.view.cells import format_value
from scaling.view.sections import Chart, Dots, Line

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 400, 62, 16, 14, 46
# Unit paths of the markers, so that series differ without colour too.
_MARKS = (
    "M-1 0A1 1 0 1 0 1 0A1 1 0 1 0 -1 0Z",
    "M-.9-.9H.9V.9H-.9Z",
    "M0-1.2L1.1.8H-1.1Z",
    "M0-1.3L1.1 0L0 1.3L-1.1 0Z",
    "M0 1.2L1.1-.8H-1.1Z",
    "M-.4-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
)
Scale = Callable[[float], float]


def chart_svg(chart: Chart) -> Markup:
    """The drawing; what is not finite, or not positive on a log axis, is left out."""
    x, y = _scale(chart, "x"), _scale(chart, "y")
    if x is None or y is None:
        return Markup('<p class="note">There is nothing to draw.</p>')
    (along, x_ticks), (up, y_ticks) = x, y
    label = f"{chart.y} against {chart.x}"
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">']
    inner = (_WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)
    base = _HEIGHT - _BOTTOM
    for tick in x_ticks:
        at = along(tick)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{base}"/>')
        parts.append(f'<text class="tick-x" x="{at}" y="{base + 17}">{escape(short(tick))}</text>')
    for tick in y_ticks:
        at = up(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="tick-y" x="{_LEFT - 7}" y="{at + 4}">{escape(short(tick))}</text>')
    parts.append(f'<path class="frame" fill="none" d="M{_LEFT} {_TOP}V{base}H{_WIDTH - _RIGHT}"/>')
    box = f'x="{_LEFT}" y="{_TOP}" width="{inner[0]}" height="{inner[1]}"'
    parts.append(f'<svg {box} viewBox="{_LEFT} {_TOP} {inner[0]} {inner[1]}">')  # clips what leaves the axes
    for series in chart.series:
        parts += [_line(line, series.colour, along, up) for line in series.lines]
    for index, series in enumerate(chart.series):
        if series.dots is not None:
            parts += _dots(series.dots, series.colour, index, along, up)
    parts.append("</svg>")
    parts.append(f'<text class="axis" x="{_LEFT + inner[0] / 2}" y="{_HEIGHT - 9}">{escape(chart.x)}</text>')
    middle = _TOP + inner[1] / 2
    parts.append(f'<text class="axis" transform="translate(15 {middle}) rotate(-90)">{escape(chart.y)}</text></svg>')
    return Markup("".join(parts))  # every text above is escaped


def legend(chart: Chart) -> Markup:
    """Marker and name of each named series."""
    entries = []
    for index, series in enumerate(chart.series):
        if not series.name:
            continue
        drawn = f'<line x1="1" x2="21" y1="7" y2="7" stroke="{escape(series.colour)}" stroke-width="1.8"/>'
        if series.dots is not None:
            fill = "#fff" if series.dots.hollow and all(series.dots.hollow) else escape(series.colour)
            drawn = _mark(index, 11, 7, str(fill), str(escape(series.colour)))
        entries.append(
            f'<span><svg width="22" height="14" aria-hidden="true">{drawn}</svg>{escape(series.name)}</span>'
        )
    return Markup('<div class="legend">' + "".join(entries) + "</div>") if entries else Markup("")


def short(value: float) -> str:
    """A tick: 20k, 1.5M, 0.03, 1e+19."""
    for step, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if step <= abs(value) < 1e15:
            return f"{value / step:.4g}{mark}"
    return f"{value:.4g}"


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Three to eight round values in [low, high]."""
    if log and high / low >= 3.0:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
            found = [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
            if len(found) >= 3:
                return found[:: -(-len(found) // 8)]
    raw = (high - low) / 6.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _scale(chart: Chart, axis: str) -> tuple[Scale, list[float]] | None:
    """Value to coordinate, and the ticks; the points set the limits of y, the curves may leave them."""
    log = axis in chart.log
    of_dots = [n for s in chart.series if s.dots is not None for n in getattr(s.dots, axis)]
    of_lines = [n for s in chart.series for line in s.lines for n in getattr(line, axis)]
    values = [float(n) for n in of_dots + (of_lines if axis == "x" or not of_dots else []) if _drawable(n, log)]
    if not values:
        return None
    to = math.log if log else float
    low, high = to(min(values)), to(max(values))
    # A curve may lead out of the points by a fifth of their span, a wide band may not.
    if axis == "y" and of_dots:
        room = 0.2 * (high - low)
        inside = [to(n) for n in of_lines if _drawable(n, log) and low - room <= to(n) <= high + room]
        low, high = min([low, *inside]), max([high, *inside])
    margin = 0.05 * (high - low) or 0.5 * (abs(high) or 1.0)
    low, high = low - margin, high + margin
    start, length = (
        (_LEFT, _WIDTH - _LEFT - _RIGHT) if axis == "x" else (_HEIGHT - _BOTTOM, -(_HEIGHT - _TOP - _BOTTOM))
    )

    def scale(value: float) -> float:
        return round(start + length * (to(value) - low) / (high - low), 1)

    ends = (math.exp(low), math.exp(high)) if log else (low, high)
    return scale, ticks(*ends, log)


def _drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _mark(index: int, x: float, y: float, fill: str, stroke: str, more: str = "") -> str:
    shape = _MARKS[index % len(_MARKS)]
    return (
        f'<path {more} d="{shape}" transform="translate({x} {y}) scale(4)" fill="{fill}" stroke="{stroke}" '
        'vector-effect="non-scaling-stroke"/>'
    )


def _dots(dots: Dots, colour: str, index: int, along: Scale, up: Scale) -> Iterable[str]:
    """Bars first, then the markers, each with what its tip shows."""
    tone = str(escape(colour))
    places = []
    for i, (x, y) in enumerate(zip(dots.x, dots.y, strict=True)):
        try:
            places.append((i, along(x), up(y)))
        except (ValueError, OverflowError):
            continue  # not positive on a log axis
    shown = [(i, x, y) for i, x, y in places if math.isfinite(x + y)]
    if dots.bounds is not None:
        for i, x, _ in shown:
            low, high = dots.bounds[i]
            if low > 0 and math.isfinite(low + high):
                yield f'<line class="bar" stroke="{tone}" x1="{x}" x2="{x}" y1="{up(low)}" y2="{up(high)}"/>'
    for i, x, y in shown:
        tip = json.dumps([[name, format_value(value)] for name, value in dots.tips[i].items()], ensure_ascii=False)
        held = f'class="dot" data-x="{x}" data-y="{y}" data-id="{escape(dots.ids[i])}" data-tip="{escape(tip)}"'
        yield _mark(index, x, y, "#fff" if dots.hollow[i] else tone, tone, held)


def _line(line: Line, colour: str, along: Scale, up: Scale) -> str:
    """The band, then the curve; a curve that is broken by what cannot be drawn goes on after it."""
    tone = escape(colour)
    out = ""
    if line.low is not None and line.high is not None:
        top = _path(line.x, line.high, along, up)
        bottom = _path(line.x[::-1], line.low[::-1], along, up)
        if top and bottom:
            out += f'<path class="band" fill="{tone}" d="{top}L{bottom[1:]}Z"/>'
    path = _path(line.x, line.y, along, up)
    return out + (f'<path class="curve {escape(line.style)}" stroke="{tone}" d="{path}"/>' if path else "")


def _path(xs: Sequence[float], ys: Sequence[float], along: Scale, up: Scale) -> str:
    points = []
    for x, y in zip(xs, ys, strict=True):
        try:
            at = (along(x), up(y))
        except (ValueError, OverflowError):
            continue
        if math.isfinite(sum(at)):
            points.append(f"{at[0]} {at[1]}")
    return "M" + "L".join(points) if points else ""
