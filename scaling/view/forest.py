"""A dot plot with intervals (experts beside open loop) as inline SVG that takes its colours from the page."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from scaling.view.cells import format_value
from scaling.view.sections import Comparison, Estimate

_WIDTH, _LABEL, _RIGHT, _ROW, _TOP, _BOTTOM = 760, 210, 24, 34, 8, 44


def forest_svg(comparisons: Sequence[Comparison]) -> Markup:
    """One row a comparison of one quantity: filled disc = expert, open square = open loop, bars = intervals."""
    numbers = [n for c in comparisons for e in (c.expert, c.open_loop) for n in (e.value, e.low, e.high)]
    finite = [float(n) for n in numbers if n is not None and math.isfinite(n)]
    if not finite:
        return Markup("")
    low, high = min(0.0, *finite), max(finite)
    ticks = _ticks(low, high if high > low else low + 1.0)
    low, high = ticks[0], ticks[-1]
    span = _WIDTH - _LABEL - _RIGHT

    def x(value: float) -> float:
        return round(_LABEL + span * (value - low) / (high - low), 1)

    base = _TOP + _ROW * len(comparisons)
    first = comparisons[0]
    axis = f"{first.quantity} ({first.unit}), {first.better} is better" if first.unit else first.quantity
    parts = [f'<svg class="forest" viewBox="0 0 {_WIDTH} {base + _BOTTOM}" role="img" aria-label="{escape(axis)}">']
    for tick in ticks:
        parts.append(f'<line class="rule" x1="{x(tick)}" x2="{x(tick)}" y1="{_TOP}" y2="{base}"/>')
        parts.append(f'<text class="tick" x="{x(tick)}" y="{base + 16}">{escape(format_value(tick))}</text>')
    for row, item in enumerate(comparisons):
        y = _TOP + _ROW * (row + 0.5)
        label = f"{item.cluster} · assist {item.assist:g}"
        label = label if len(label) <= 32 else label[:15] + "…" + label[-16:]
        parts.append(f'<text class="label" x="{_LABEL - 12}" y="{y + 4}">{escape(label)}</text>')
        for estimate, offset, name in ((item.open_loop, 6, "open"), (item.expert, -6, "expert")):
            parts.append(_mark(estimate, y + offset, name, x))
    parts.append(f'<text class="axis" x="{_LABEL + span / 2}" y="{base + 36}">{escape(axis)}</text></svg>')
    return Markup("".join(parts))  # every text above is escaped


def _mark(estimate: Estimate, y: float, name: str, x: Callable[[float], float]) -> str:
    if estimate.value is None or not math.isfinite(estimate.value):
        return ""
    parts = []
    if estimate.low is not None and estimate.high is not None and math.isfinite(estimate.low + estimate.high):
        parts.append(f'<line class="{name}" x1="{x(estimate.low)}" x2="{x(estimate.high)}" y1="{y}" y2="{y}"/>')
    at = x(estimate.value)
    if name == "expert":
        parts.append(f'<circle class="expert" cx="{at}" cy="{y}" r="4.5"/>')
    else:
        parts.append(f'<rect class="open" x="{at - 4}" y="{y - 4}" width="8" height="8"/>')
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round values that hold [low, high]."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
