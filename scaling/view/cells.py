"""Numbers as people read them: one precision a column, missing as a dash, intervals in brackets."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.view.sections import Estimate

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """Text as shown, the value it sorts by ("" for missing), and whether it is set as a number."""

    text: str
    sort: str
    numeric: bool


def is_missing(value: Any) -> bool:
    """None, NaN, an empty string, or an estimate without a value."""
    if isinstance(value, Estimate):
        return is_missing(value.value)
    if isinstance(value, str):
        return not value
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def column_cells(values: Iterable[Any]) -> list[Cell]:
    """Cells of one column; its floats share one number of decimals so that they align."""
    values = [_plain(value) for value in values]
    floats = [number for value in values for number in _numbers(value)]
    whole = all(number == int(number) for number in floats)
    pattern = _pattern(floats, whole)
    return [_cell(value, pattern) for value in values]


def format_value(value: Any) -> str:
    """A single value outside a table: four significant digits."""
    return column_cells([value])[0].text


def as_rows(rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]) -> list[Mapping[str, Any]]:
    """Rows from either layout of a table."""
    if not isinstance(rows, Mapping):
        return list(rows)
    lengths = {len(column) for column in rows.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    return [{name: column[i] for name, column in rows.items()} for i in range(lengths.pop() if lengths else 0)]


def flatten(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested mappings and lists of mappings, by dotted path."""
    if isinstance(tree, Mapping) and tree:
        return [
            leaf for key, value in tree.items() for leaf in flatten(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(tree, list | tuple) and any(isinstance(item, Mapping) for item in tree):
        return [leaf for index, item in enumerate(tree) for leaf in flatten(item, f"{prefix}[{index}]")]
    return [(prefix, tree)]


def _plain(value: Any) -> Any:
    """NumPy scalars and small arrays as Python's own."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _numbers(value: Any) -> list[float]:
    """The finite numbers that a cell shows."""
    parts = (value.value, value.low, value.high) if isinstance(value, Estimate) else (value,)
    return [float(p) for p in parts if isinstance(p, int | float) and not isinstance(p, bool) and math.isfinite(p)]


def _pattern(numbers: list[float], whole: bool) -> str:
    """A format for all of `numbers`: integers, fixed decimals, or exponents where the range is wide."""
    sizes = [abs(number) for number in numbers if number]
    if whole:
        return ",.0f" if not sizes or max(sizes) < 1e12 else ".3e"
    if max(sizes) >= 1e6 or min(sizes) < 1e-4 or max(sizes) / min(sizes) > 1e7:
        return ".3e"
    # Four significant digits for the largest, three for the smallest, at most six decimals.
    decimals = max(3 - math.floor(math.log10(max(sizes))), min(2 - math.floor(math.log10(min(sizes))), 4))
    decimals = min(max(decimals, 0), 6)
    while decimals and all(abs(number - round(number, decimals - 1)) <= 1e-9 * abs(number) for number in numbers):
        decimals -= 1
    return f",.{decimals}f"


def _cell(value: Any, pattern: str) -> Cell:
    if is_missing(value):
        return Cell(MISSING, "", True)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", str(int(value)), False)
    if isinstance(value, Estimate):
        text = _number(value.value, pattern)
        if value.low is not None or value.high is not None:
            text += f" [{_number(value.low, pattern)}, {_number(value.high, pattern)}]"
        return Cell(text, repr(float(value.value or 0.0)), True)
    if isinstance(value, int | float):
        return Cell(_number(value, pattern), repr(float(value)), True)
    if isinstance(value, list | tuple):
        return Cell(", ".join(format_value(item) for item in value), "", False)
    if isinstance(value, Mapping):
        return Cell(", ".join(f"{key}: {format_value(item)}" for key, item in value.items()), "", False)
    return Cell(str(value), str(value), False)


def _number(value: float | None, pattern: str) -> str:
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return ("−" if value < 0 else "") + format(abs(value), pattern)
