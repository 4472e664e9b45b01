"""Content hashes: one short name for one meaning, whatever the process, field order or hash seed."""

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError

HASH_LENGTH = 16  # hex digits: 64 bits, enough for billions of artifacts

# Raised when the canonical form itself changes, so that old and new hashes cannot be mistaken for each other.
_SCHEME = b"scaling-hash-1\n"
_CHUNK = 1 << 20


_BEFORE = "hash before"


def added(default: Any, before: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that came later: a value equal to `before` (`default` where left out) is not in the hash.

    What was hashed before the field existed so keeps its name. `before` says what the code did then, should the
    default itself change one day.
    """
    return dataclasses.field(default=default, metadata={_BEFORE: default if before is dataclasses.MISSING else before})


def canonical_json(obj: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, dataclasses as `{"_type": name, fields}`.

    Takes None, bool, int, float, str, bytes, enums, lists, tuples, sets, string-keyed mappings, dataclasses, NumPy or
    JAX arrays and scalars. Raises TypeError on anything else, naming where it stands: a hash of `repr` is no identity.
    """
    return json.dumps(_plain(obj, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_hash(obj: Any) -> str:
    """16 hex digits of SHA-256 over `canonical_json`."""
    return hashlib.sha256(_SCHEME + canonical_json(obj).encode()).hexdigest()[:HASH_LENGTH]


def file_hash(path: str | Path) -> str:
    """16 hex digits over the bytes of a file, or over the names and bytes of all files below a folder."""
    path = Path(path)
    if path.is_file():
        return _file_digest(path)[:HASH_LENGTH]
    if not path.is_dir():
        raise InputError(f"{path} does not exist: give the path of a file or folder that does")
    files = sorted(entry.relative_to(path).as_posix() for entry in path.rglob("*") if entry.is_file())
    return content_hash([(name, _file_digest(path / name)) for name in files])


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except PermissionError:
        raise InputError(f"{path} may not be read: give yourself read permission on it") from None
    return digest.hexdigest()


class RowsHash:
    """An array [N, ...] in a content hash, taken in by some of its rows at a time: the hash is that of the whole."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rows = 0
        self._kind: tuple[np.dtype, tuple[int, ...]] | None = None

    def update(self, rows: np.ndarray) -> None:
        """The next rows; TypeError where they are of another kind than those before."""
        kind = (rows.dtype, rows.shape[1:])
        if self._kind is None:
            self._kind = kind
        if kind != self._kind:
            raise TypeError(f"rows of {kind} behind rows of {self._kind} are not one array")
        self._digest.update(_bytes(rows).data)
        self._rows += len(rows)

    def plain(self) -> Any:
        """The array as `content_hash` sees it."""
        if self._kind is None:
            raise ValueError("no rows were given, so their kind is not known")
        return {"_array": [self._kind[0].name, [self._rows, *self._kind[1]], self._digest.hexdigest()]}


def _plain(obj: Any, where: str) -> Any:
    """The JSON-able form of `obj`; `where` names it in errors."""
    # Subclasses first: an IntEnum is an int, a str-valued enum a str.
    if isinstance(obj, enum.Enum):
        return {"_enum": f"{type(obj).__name__}.{obj.name}"}
    if obj is None or isinstance(obj, bool | str | int):
        return obj
    if isinstance(obj, float):
        return _plain_float(obj)
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return _plain_dataclass(obj, where)
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}: only text keys have a place in a hash")
        return {key: _plain(item, f"{where}.{key}") for key, item in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(obj)]
    if isinstance(obj, AbstractSet):
        items = [_plain(item, where) for item in obj]
        return {"_set": sorted(items, key=lambda item: json.dumps(item, sort_keys=True))}
    if isinstance(obj, bytes):
        return {"_bytes": hashlib.sha256(obj).hexdigest()}
    if isinstance(obj, RowsHash):
        return obj.plain()
    if isinstance(obj, np.generic) or hasattr(obj, "__array__"):
        return _plain_array(np.asarray(obj), where)
    raise TypeError(
        f"{where} is a {type(obj).__name__}, which has no content hash: use plain values in a config, and hand files "
        "over as inputs"
    )


# By identity, for 1 and True are equal; the object is kept so that nothing else gets its id.
_KNOWN: dict[int, tuple[Any, dict[str, Any]]] = {}
_MOST_KNOWN = 1 << 14


def _plain_dataclass(obj: Any, where: str) -> dict[str, Any]:
    """Made once for a value that cannot change: the thousands of runs of a sweep have most parts in common."""
    if (known := _KNOWN.get(id(obj))) is not None:
        return known[1]
    fields = {
        field.name: _plain(getattr(obj, field.name), f"{where}.{field.name}")
        for field in dataclasses.fields(obj)
        if _BEFORE not in field.metadata or getattr(obj, field.name) != field.metadata[_BEFORE]
    }
    plain = {"_type": type(obj).__name__, **fields}
    made = type(obj).__dataclass_params__
    if made.frozen and made.eq and _hashable(obj):
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[id(obj)] = (obj, plain)
    return plain


def _hashable(obj: Any) -> bool:
    """Whether nothing in it can change: a list, a mapping or an array has no hash."""
    try:
        hash(obj)
    except TypeError:
        return False
    return True


def _plain_float(value: float) -> Any:
    if math.isfinite(value):
        return value + 0.0  # -0.0 equals 0.0 and gets its hash
    return {"_float": str(value)}


def _plain_array(array: np.ndarray, where: str) -> Any:
    if array.dtype.hasobject:
        raise TypeError(f"{where} is an array of Python objects, which has no content hash")
    if array.ndim == 0:
        return _plain(array.item(), where)
    return {"_array": [array.dtype.name, list(array.shape), hashlib.sha256(_bytes(array).data).hexdigest()]}


def _bytes(array: np.ndarray) -> np.ndarray:
    """The array in little-endian C order, whatever the machine and the memory layout; no copy where it is already."""
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
