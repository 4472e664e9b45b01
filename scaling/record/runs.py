"""The record of one run: scalars as JSON lines, the finished row as JSON, TensorBoard as a mirror."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record.board import Board, open_board
from scaling.record.files import jsonable, told, unjson, write_atomic, write_json
from scaling.record.progress import say

LOG = "log.jsonl"
ROW = "row.json"
BOARD = "tensorboard"


class RunLog:
    """Appends scalars to `folder/log.jsonl`, one line a call, each on disk before the next (a context manager).

    A line that a killed process left half-written is cut off first. `resume_from=step` also drops what was logged at or
    after that step, so that a run restarted from its checkpoint leaves the log of one that was never stopped. The
    mirror needs tensorboardX, and is left out where that is not installed.
    """

    def __init__(self, folder: str | Path, resume_from: int | None = None, mirror: bool = True) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LOG
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._mend(resume_from)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise told(error, self.folder, "logging to") or error from error
        self._board: Board | None = None
        if mirror:
            with self._mirror():
                self._board = open_board(self.folder / BOARD, resume_from)

    def log(self, step: int, **scalars: Any) -> None:
        """One line `{"step", "time" (Unix seconds), scalars}`; missing values (None, NaN) become null."""
        values = {name: _scalar(name, value) for name, value in scalars.items()}
        line = json.dumps(jsonable({"step": int(step), "time": round(time.time(), 3), **values}), allow_nan=False)
        try:
            rest = (line + "\n").encode()
            while rest:  # a disk that fills in the middle of a line takes a part of it first
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise told(error, self.path, "logging to") or error from error
        numbers = {
            name: value for name, value in values.items() if isinstance(value, int | float) and np.isfinite(value)
        }
        with self._mirror() as board:
            if board is not None and numbers:
                board.add(int(step), numbers)

    def picture(self, step: int, tag: str, png: bytes) -> None:
        """A PNG for the mirror alone; where there is no mirror, nothing."""
        with self._mirror() as board:
            if board is not None:
                board.add_picture(int(step), tag, png)

    def finish(self, row: dict[str, Any]) -> None:
        """Writes the run's row, atomically and last: a run without `row.json` has not finished."""
        try:
            write_json(self.folder / ROW, row)
        except OSError as error:
            raise told(error, self.folder / ROW, "writing") or error from error

    def close(self) -> None:
        """Closes the files; further calls do nothing."""
        self._file.close()
        with self._mirror() as board:
            if board is not None:
                board.close()
        self._board = None

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _mirror(self) -> Iterator[Board | None]:
        """The board; a mirror that breaks (a full disk) is left out from then on, for the record is the JSON lines."""
        try:
            yield self._board
        except OSError as error:
            broken, self._board = self._board, None
            if broken is not None:
                with contextlib.suppress(OSError):
                    broken.close()
            say(f"{self.folder / BOARD} is written no more ({error}); {self.path} goes on")

    def _mend(self, resume_from: int | None) -> None:
        if not self.path.exists():
            return
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1].decode("utf-8")
        if resume_from is not None:
            lines = whole.splitlines(keepends=True)
            whole = "".join(line for line in lines if json.loads(line)["step"] < resume_from)
        if whole.encode("utf-8") != text:
            write_atomic(self.path, whole)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """All lines of a log (a file or a run's folder); a torn last line, as a kill leaves it, is dropped."""
    path = Path(path)
    path = path / LOG if path.is_dir() else path
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the folder of a run that has logged something") from None
    records = []
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append({name: unjson(value) for name, value in record.items()})
        except (ValueError, AttributeError):
            raise InputError(
                f"line {number} of {path} is not a JSON record: restore the file or delete that line"
            ) from None
    return records


def read_row(folder: str | Path) -> dict[str, Any] | None:
    """The row of a finished run; None where it has not finished."""
    path = Path(folder) / ROW
    try:
        row = json.loads(path.read_text())
        return {name: unjson(value) for name, value in row.items()}
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        raise InputError(f"{path} is not a JSON record: delete it and run this again") from None


def _scalar(name: str, value: Any) -> Any:
    """A plain scalar from a Python, NumPy or JAX one."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value)
    if array.ndim != 0 or array.dtype.hasobject:
        raise TypeError(f"{name} of shape {array.shape} is not a scalar: log one number a name")
    return array.item()
