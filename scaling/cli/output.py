"""What a verb has to say: JSON where it is asked for, words and tables for a person elsewhere."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from scaling.errors import InputError

# Lines that other packages print on being imported, whatever one does.
_NOISE = ("Failed to import warp", "Failed to import mujoco_warp")
_WIDE = 10_000  # columns where there is no terminal: a file's name must not be folded for whoever reads the pipe


class Grid(NamedTuple):
    """A table for reading; cells are shown by `cell`."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""


@dataclass(frozen=True)
class Outcome:
    """`data` is the JSON, `words` the same for a person (lines of text and grids), `code` the exit code.

    `complaint` is a sentence for standard error that goes with a code that is not 0.
    """

    data: Any
    words: Sequence[str | Grid] = field(default_factory=list)
    code: int = 0
    complaint: str | None = None


def emit(outcome: Outcome, target: str | None) -> None:
    """Write the JSON to `target` ("-": standard output) and nothing else, or the words where no target is given."""
    from scaling.record.files import disk_full, jsonable, told, write_json

    if target is not None and target != "-":
        try:
            write_json(Path(target), outcome.data)
        except OSError as error:
            raise told(error, Path(target), "writing") or InputError(f"{target} cannot be written ({error})") from error
        return
    try:
        if target is None:
            _speak(outcome.words)
        else:
            print(json.dumps(jsonable(outcome.data), indent=1, allow_nan=False))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        _abandon()
    except OSError as error:
        if not disk_full(error):
            raise
        _abandon()
        raise InputError("the disk is full behind standard output: free some space and run it again") from error


def _abandon() -> None:
    """Nothing more goes to standard output, not even what Python would flush as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def cell(value: Any) -> str:
    """A value for reading; a dash where there is none."""
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    return str(value)


def pairs(values: Mapping[str, Any]) -> Grid:
    """Name and value, one a row."""
    return Grid(("", ""), [(name.replace("_", " "), value) for name, value in values.items()])


def _speak(words: Sequence[str | Grid]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    with console.capture() as captured:  # rich would end the process on a broken pipe
        for part in words:
            if isinstance(part, str):
                console.print(part, markup=False, soft_wrap=True)
                continue
            table = Table(title=part.title or None, title_justify="left", show_header=any(part.header), box=None)
            for index, name in enumerate(part.header):
                numeric = all(isinstance(row[index], int | float | None) for row in part.rows)
                table.add_column(name, justify="right" if numeric else "left", overflow="fold")
            for row in part.rows:
                table.add_row(*(cell(value).replace("[", r"\[") for value in row))
            console.print(table)
    print(captured.get(), end="")


@contextlib.contextmanager
def diverted() -> Iterator[None]:
    """While a verb works, what anybody prints goes to standard error: standard output is for the outcome alone."""
    sieve = _Sieve(sys.stderr)
    with contextlib.redirect_stdout(sieve):
        try:
            yield
        finally:
            sieve.close_line()


class _Sieve(io.TextIOBase):
    """A stream that passes whole lines on, but not the known noise."""

    def __init__(self, to: TextIO) -> None:
        self._to, self._held = to, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._held = (self._held + text).split("\n")
        for line in lines:
            if not line.startswith(_NOISE):
                self._to.write(line + "\n")
        return len(text)

    def close_line(self) -> None:
        """Pass on a last line without an end."""
        if self._held:
            self.write("\n")
