"""A motion file opened: gzip undone and the container (text, npz, npy, pickle, torch archive, raw) read by content."""

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.motion.importers.unpickle import load_npy, load_pickle, load_torch, plain

_GZIP = b"\x1f\x8b"
_ZLIB = (b"\x78\x01", b"\x78\x9c", b"\x78\xda")
_WBC = b"NPZ\x00"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_OLD_PICKLE = re.compile(rb"\([dl]p\d+\n|\(dq|[}\]]q|c[A-Za-z_][\w.]*\n\w+\n")  # protocols 0 and 1 have no mark
_PARQUET = b"PAR1"
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Content:
    """What a file holds: `value` is text, a mapping of names, or one array; `container` says how it was kept."""

    path: Path
    container: str
    value: Any

    @property
    def keys(self) -> frozenset[str]:
        """Names of what is inside; none for text and bare arrays."""
        return frozenset(self.value) if isinstance(self.value, Mapping) else frozenset()

    def __str__(self) -> str:
        return str(self.path)


def open_content(path: Path) -> Content:
    """Read and open one file; what is missing, damaged, a pointer or unknown is an `InputError`."""
    data = _bytes(path)
    where = str(path)
    if data.startswith(_POINTER):
        raise InputError(
            f"{where}: a Git-LFS pointer, not the data; run `git lfs pull` in the repository it came from."
        )
    if data.startswith(b"PK\x03\x04"):
        return _archive(path, data)
    if data.startswith(b"\x93NUMPY"):
        return Content(path, "npy", plain(load_npy(data, where)))
    if data.startswith(_WBC):
        return Content(path, "wbc_fsm", raw_array(data, where))
    if _PICKLE.match(data) or (_OLD_PICKLE.match(data) and data.rstrip().endswith(b".")):
        return Content(path, "pickle", plain(load_pickle(data, where)))
    if data.startswith(_PARQUET):
        raise InputError(
            f"{where}: a Parquet table, as LeRobot keeps its episodes; their columns have no one meaning, so write "
            "qpos as CSV (36 columns) or npz from it and give that."
        )
    if b"\x00" in data[:4096]:
        raise InputError(f"{where}: an unknown binary file; give a motion file of a known format.")
    try:
        return Content(path, "text", data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(
            f"{where}: neither a known binary nor text in UTF-8; give a motion file of a known format."
        ) from None


def _bytes(path: Path) -> bytes:
    """The bytes of a file, decompressed."""
    if path.is_dir():
        raise InputError(f"{path}: a folder where one motion file is needed; name the file.")
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            return gzip.decompress(data)
        if data[:2] in _ZLIB:  # joblib's own compression
            return zlib.decompress(data)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip data are cut short or damaged ({error}); fetch the file again.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions.") from None
    return data


def _archive(path: Path, data: bytes) -> Content:
    """A zip archive: torch's, or numpy's with every array read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.namelist()
            if any(member.endswith("data.pkl") for member in members):
                return Content(path, "torch archive", plain(load_torch(archive, str(path))))
            arrays = [member for member in members if member.endswith(".npy")]
            if arrays:
                values = {member[:-4]: load_npy(archive.read(member), f"{path} ({member[:-4]})") for member in arrays}
                return Content(path, "npz", values)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{path}: the archive is cut short or damaged ({error}); fetch it again.") from None
    raise InputError(f"{path}: a zip archive that holds no arrays; give the motion files inside it.")


def raw_array(data: bytes, where: str) -> np.ndarray:
    """A wbc_fsm array: `NPZ\\0`, u32 rank, u32 sizes, u32 bytes an item, its letter, three bytes of padding, data."""
    try:
        (rank,) = struct.unpack_from("<I", data, 4)
        if not 1 <= rank <= 4:
            raise ValueError(f"rank {rank}")
        *shape, width = struct.unpack_from(f"<{rank + 1}I", data, 8)
        start = 16 + 4 * rank
        letter = data[start - 4 : start - 3].decode("ascii")
        dtype = np.dtype(f"<{letter}{width}") if letter in "fiu" else np.dtype(letter)
        return np.frombuffer(data, dtype, int(np.prod(shape)), offset=start).reshape(shape)
    except (struct.error, ValueError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: the wbc_fsm array is cut short or damaged ({error}); fetch it again.") from None
