"""The record of one run: scalars as JSON lines, the finished row as JSON, and mirrors of both to look at."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record.files import jsonable, told, unjson, write_atomic, write_json
from scaling.record.mirrors import Mirror, openers
from scaling.record.progress import say

LOG = "log.jsonl"
ROW = "row.json"


class RunLog:
    """Appends scalars to `folder/log.jsonl`, one line a call, each on disk before the next (a context manager).

    A line that a killed process left half-written is cut off first. `resume_from=step` also drops what was logged at or
    after that step, so that a run restarted from its checkpoint leaves the log of one that was never stopped. Finite
    scalars are also shown by the mirrors that SCALING_MIRRORS names, unless `mirror` is False.
    """

    def __init__(self, folder: str | Path, resume_from: int | None = None, mirror: bool = True) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LOG
        wanted = openers() if mirror else {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._mend(resume_from)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise told(error, self.folder, "logging to") or error from error
        self._mirrors: dict[str, Mirror] = {}
        for name, opened in wanted.items():
            try:
                self._mirrors[name] = opened(self.folder, resume_from)
            except Exception as error:  # a service has errors of its own, and none of them may stop a run
                self._left_out(name, error)

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
        if numbers:
            self._show(lambda mirror: mirror.add(int(step), numbers))

    def picture(self, step: int, tag: str, png: bytes) -> None:
        """A PNG for the mirrors alone; where there is none, nothing."""
        self._show(lambda mirror: mirror.add_picture(int(step), tag, png))

    def finish(self, row: dict[str, Any]) -> None:
        """Writes the run's row, atomically and last: a run without `row.json` has not finished."""
        try:
            write_json(self.folder / ROW, row)
        except OSError as error:
            raise told(error, self.folder / ROW, "writing") or error from error

    def close(self) -> None:
        """Closes the files; further calls do nothing."""
        self._file.close()
        self._show(lambda mirror: mirror.close())
        self._mirrors = {}

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show(self, what: Callable[[Mirror], None]) -> None:
        """Does this with every mirror; one that breaks (a full disk) is left out from then on."""
        for name, mirror in list(self._mirrors.items()):
            try:
                what(mirror)
            except mirror.troubles as error:
                del self._mirrors[name]
                with contextlib.suppress(*mirror.troubles):
                    mirror.close()
                self._left_out(name, error)

    def _left_out(self, name: str, error: Exception) -> None:
        words = str(error).strip().split("\n")[0]
        say(f"{name} shows {self.folder} no more ({words}); {self.path} goes on")

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
