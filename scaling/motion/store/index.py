"""The Parquet index of a store: one row a record, with the clip it is of and where that clip came from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8
from pyarrow import parquet

from scaling.errors import InputError
from scaling.motion.store.shards import REMEDY

NAME = "index.parquet"
_TEXTS = ("clip", "take", "recording", "family", "origin", "source", "licence", "subject", "split")
_SCHEMA = pa.schema(
    [
        *((name, pa.dictionary(pa.int32(), pa.string())) for name in _TEXTS),
        ("cluster", pa.int32()),
        ("quality", pa.float32()),
        ("rate_hz", pa.float32()),
        ("begin", pa.int32()),
        ("frames", pa.int32()),
        ("shard", pa.int32()),
        ("record", pa.int32()),
        ("sha256", pa.binary(32)),
    ]
)
_ROWS = 1 << 16  # in a row group; no more is in memory while writing


@dataclass(frozen=True)
class ClipRow:
    """What is known of one clip. `origin` is the clip that it was derived from (mirrored, warped, turned), else "".

    `cluster` is that of the study's one fixed clustering; None where there is none yet. `quality` is 0 (worst) to 1.
    """

    clip: str
    take: str = ""
    recording: str = ""
    family: str = ""
    origin: str = ""
    source: str = ""
    licence: str = "unknown"
    subject: str = ""
    split: str = "train"
    cluster: int | None = None
    quality: float | None = None
    rate_hz: float = 50.0

    def identity(self) -> list[str]:
        """All that is known of the clip's origin: what judges it may change without making it another clip."""
        return [getattr(self, name) for name in _TEXTS]


class IndexWriter:
    """Appends rows and writes them in groups, so that memory does not grow with the corpus."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._partial = folder / f".{NAME}.partial-{os.getpid()}"
        self._writer = parquet.ParquetWriter(self._partial, _SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, clip: ClipRow, begin: int, frames: int, shard: int, record: int, sha256: bytes) -> None:
        """One record's row."""
        place = {"begin": begin, "frames": frames, "shard": shard, "record": record, "sha256": sha256}
        self._rows.append(vars(clip) | place)
        if len(self._rows) == _ROWS:
            self._flush()

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Rows that are a table already."""
        self._writer.write_table(table.cast(_SCHEMA))

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, _SCHEMA))
        self._rows = []


@dataclass(frozen=True)
class Records:
    """Every record in order: its first frame counted over the whole store, its length, and which ones open a clip."""

    start: Int[np.ndarray, "R"]
    frames: Int[np.ndarray, "R"]
    opens: Int[np.ndarray, "C"]

    @cached_property
    def clip_start(self) -> Int[np.ndarray, "C"]:
        """First frame of every clip."""
        return self.start[self.opens]

    @cached_property
    def clip_frames(self) -> Int[np.ndarray, "C"]:
        """Frames of every clip."""
        return np.add.reduceat(self.frames, self.opens)


def read_columns(folder: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of the index; a damaged one raises `InputError`."""
    path = folder / NAME
    try:
        return parquet.read_table(path, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable index ({str(error).splitlines()[0]}); {REMEDY}.") from None


def read_records(folder: Path) -> Records:
    """Where every record and clip lies."""
    table = read_columns(folder, ("begin", "frames"))
    frames = table["frames"].to_numpy().astype(np.int64)
    opens = np.flatnonzero(table["begin"].to_numpy() == 0)
    return Records(np.concatenate([[0], np.cumsum(frames)[:-1]]), frames, opens)


def read_digests(folder: Path) -> UInt8[np.ndarray, "R 32"]:
    """The SHA-256 of every record, [R, 32]."""
    column = read_columns(folder, ("sha256",))["sha256"]
    parts = [
        np.frombuffer(part.buffers()[1], np.uint8).reshape(-1, 32)[part.offset :][: len(part)] for part in column.chunks
    ]
    return np.concatenate(parts)


def set_clusters(folder: Path, labels: dict[str, int]) -> None:
    """Write the cluster of every clip into the index, a group of rows at a time; a clip without one has none."""
    with IndexWriter(folder) as writer, parquet.ParquetFile(folder / NAME) as old:
        for batch in old.iter_batches(_ROWS):
            clusters = pa.array([labels.get(clip.as_py()) for clip in batch["clip"]], pa.int32())
            place = _SCHEMA.get_field_index("cluster")
            writer.write(pa.Table.from_batches([batch]).set_column(place, _SCHEMA.field(place), clusters))
