"""The store: a folder with shards, the index and, written last, `store.json` that says what must be there."""

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from scaling.errors import InputError
from scaling.motion.arms import FRACTIONS, nested_prefixes, stratified_order
from scaling.motion.clip import CONTROL_RATE_HZ
from scaling.motion.store import index
from scaling.motion.store.index import ClipRow, IndexWriter, Records
from scaling.motion.store.shards import REMEDY, Shard, ShardReader, ShardWriter, StoreConfig, check_size, cut_evenly
from scaling.record.files import told, write_json
from scaling.robot.g1 import NQ

_MANIFEST = "store.json"
_PARTIAL = ".partial-"
_VERSION = 1
_AT_ONCE = 256  # records in memory while reading in order
_HOUR = CONTROL_RATE_HZ * 3600.0  # frames
LABEL_REMEDY = "write labels with `scaling motions store CORPUS --clusters FILE`"


@dataclass(frozen=True)
class Store:
    """A store on disk, opened: sizes are checked, hashes when records are read. Frames are counted over all clips.

    `hash` is over the frames and the clips' table, but for judgements (cluster, quality); `of` is the hash of what it
    was made of, where that has one.
    """

    folder: Path
    shards: tuple[Shard, ...]
    hash: str
    of: str = ""

    @property
    def frames(self) -> int:
        """Frames of all clips, derived ones included."""
        return sum(shard.frames for shard in self.shards)

    @cached_property
    def records(self) -> Records:
        """Where every record and clip lies, in frames from the first of the store."""
        found = index.read_records(self.folder)
        if len(found.frames) != sum(shard.records for shard in self.shards) or found.frames.sum() != self.frames:
            raise InputError(f"{self.folder / index.NAME}: the index does not fit the shards beside it; {REMEDY}.")
        return found

    def reader(self) -> ShardReader:
        """Verified random access to the records."""
        return ShardReader(self.folder, self.shards, index.read_digests(self.folder))

    def stream(self) -> Iterator[Float[np.ndarray, "T 36"]]:
        """All frames in order, some records at a time, verified."""
        reader, total = self.reader(), len(self.records.frames)
        for first in range(0, total, _AT_ONCE):
            data = b"".join(reader.read(range(first, min(first + _AT_ONCE, total))))
            yield np.frombuffer(data, "<f4").reshape(-1, NQ)

    def texts(self, name: str) -> list[str]:
        """A text column of the index, one entry a clip."""
        return self._column(name).to_pylist()

    @cached_property
    def clusters(self) -> Int[np.ndarray, "C"]:
        """Cluster of every clip in the study's fixed clustering, -1 where none is known."""
        return self._column("cluster").fill_null(-1).to_numpy()

    def where(self, column: str, value: str) -> Bool[np.ndarray, "C"]:
        """Which clips have this text in this column."""
        return pc.call_function("equal", [self._column(column).cast(pa.string()), value]).to_numpy(zero_copy_only=False)

    def _column(self, name: str) -> Any:
        column = index.read_columns(self.folder, (name,))[name].take(pa.array(self.records.opens))
        return column.combine_chunks()

    def arms(self, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> dict[float, Int[np.ndarray, "m"]]:
        """Fraction -> training clips, as `corpus.nested_arms` has them, stratified by the clustering in the index.

        Each arm holds the smaller ones, by unique frames; what was derived from a clip is in the arms that it is in.
        """
        train = self.where("split", "train")
        unique = np.flatnonzero(train & self.where("origin", ""))
        if (self.clusters[unique] < 0).any():
            raise InputError(f"{self.folder}: clips without a cluster cannot be stratified; {LABEL_REMEDY}.")
        clips, origins = (self._column(name).cast(pa.string()) for name in ("clip", "origin"))
        among = pc.SetLookupOptions(clips.take(pa.array(unique)))
        made_of = pc.call_function("index_in", [origins], among).fill_null(-1).to_numpy().copy()
        made_of[unique] = np.arange(len(unique))
        order = stratified_order(self.clusters[unique], seed)
        arms = nested_prefixes(order, self.records.clip_frames[unique].astype(np.float64), fractions)
        return {fraction: np.flatnonzero(train & np.isin(made_of, chosen)) for fraction, chosen in arms.items()}

    def amount(self, clips: Int[np.ndarray, "n"] | Bool[np.ndarray, "C"] | None = None) -> dict[str, Any]:
        """Clips, frames and hours of some clips (default: all).

        "unique" is what was recorded, "augmented" what was derived from it.
        """
        chosen = np.zeros(len(self.records.opens), bool)
        chosen[slice(None) if clips is None else clips] = True
        unique, frames = self.where("origin", ""), self.records.clip_frames
        recorded, derived = int(frames[chosen & unique].sum()), int(frames[chosen & ~unique].sum())
        return {
            "clips": int(chosen.sum()),
            "unique_frames": recorded,
            "augmented_frames": derived,
            "unique_hours": recorded / _HOUR,
            "augmented_hours": derived / _HOUR,
        }

    def report(self) -> dict[str, Any]:
        """Amounts of all, by split and by licence; clusters, files and bytes."""

        def by(column: str) -> dict[str, dict[str, Any]]:
            values = sorted(self._column(column).cast(pa.string()).unique().to_pylist())
            return {value: self.amount(self.where(column, value)) for value in values}

        return {
            **self.amount(),
            "splits": by("split"),
            "licences": by("licence"),
            "clusters": len(set(self.clusters.tolist()) - {-1}),
            "records": len(self.records.frames),
            "shards": len(self.shards),
            "bytes": sum(shard.bytes for shard in self.shards),
            "hash": self.hash,
        }


def write_store(
    folder: str | Path,
    clips: Iterable[tuple[ClipRow, Float[np.ndarray, "T 36"]]],
    config: StoreConfig | None = None,
    of: Callable[[], str] = str,
) -> Store:
    """Write clips (50 Hz `qpos`) as they come, none of them kept in memory; `store.json` is written last.

    A store that was there before is replaced when the new one is whole; of what was begun and not ended, by a full disk
    or a bad clip, nothing stays. `of` is asked behind the last clip for the hash of what the store was made of.
    """
    folder, config = Path(folder), config or StoreConfig()
    digest = hashlib.sha256()
    partial = folder / f"{_PARTIAL}{uuid.uuid4().hex[:8]}"
    try:
        for left in folder.glob(f"{_PARTIAL}*"):  # by a process that was killed
            shutil.rmtree(left)
        partial.mkdir(parents=True)
        with ShardWriter(partial, config.shard_bytes) as shards, IndexWriter(partial) as rows:
            for row, qpos in clips:
                if qpos.ndim != 2 or qpos.shape[1] != NQ or not len(qpos):
                    raise InputError(f"{row.clip}: qpos has shape {qpos.shape}; a store takes [frames, {NQ}].")
                digest.update(json.dumps(row.identity()).encode())
                for begin, frames in cut_evenly(len(qpos), config.frames_per_record):
                    shard, record, sha256 = shards.write(qpos[begin : begin + frames])
                    rows.add(row, begin, frames, shard, record, sha256)
                    digest.update(sha256)
        manifest = {
            "version": _VERSION,
            "hash": digest.hexdigest(),
            "of": of(),
            "rate_hz": CONTROL_RATE_HZ,
            "columns": NQ,
            "config": asdict(config),
            "shards": [asdict(shard) for shard in shards.shards],
        }
        write_json(partial / _MANIFEST, manifest)
        _replace(folder, partial)
    except OSError as error:
        sentence = told(error, folder, "writing")
        if sentence is not None:
            raise sentence from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing was there and nothing came
    return open_store(folder)


def _replace(folder: Path, partial: Path) -> None:
    """Put a whole store in the place of the one there, whose manifest goes first and comes last."""
    for old in (folder / _MANIFEST, *folder.glob("qpos-*.array_record")):
        old.unlink(missing_ok=True)
    for new in sorted(partial.iterdir(), key=lambda path: path.name == _MANIFEST):
        new.replace(folder / new.name)


def is_store(folder: str | Path) -> bool:
    """Whether a finished store lies in the folder."""
    return (Path(folder) / _MANIFEST).is_file()


def open_store(folder: str | Path) -> Store:
    """The store in a folder; a missing, damaged or shortened one raises `InputError`."""
    folder = Path(folder)
    path = folder / _MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no corpus here ({_MANIFEST} is missing); build one with `scaling motions import`.")
    try:
        manifest = json.loads(path.read_text())
        store = Store(folder, tuple(Shard(**shard) for shard in manifest["shards"]), manifest["hash"], manifest["of"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable store ({error}); {REMEDY}.") from None
    for shard in store.shards:
        check_size(folder, shard)
    return store


def verify_store(store: Store) -> None:
    """Read every record; raises `InputError` where one does not have its SHA-256."""
    for _ in store.stream():
        pass


def set_clusters(store: Store, labels: Mapping[str, int]) -> Store:
    """The same frames with the study's fixed clustering in the index, by name of the clip."""
    missing = sorted(set(store.texts("clip")) - labels.keys())
    if missing:
        raise InputError(
            f"{store.folder}: the labels have none for {missing[0]!r}, one of {len(missing)}; cluster this very corpus."
        )
    index.set_clusters(store.folder, dict(labels))
    return open_store(store.folder)
