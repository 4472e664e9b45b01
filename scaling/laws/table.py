"""A table of runs from CSV or JSONL (also .gz) or Parquet: plain arrays by column name, missing cells kept missing."""

import csv
import difflib
import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError


@dataclass(frozen=True)
class Table:
    """Columns of equal length: float64 with NaN for missing, or object arrays of text with None for missing."""

    columns: Mapping[str, np.ndarray]
    source: str = "a table in memory"

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{self.source} has columns of different lengths: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def column(self, name: str) -> np.ndarray:
        """The column, or an `InputError` with the nearest names and all there are."""
        if name in self.columns:
            return self.columns[name]
        lower = {key.lower(): key for key in self.columns}
        near = [lower[match] for match in difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)]
        guess = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ";"
        raise InputError(f"{self.source} has no column '{name}'{guess} it has: {', '.join(self.columns)}")

    def numeric(self, name: str) -> tuple[Float[np.ndarray, " n"], dict[int, str]]:
        """The column as float64, and row -> reason for every cell that is missing, text or infinite."""
        cells = self.column(name)
        values, reasons = np.full(len(cells), np.nan), {}
        for i, cell in enumerate(cells):
            number = to_number(cell)
            if isinstance(number, str):
                reasons[i] = f"{name} is text ('{number}')"
            elif number is None or math.isnan(number):
                reasons[i] = f"{name} is missing"
            elif math.isinf(number):
                reasons[i] = f"{name} is infinite"
            else:
                values[i] = number
        if cells.dtype == object and all("is text" in reasons.get(i, "") for i in range(len(cells))) and len(cells):
            numbers = [key for key, column in self.columns.items() if column.dtype != object]
            raise InputError(f"column '{name}' of {self.source} is text; columns of numbers are: {', '.join(numbers)}")
        return values, reasons

    def select(self, rows: np.ndarray) -> "Table":
        """The table of those rows (mask or indices)."""
        return Table({name: column[rows] for name, column in self.columns.items()}, self.source)

    def hash(self, names: Iterable[str]) -> str:
        """16 hex digits of the content of those columns, in that order, whatever else the table holds."""
        digest = hashlib.sha256()
        for name in names:
            column = self.column(name)
            text = [None if is_missing(c) else (repr(float(c)) if column.dtype != object else str(c)) for c in column]
            digest.update(json.dumps([name, text]).encode())
        return digest.hexdigest()[:16]


def is_missing(cell: Any) -> bool:
    """None, NaN or an empty cell."""
    return cell is None or cell == "" or (isinstance(cell, (float, np.floating)) and bool(np.isnan(cell)))


def to_number(cell: Any) -> float | str | None:
    """Float of a cell; None where missing; the text itself where it is no number."""
    if is_missing(cell):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return str(cell)


def from_columns(columns: Mapping[str, Sequence[Any] | np.ndarray], source: str = "a table in memory") -> Table:
    """A `Table` of any mapping of columns; a column whose filled cells are all numbers becomes float64."""
    out: dict[str, np.ndarray] = {}
    for name, cells in columns.items():
        numbers = [to_number(cell) for cell in cells]
        if any(isinstance(number, str) for number in numbers):
            column = np.empty(len(numbers), object)
            column[:] = [None if is_missing(cell) else cell for cell in cells]
        else:
            column = np.array([np.nan if number is None else number for number in numbers], float)
        out[name] = column
    return Table(out, source)


def from_rows(rows: Sequence[Mapping[str, Any]], source: str = "a table in memory") -> Table:
    """A `Table` of a list of dicts; a key that a row lacks is missing there."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    return from_columns({name: [row.get(name) for row in rows] for name in names}, source)


def read_table(path: str | Path) -> Table:
    """Read CSV or JSONL, plain or .gz, or Parquet; one sentence of `InputError` for whatever is wrong with the file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not there or not a file: give a CSV, JSONL or Parquet table")
    names = [suffix.lower() for suffix in path.suffixes]
    zipped = bool(names) and names[-1] == ".gz"
    kind = (names[:-1] if zipped else names)[-1:]
    if kind == [".parquet"]:
        return read_parquet(path)
    if kind not in ([".csv"], [".jsonl"]):
        raise InputError(f"{path} is neither .csv nor .jsonl (.gz allowed) nor .parquet: convert it first")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if zipped else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): write it again as UTF-8 text") from error
    rows = csv_rows(text, path) if kind == [".csv"] else jsonl_rows(text, path)
    if not rows:
        raise InputError(f"{path} holds no rows: fit needs at least one row per run")
    return from_rows(rows, str(path))


def read_parquet(path: Path) -> Table:
    """Read Parquet by pyarrow, where it is installed."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{path} is Parquet, which needs pyarrow: pip install pyarrow, or write it as CSV") from None
    try:
        columns = parquet.read_table(path).to_pydict()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0]}): write it again as Parquet") from None
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(f"{path} holds no rows: fit needs at least one row per run")
    return from_columns(columns, str(path))


def csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV text; a row longer than the header or a repeated name is refused."""
    reader = csv.reader(text.splitlines())
    header = [name.strip() for name in next(reader, [])]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"{path} has the column '{repeated[0]}' twice: rename one of them")
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header):
            raise InputError(f"{path} line {reader.line_num} has {len(cells)} cells, the header {len(header)}: mend it")
        rows.append({name: cell.strip() for name, cell in zip(header, cells, strict=False)})
    return [{name: row.get(name) for name in header} for row in rows]


def jsonl_rows(text: str, path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines text, one object a line."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} line {number} is not JSON ({error.msg}): mend or drop it") from error
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} is not an object of column: value pairs: mend it")
        rows.append(row)
    return rows
