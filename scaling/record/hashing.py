"""Content hashes: one short name for one meaning, whatever the process, field order or hash seed."""

import dataclasses
import enum
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import InputError

if TYPE_CHECKING:  # an array is asked by its own methods: who hashes none need not wait for NumPy
    import numpy as np

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
    return _text(obj, "value")


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

    def update(self, rows: "np.ndarray") -> None:
        """The next rows; TypeError where they are of another kind than those before."""
        kind = (rows.dtype, rows.shape[1:])
        if self._kind is None:
            self._kind = kind
        if kind != self._kind:
            raise TypeError(f"rows of {kind} behind rows of {self._kind} are not one array")
        self._digest.update(_bytes(rows).data)
        self._rows += len(rows)

    def text(self) -> str:
        """The array as `content_hash` sees it."""
        if self._kind is None:
            raise ValueError("no rows were given, so their kind is not known")
        return _rows_text(self._kind[0].name, (self._rows, *self._kind[1]), self._digest.hexdigest())


def _text(obj: Any, where: str) -> str:
    """The canonical JSON of `obj`; `where` names it in errors."""
    if (exact := _EXACT.get(type(obj))) is not None:
        return exact(obj)
    if isinstance(obj, dict | Mapping):
        for key in obj:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}: only text keys have a place in a hash")
        return _object({key: _text(item, f"{where}.{key}") for key, item in obj.items()})
    if hasattr(type(obj), "__dataclass_fields__"):
        return _dataclass_text(obj, where)
    if isinstance(obj, enum.Enum):  # before what it also is: an IntEnum is an int, a str-valued enum a str
        return _object({"_enum": _quoted(f"{type(obj).__name__}.{obj.name}")})
    if isinstance(obj, list | tuple):
        return _array([_text(item, f"{where}[{index}]") for index, item in enumerate(obj)])
    if isinstance(obj, AbstractSet):
        return _object({"_set": _array(sorted(_text(item, where) for item in obj))})
    for plain in (str, int, float):
        if isinstance(obj, plain):
            return _EXACT[plain](obj)
    if isinstance(obj, bytes):
        return _object({"_bytes": _quoted(hashlib.sha256(obj).hexdigest())})
    if isinstance(obj, RowsHash):
        return obj.text()
    if hasattr(obj, "__array__") and not isinstance(obj, type):
        return _array_text(obj.__array__(), where)
    raise TypeError(
        f"{where} is a {type(obj).__name__}, which has no content hash: use plain values in a config, and hand files "
        "over as inputs"
    )


_quoted = json.encoder.encode_basestring_ascii


def _float_text(value: float) -> str:
    if math.isfinite(value):
        return float.__repr__(value + 0.0)  # -0.0 equals 0.0 and gets its hash
    return _object({"_float": _quoted(str(value))})


_EXACT: dict[type, Callable[[Any], str]] = {
    str: _quoted,
    int: int.__repr__,
    float: _float_text,
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
}


def _object(texts: Mapping[str, str]) -> str:
    return "{" + ",".join([f"{_quoted(name)}:{texts[name]}" for name in sorted(texts)]) + "}"


def _array(texts: Sequence[str]) -> str:
    return f"[{','.join(texts)}]"


# By identity, for 1 and True are equal; the object is kept so that nothing else gets its id.
_KNOWN: dict[int, tuple[Any, str]] = {}
_MOST_KNOWN = 1 << 12


def _dataclass_text(obj: Any, where: str) -> str:
    """Made once for a value that cannot change: the thousands of runs of a sweep have most parts in common."""
    if (known := _KNOWN.get(id(obj))) is not None:
        return known[1]
    kind: Any = type(obj)
    texts, fixed = [], True
    for name, quoted, field in _layout(kind):
        if field is None:
            texts.append(f"{quoted}:{_quoted(kind.__name__)}")
            continue
        value = getattr(obj, name)
        if _BEFORE in field.metadata and value == field.metadata[_BEFORE]:
            continue
        texts.append(f"{quoted}:{_text(value, f'{where}.{name}')}")
        fixed = fixed and _fixed(value)
    text = "{" + ",".join(texts) + "}"
    made = kind.__dataclass_params__
    if fixed and made.frozen and made.eq:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[id(obj)] = (obj, text)
    return text


@functools.cache
def _layout(kind: Any) -> list[tuple[str, str, Any]]:
    """Name, its JSON and the field of everything in the text of a dataclass, in order; "_type" is no field."""
    fields = {"_type": None} | {field.name: field for field in dataclasses.fields(kind)}
    return [(name, _quoted(name), fields[name]) for name in sorted(fields)]


def _fixed(value: Any) -> bool:
    """Whether nothing in a value whose text was just made can change: a list, a mapping or an array may."""
    if isinstance(value, tuple):
        return all(map(_fixed, value))
    return value is None or isinstance(value, str | int | float | bytes | enum.Enum) or id(value) in _KNOWN


def _array_text(array: "np.ndarray", where: str) -> str:
    if array.dtype.hasobject:
        raise TypeError(f"{where} is an array of Python objects, which has no content hash")
    if array.ndim == 0:
        return _text(array.item(), where)
    return _rows_text(array.dtype.name, array.shape, hashlib.sha256(_bytes(array).data).hexdigest())


def _rows_text(dtype: str, shape: Sequence[int], digest: str) -> str:
    return _object({"_array": _array([_quoted(dtype), _array([str(size) for size in shape]), _quoted(digest)])})


def _bytes(array: "np.ndarray") -> "np.ndarray":
    """The array in little-endian C order, whatever the machine and the memory layout; no copy where it is already."""
    return array.astype(array.dtype.newbyteorder("<"), order="C", subok=False, copy=False)
