"""Pickles read without running them: numpy arrays, joblib's and torch's array records, plain values, nothing else."""

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from scaling.errors import InputError

_TORCH_STORAGE = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
# What damaged bytes lead an unpickler into.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


class Foreign(Exception):
    """A pickle asks for something that is not a plain array or value; the text is its name."""


class ArrayWrapper:
    """joblib's record of an array whose bytes follow it in the stream."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> np.ndarray:
    """numpy's blank array, filled by the state that follows."""
    if kind is not np.ndarray:
        raise Foreign(f"an array of class {kind!r}")
    return np.ndarray.__new__(np.ndarray, (0,), np.uint8)


def _scalar(dtype: np.dtype, raw: bytes) -> Any:
    if dtype.hasobject:
        raise Foreign("a scalar that holds an object")
    return np.frombuffer(raw, dtype)[0]


def _frombuffer(
    raw: Any, dtype: np.dtype, shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    """numpy's array of a protocol 5 pickle; `axes` put back the order of its axes in memory."""
    if dtype.hasobject:
        raise Foreign("a buffer that holds objects")
    values = np.frombuffer(raw, dtype)
    if order == "K" and axes is not None:
        return values.reshape(shape).transpose(axes)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _latin(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise Foreign(f"the codec {encoding}")
    return text.encode("latin1")


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A torch tensor as an array: a strided view that may not leave its storage."""
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if offset < 0 or min((*size, *stride), default=0) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor reaches beyond its storage")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False).copy()


_NUMPY: dict[str, Any] = {
    "_reconstruct": _reconstruct,
    "scalar": _scalar,
    "_frombuffer": _frombuffer,
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"{root}.{module}", name): _NUMPY[name] for root in ("numpy.core", "numpy._core") for module, name in (
        ("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): ArrayWrapper,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    **{("torch", name): np.dtype(code) for name, code in _TORCH_STORAGE.items()},
    # ProtoMotions tags its files with an enumeration of one word.
    ("protomotions.simulator.base_simulator.simulator_state", "StateConversion"): str,
}  # fmt: skip


class _Plain(pickle._Unpickler):
    """The interpreter's unpickler in Python, with a list of what may be named and what may be given state."""

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: io.BytesIO, storage: Callable[[str, np.dtype], np.ndarray] | None = None) -> None:
        super().__init__(stream, encoding="latin1")
        self._stream = stream
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may name; anything else ends the reading."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise Foreign(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> np.ndarray:
        """A storage of a torch archive."""
        if self._storage is None:
            raise Foreign("a persistent identifier")
        _, dtype, key, _, count = pid
        return self._storage(str(key), dtype)[: int(count)]

    def load_build(self) -> None:
        """State for arrays, their types and joblib's records, whose bytes are read at once."""
        target = self.stack[-2]  # type: ignore[attr-defined]
        if not isinstance(target, np.ndarray | np.dtype | ArrayWrapper):
            raise Foreign(f"state for {type(target).__name__}")
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        if isinstance(target, ArrayWrapper):
            self.stack[-1] = self._array(target)  # type: ignore[attr-defined]

    def _array(self, record: ArrayWrapper) -> np.ndarray:
        if record.dtype.hasobject:
            return np.asarray(_Plain(self._stream).load())
        if getattr(record, "numpy_array_alignment_bytes", None) is not None:
            self._stream.read(self._stream.read(1)[0])
        count = int(np.prod(record.shape, dtype=np.int64))
        raw = self._stream.read(count * record.dtype.itemsize)
        return np.frombuffer(raw, record.dtype, count).reshape(record.shape, order="F" if record.order == "F" else "C")

    dispatch[pickle.BUILD[0]] = load_build


def load_pickle(data: bytes, where: str) -> Any:
    """What a pickle or joblib file holds; a class of its own or damage is an `InputError` that names it."""
    return _told(lambda: _Plain(io.BytesIO(data)).load(), where)


def load_torch(archive: zipfile.ZipFile, where: str) -> Any:
    """What a torch zip archive holds, tensors as arrays, without torch."""
    record = next(name for name in archive.namelist() if name.endswith("data.pkl"))
    folder = record.removesuffix("data.pkl")

    def storage(key: str, dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)

    return _told(lambda: _Plain(io.BytesIO(archive.read(record)), storage).load(), where)


def load_npy(data: bytes, where: str) -> Any:
    """The array of a .npy file; one of objects is a pickle, and a single object comes as it is."""

    def load() -> Any:
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            found = _Plain(stream).load()
            return found.item() if isinstance(found, np.ndarray) and found.size == 1 else found
        count = int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(data, dtype, count, offset=stream.tell())
        return values.reshape(shape, order="F" if fortran else "C")

    return _told(load, where, "NumPy array")


def _told(load: Callable[[], Any], where: str, what: str = "Python pickle") -> Any:
    """The loaded value, or one sentence on why there is none."""
    try:
        return load()
    except Foreign as error:
        raise InputError(
            f"{where}: the {what} asks for {error}, and only plain arrays and values are read, because a pickle can "
            "run code; save the motion again as arrays."
        ) from None
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where}: the {what} is cut short or damaged ({detail}); fetch the file again.") from None


def plain(value: Any) -> Any:
    """The same without keys that are not text, so that a mapping can be asked for names."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else value
