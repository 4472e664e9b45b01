"""The table: one row per run, as CSV for people and JSON lines for exactness; missing is missing."""

import csv
import io
import json
import math
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record.files import jsonable, told, write_atomic

Column = np.ndarray | list[Any]

_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|\r|\Z)')
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)


def write_table(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Writes `path` (CSV) and its twin `.jsonl`, each atomically; columns in order of first appearance.

    None, NaN and an absent key are an empty cell. Text is quoted and numbers are not, so that a hash of digits stays a
    text when it is read again.
    """
    path = Path(path)
    if path.suffix != ".csv":
        raise ValueError(f"a table is written as .csv with a .jsonl beside it, not as {path.name}")
    plain = [{name: _cell(name, value) for name, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(name for row in plain for name in row))
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    for row in plain:
        text.write(",".join(_csv_cell(row.get(name)) for name in columns) + "\n")
    lines = "".join(
        "{" + ", ".join(f"{json.dumps(name)}: {_json_cell(row.get(name))}" for name in columns) + "}\n" for row in plain
    )
    try:
        write_atomic(path, text.getvalue())
        write_atomic(path.with_suffix(".jsonl"), lines)
    except OSError as error:
        raise told(error, path, "writing") or error from error


def write_parquet(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Writes the same cells as one Parquet file, by pyarrow. Raises InputError where that is not installed."""
    path = Path(path)
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{path} needs pyarrow: pip install pyarrow, or write the table as .csv") from None
    plain = [{name: _cell(name, value) for name, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(name for row in plain for name in row))
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table({name: [row.get(name) for row in plain] for name in columns}), scratch)
        scratch.replace(path)
    except OSError as error:
        raise told(error, path, "writing") or error from error
    finally:
        scratch.unlink(missing_ok=True)


def read_table(path: str | Path) -> dict[str, Column]:
    """Columns by name from a `.csv` or `.jsonl`: int64 or float64 arrays (missing: NaN), lists of text (missing: None).

    Reads any CSV with a header line. A column is numeric when every cell that is not empty is an unquoted number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the path of a table (.csv or .jsonl)") from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise InputError(f"{path} is not a text file: give the path of a table (.csv or .jsonl)") from None
    if not text.strip():
        raise InputError(f"{path} is empty: give a table with a header line")
    if path.suffix == ".jsonl":
        return _from_jsonl(text, path)
    header, *body = _parse(text, path)
    names = [cell for cell, _ in header]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"{path} has two columns named {twice[0]!r}: rename one of them")
    for number, cells in enumerate(body, start=2):
        if len(cells) != len(names):
            raise InputError(f"row {number} of {path} has {len(cells)} cells instead of {len(names)}: mend that row")
    return {name: _column([_value(*cells[index]) for cells in body]) for index, name in enumerate(names)}


def rows_of(columns: dict[str, Column]) -> list[dict[str, Any]]:
    """The table's rows as plain Python values, missing as None: the inverse of `read_table`."""
    lists = {name: column.tolist() if isinstance(column, np.ndarray) else column for name, column in columns.items()}
    count = len(next(iter(lists.values()), []))
    return [{name: _missing(column[index]) for name, column in lists.items()} for index in range(count)]


def _missing(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(name: str, value: Any) -> Any:
    number = np.asarray(value).item() if hasattr(value, "__array__") and np.ndim(value) == 0 else value
    if isinstance(number, float) and math.isinf(number):
        return number
    plain = jsonable(number)
    if isinstance(plain, dict | list):
        raise TypeError(f"column {name!r} holds {value!r}: a cell is one number, one text, a bool or missing")
    return plain


def _json_cell(value: Any) -> str:
    """Strict JSON; an infinity is a number too large for any float, which every reader overflows back to it."""
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return json.dumps(value, allow_nan=False)


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return repr(value)


def _parse(text: str, path: Path) -> list[list[tuple[str, bool]]]:
    """Rows of (text, quoted); the csv module does not tell which cells were quoted."""
    rows: list[list[tuple[str, bool]]] = [[]]
    at = 0
    while at < len(text):
        match = _CELL.match(text, at)
        if match is None:
            raise InputError(f"row {len(rows)} of {path} has a stray or unclosed quotation mark: mend that row")
        quoted, bare, end = match.groups()
        rows[-1].append((quoted.replace('""', '"'), True) if quoted is not None else (bare.strip(), False))
        at = match.end()
        if end != ",":
            rows.append([])
    return [row for row in rows if row and row != [("", False)]]


def _value(text: str, quoted: bool) -> Any:
    if quoted:
        return text
    if not text or text.lower() == "nan":
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return {"True": True, "False": False}.get(text, text)


def _column(values: list[Any]) -> Column:
    """An array where every present value is a number, else a list; a column with nothing in it is all NaN."""
    present = [value for value in values if value is not None]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in present):
        if all(isinstance(value, bool) for value in present):
            return values
        return [value if value is None else str(value) for value in values]
    if (
        len(present) == len(values)
        and values
        and all(isinstance(value, int) and abs(value) < 2**63 for value in values)
    ):
        return np.array(values, dtype=np.int64)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _from_jsonl(text: str, path: Path) -> dict[str, Column]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            rows.append(dict(json.loads(line).items()))
        except (ValueError, AttributeError):
            raise InputError(f"line {number} of {path} is not a JSON record: mend or delete that line") from None
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _column([row.get(name) for row in rows]) for name in names}
