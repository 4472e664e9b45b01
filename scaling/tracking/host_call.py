"""Functions of NumPy arrays inside compiled programs, called by name, so that the programs can be kept on disk.

`jax.pure_callback` puts the address of the Python function into the program, which then belongs to one process: JAX
never writes it to the compilation cache, and every process of a study compiles it again. Here the program holds the
number of a function, which each process looks up in its own register, through XLA's foreign function interface. The
structures are those of `xla/ffi/api/c_api.h` (`jax.ffi.include_dir()`), whose rule is that fields are only ever added.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache

import jax
import numpy as np
from jaxtyping import Array

Function = Callable[..., tuple[np.ndarray, ...]]

_TARGET = "scaling_host_call"
_KNOWN_API = 0  # the major version of the interface that these structures belong to
_EXECUTE = 3
_METADATA = 1
_INTERNAL = 13
_DTYPES = {1: np.bool_, 2: np.int8, 4: np.int32, 5: np.int64, 6: np.uint8, 8: np.uint32, 11: np.float32, 12: np.float64}

_functions: dict[int, Function] = {}


class _Head(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("extension", ctypes.c_void_p))


class _Extension(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("type", ctypes.c_int), ("next", ctypes.c_void_p))


class _Version(ctypes.Structure):
    _fields_ = (*_Head._fields_, ("major", ctypes.c_int), ("minor", ctypes.c_int))


class _Metadata(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("version", _Version), ("traits", ctypes.c_uint32))


class _MetadataExtension(ctypes.Structure):
    _fields_ = (("base", _Extension), ("metadata", ctypes.POINTER(_Metadata)))


class _Failure(ctypes.Structure):
    _fields_ = (*_Head._fields_, ("message", ctypes.c_char_p), ("code", ctypes.c_int))


class _Api(ctypes.Structure):
    _fields_ = (
        *_Head._fields_,
        ("version", _Version),
        ("internal", ctypes.c_void_p),
        ("fail", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Failure))),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (
        *_Head._fields_,
        ("dtype", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
    )


class _Buffers(ctypes.Structure):
    _fields_ = (
        *_Head._fields_,
        ("count", ctypes.c_int64),
        ("types", ctypes.c_void_p),
        ("each", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    )


class _Scalar(ctypes.Structure):
    _fields_ = (("dtype", ctypes.c_int), ("value", ctypes.POINTER(ctypes.c_int64)))


class _Attributes(ctypes.Structure):
    _fields_ = (
        *_Head._fields_,
        ("count", ctypes.c_int64),
        ("types", ctypes.c_void_p),
        ("names", ctypes.c_void_p),
        ("each", ctypes.POINTER(ctypes.POINTER(_Scalar))),
    )


class _Frame(ctypes.Structure):
    _fields_ = (
        *_Head._fields_,
        ("api", ctypes.POINTER(_Api)),
        ("context", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("args", _Buffers),
        ("results", _Buffers),
        ("attributes", _Attributes),
    )


def host_call(
    number: int, function: Function, shapes: Sequence[jax.ShapeDtypeStruct], *args: Array
) -> tuple[Array, ...]:
    """`function` of NumPy arrays, which it must neither write to nor keep, from within a program; results of `shapes`.

    Under vmap every array gets the mapped axis in front. The `number` (63 bits) stands for what the function computes:
    equal numbers, equal functions, in every process that shares a compilation cache. Off the CPU it is a pure callback.
    """

    def by_address(*args: Array) -> tuple[Array, ...]:
        return tuple(jax.pure_callback(function, tuple(shapes), *args, vmap_method="broadcast_all"))

    def by_number(*args: Array) -> tuple[Array, ...]:
        call = jax.ffi.ffi_call(_TARGET, tuple(shapes), vmap_method="broadcast_all")
        return tuple(call(*args, number=np.int64(number)))

    if not _registered():
        return by_address(*args)
    _functions[number] = function
    found: tuple[Array, ...] = jax.lax.platform_dependent(*args, cpu=by_number, default=by_address)
    return found


def _array(buffer: _Buffer) -> np.ndarray:
    """The memory of XLA itself."""
    shape = tuple(buffer.dims[axis] for axis in range(buffer.rank))
    dtype = np.dtype(_DTYPES[buffer.dtype])
    size = int(np.prod(shape)) * dtype.itemsize
    if size == 0:
        return np.empty(shape, dtype)
    held = (ctypes.c_char * size).from_address(buffer.data)
    return np.frombuffer(memoryview(held), dtype).reshape(shape)


def _handle(address: int) -> int | None:
    frame = _Frame.from_address(address)
    if frame.extension and _Extension.from_address(frame.extension).type == _METADATA:
        _describe(frame)
        return None
    if frame.stage != _EXECUTE:
        return None
    try:
        args = [_array(frame.args.each[index].contents) for index in range(frame.args.count)]
        found = _functions[frame.attributes.each[0].contents.value[0]](*args)
        for index, value in enumerate(found):
            _array(frame.results.each[index].contents)[...] = value
    except BaseException as error:  # nothing may be raised through XLA: it becomes the program's error
        message = f"{type(error).__name__}: {error}".encode()
        failure = _Failure(ctypes.sizeof(_Failure), None, message, _INTERNAL)
        return frame.api.contents.fail(ctypes.byref(failure))
    return None


def _describe(frame: _Frame) -> None:
    """Answers XLA's question for which version this is: the one that is running, if these structures are its own."""
    running = frame.api.contents.version
    if running.major == _KNOWN_API:
        told = _MetadataExtension.from_address(frame.extension).metadata.contents
        told.version.major, told.version.minor, told.traits = running.major, running.minor, 0


_handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_handle)  # XLA keeps its address


@cache
def _registered() -> bool:
    """Whether this process's XLA takes the handler."""
    try:
        jax.ffi.register_ffi_target(_TARGET, jax.ffi.pycapsule(ctypes.cast(_handler, ctypes.c_void_p)), platform="cpu")
    except Exception:  # an interface of another version: programs start more slowly and compute the same
        return False
    return True
