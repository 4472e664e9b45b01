"""ArrayRecord shards: chunks of float32 `qpos`, one a record, written in order, read in any, verified by SHA-256."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float, UInt8

from scaling.errors import InputError
from scaling.record.files import disk_full
from scaling.robot.g1 import NQ

FRAME_BYTES = 4 * NQ
REMEDY = "copy the store again, or build it anew with `scaling motions import`"
# Grain reads at random: one record a group, and no compression, which would cost more time than it saves bytes.
_WRITE = "group_size:1,uncompressed"
# Grain's own threads are the parallelism; the reader's would only hand every record from core to core.
_READ = {"max_parallelism": "1"}


@dataclass(frozen=True)
class Shard:
    """One file of a store: its name, size, and how many records and frames it holds."""

    name: str
    bytes: int
    records: int
    frames: int


@dataclass(frozen=True)
class StoreConfig:
    """Most frames in a record (a clip is cut into equal ones) and bytes at which a shard is full."""

    frames_per_record: int = 128
    shard_bytes: int = 512 << 20

    def __post_init__(self) -> None:
        if not 64 <= self.frames_per_record <= 512:
            raise ValueError(f"frames_per_record {self.frames_per_record} must be from 64 to 512")
        if self.shard_bytes < FRAME_BYTES * self.frames_per_record:
            raise ValueError(f"shard_bytes {self.shard_bytes} must hold at least one record")


def cut_evenly(frames: int, most: int) -> list[tuple[int, int]]:
    """(begin, frames) of the fewest equal chunks of at most `most` frames."""
    pieces = -(-frames // most)
    edges = [piece * frames // pieces for piece in range(pieces + 1)]
    return [(begin, end - begin) for begin, end in pairwise(edges)]


class ShardWriter:
    """Writes records one after the other and begins a new file when one is full."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.shards: list[Shard] = []
        self._folder = folder
        self._most = shard_bytes // FRAME_BYTES
        self._writer: ArrayRecordWriter | None = None
        self._records = self._frames = 0

    def write(self, chunk: Float[np.ndarray, "T 36"]) -> tuple[int, int, bytes]:
        """Append `chunk`; returns its shard, its record there, and its SHA-256."""
        if self._writer is not None and self._frames + len(chunk) > self._most:
            self._finish()
        data = np.ascontiguousarray(chunk, "<f4").tobytes()
        with self._told():
            if self._writer is None:
                self._writer = ArrayRecordWriter(str(self._folder / self._name()), _WRITE)
            self._writer.write(data)
        self._records += 1
        self._frames += len(chunk)
        return len(self.shards), self._records - 1, hashlib.sha256(data).digest()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._finish()

    def _name(self) -> str:
        return f"qpos-{len(self.shards):05d}.array_record"

    def _finish(self) -> None:
        assert self._writer is not None
        with self._told():
            self._writer.close()
        path = self._folder / self._name()
        self.shards.append(Shard(path.name, path.stat().st_size, self._records, self._frames))
        self._writer, self._records, self._frames = None, 0, 0

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """The writer's own errors in one sentence; it says what happened only in words."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if disk_full(error):
                raise InputError(
                    f"the disk is full while writing {self._folder}: free some space and run the same command again"
                ) from None
            raise InputError(f"{self._folder / self._name()} cannot be written ({_short(error)}).") from None


class ShardReader:
    """Records of a store by their number over all shards; bytes that do not hash to `digests` raise `InputError`."""

    def __init__(self, folder: Path, shards: Sequence[Shard], digests: UInt8[np.ndarray, "R 32"]) -> None:
        self._folder = folder
        self._digests = digests
        for shard in shards:
            check_size(folder, shard)
        self._source = ArrayRecordDataSource(
            [f"{folder / shard.name}[0:{shard.records}]" for shard in shards], reader_options=_READ
        )

    def read(self, records: Sequence[int]) -> list[bytes]:
        """The bytes of some records, in the order asked for."""
        try:
            found = self._source.__getitems__(records)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{self._folder}: a shard cannot be read ({_short(error)}); {REMEDY}.") from None
        for record, data in zip(records, found, strict=True):
            if hashlib.sha256(data).digest() != self._digests[record].tobytes():
                raise InputError(f"{self._folder}: record {record} is not what its SHA-256 says; {REMEDY}.")
        return found


def check_size(folder: Path, shard: Shard) -> None:
    """Raises `InputError` where a shard is missing or not as long as it was written."""
    path = folder / shard.name
    size = path.stat().st_size if path.is_file() else None
    if size is None:
        raise InputError(f"{path}: this shard of the store is missing; {REMEDY}.")
    if size != shard.bytes:
        raise InputError(
            f"{path}: {size} bytes where {shard.bytes} were written, so it is cut short or altered; {REMEDY}."
        )


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0].split(";")[0] if str(error) else type(error).__name__
