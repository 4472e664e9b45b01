"""Atomic writes, and the machine's troubles (disk full, no permission) told in one sentence."""

import errno
import json
import math
import os
import uuid
from pathlib import Path
from typing import Any

from scaling.errors import InputError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_LOCKED = {errno.EROFS, errno.EACCES, errno.EPERM}
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ENOLCK, errno.EHOSTUNREACH} | {
    errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED
}  # fmt: skip


def write_atomic(path: Path, text: str) -> None:
    """Writes `text` so that a reader, and the disk after a crash, has the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes strict, indented JSON atomically; see `jsonable`."""
    write_atomic(path, json.dumps(jsonable(value), indent=1, allow_nan=False) + "\n")


def jsonable(value: Any) -> Any:
    """Strict JSON of a record: NumPy scalars and arrays become plain, NaN (missing) null, infinities a text.

    A run that diverged to infinity is a fact worth keeping; a NaN is not a number that anybody may average.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "__array__") and not isinstance(value, type):  # asked by its own method: NumPy may not be there
        return jsonable(value.__array__().tolist())
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} has no place in a record")


def unjson(value: Any) -> Any:
    """Infinities back from their text; everything else unchanged."""
    if isinstance(value, str):
        return {"Infinity": math.inf, "-Infinity": -math.inf}.get(value, value)
    return value


def disk_full(error: BaseException | None) -> bool:
    """Whether `error` or what caused it is a full disk; C++ writers (Orbax, TensorStore) say so only in words."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(words in str(error) for words in ("No space left on device", "Disk quota exceeded")):
            return True
        error = error.__cause__ or error.__context__
    return False


def passing(error: OSError) -> bool:
    """Whether the same call may succeed a moment later: a network or a server failed, and not what was asked of it."""
    if error.errno is None:  # a client of an object store
        return not isinstance(error, FileNotFoundError | FileExistsError | PermissionError)
    return error.errno in _PASSING


def told(error: OSError, path: Path, what: str) -> InputError | None:
    """The sentence for an OSError that the user can mend while `what` at `path`; None for any other."""
    if disk_full(error):
        return InputError(f"the disk is full while {what} {path}: free some space and run the same command again")
    if error.errno in _LOCKED:
        return InputError(f"{path} cannot be written while {what} it: choose a folder that you may write to")
    if error.errno == errno.ENOENT:
        return InputError(f"{path} cannot be made while {what} it: choose a folder on a disk that takes new ones")
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return InputError(f"{path} is in the way of a folder while {what} it: move it or choose another path")
    return None


def read_json(path: Path) -> Any:
    """What `write_json` wrote; what was not finite is None."""
    return json.loads(path.read_text())
