"""The corpus: segments of 50 Hz `qpos` packed end to end, their takes, groups, families and splits; save and load."""

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.errors import InputError
from scaling.motion.arms import FRACTIONS, nested_prefixes, stratified_order
from scaling.motion.clip import CONTROL_RATE_HZ, Motion, clean, resample
from scaling.motion.native import save_npz
from scaling.motion.segment import SPLITS, SegmentConfig, cut, split_groups
from scaling.record.files import write_json
from scaling.record.hashing import content_hash

__all__ = ["FRACTIONS", "Corpus", "CorpusConfig", "build_corpus", "nested_arms"]

_VERSION = 1
_ARRAYS, _TABLE = "corpus.npz", "corpus.json"
_COLUMNS = ("names", "takes", "groups", "families", "splits", "licences")
_ORIGINS = "origins"


@dataclass(frozen=True)
class CorpusConfig:
    """How clips become a corpus: segment lengths, shares of recording groups held out, and the seed of the split."""

    segments: SegmentConfig = field(default_factory=SegmentConfig)
    val: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise ValueError(f"held-out shares val {self.val} and test {self.test} must leave something to train on")


@dataclass(frozen=True)
class Corpus:
    """Segment s is `qpos[start[s] : start[s] + length[s]]` (float32, 50 Hz); the columns run over segments.

    `refused` says which clips did not make it, and why. `origins` names the segment that an augmented one was made of,
    "" for those that are unique; left out, all are.
    """

    qpos: Float[np.ndarray, "N 36"]
    start: Int[np.ndarray, "S"]
    length: Int[np.ndarray, "S"]
    names: tuple[str, ...]
    takes: tuple[str, ...]
    groups: tuple[str, ...]
    families: tuple[str, ...]
    splits: tuple[str, ...]
    licences: tuple[str, ...]
    refused: dict[str, str] = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    origins: tuple[str, ...] = ()

    rate_hz = CONTROL_RATE_HZ

    def __post_init__(self) -> None:
        object.__setattr__(self, "origins", self.origins or ("",) * len(self.start))

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def unique(self) -> Bool[np.ndarray, "S"]:
        """Segments that were not made of another one."""
        return np.array([not origin for origin in self.origins], bool)

    def segment(self, index: int) -> Float[np.ndarray, "T 36"]:
        """`qpos` of one segment (a view)."""
        begin = int(self.start[index])
        return self.qpos[begin : begin + int(self.length[index])]

    def indices(self, split: str) -> Int[np.ndarray, "n"]:
        """Segments of a split (one of `SPLITS`), augmented ones included."""
        if split not in SPLITS:
            raise InputError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
        return np.flatnonzero(np.array(self.splits) == split)

    def subset(self, indices: Int[np.ndarray, "n"]) -> "Corpus":
        """The corpus of these segments alone, packed anew; all of them give the corpus itself."""
        if len(indices) == len(self):
            return self
        length = self.length[indices]
        columns: dict[str, Any] = {
            column: tuple(getattr(self, column)[index] for index in indices) for column in (*_COLUMNS, _ORIGINS)
        }
        return replace(
            self,
            qpos=np.concatenate([self.segment(int(index)) for index in indices]),
            start=np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.int32),
            length=length,
            **columns,
        )

    def unique_indices(self, split: str) -> Int[np.ndarray, "n"]:
        """Segments of a split that were not made of another one."""
        indices = self.indices(split)
        return indices[self.unique[indices]]

    def with_copies(self, indices: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
        """Some segments and everything that was made of them, in rising order."""
        chosen = {self.names[index] for index in indices}
        copies = [index for index in np.flatnonzero(~self.unique) if self.origins[index] in chosen]
        return np.sort(np.concatenate([indices, np.array(copies, dtype=indices.dtype)]))

    def frames(self, indices: Int[np.ndarray, "n"] | None = None) -> int:
        """Unique frames in some segments (default: all): those before augmentation."""
        return int((self.length * self.unique)[slice(None) if indices is None else indices].sum())

    def augmented_frames(self, indices: Int[np.ndarray, "n"] | None = None) -> int:
        """Frames that augmentation added, in some segments (default: all)."""
        return int((self.length * ~self.unique)[slice(None) if indices is None else indices].sum())

    def hours(self, indices: Int[np.ndarray, "n"] | None = None) -> float:
        """Unique hours in some segments (default: all)."""
        return self.frames(indices) / self.rate_hz / 3600.0

    @cached_property
    def content_hash(self) -> str:
        """16 hex digits over the frames and the table: the same corpus, wherever it was built, has the same hash."""
        columns = self._columns()
        return content_hash({"qpos": self.qpos, "start": self.start, "length": self.length, **columns})

    def _columns(self) -> dict[str, tuple[str, ...]]:
        """The table's columns; a corpus of unique segments has no column of origins, and so the hash it always had."""
        names = _COLUMNS if self.unique.all() else (*_COLUMNS, _ORIGINS)
        return {column: getattr(self, column) for column in names}

    def save(self, folder: str | Path) -> Path:
        """Write `corpus.npz` and, last, `corpus.json`; returns the folder."""
        folder = Path(folder)
        table = {column: list(values) for column, values in self._columns().items()}
        summary = {
            "version": _VERSION,
            "hash": self.content_hash,
            "rate_hz": self.rate_hz,
            "segments": len(self),
            "frames": self.frames(),
            "augmented_frames": self.augmented_frames(),
            "hours": self.hours(),
            "frames_by_split": {split: self.frames(self.indices(split)) for split in SPLITS},
        }
        record = {**summary, "config": self.config, "refused": self.refused, "table": table}
        text = np.frombuffer(json.dumps(record, indent=1).encode(), dtype=np.uint8)
        save_npz(folder / _ARRAYS, qpos=self.qpos, start=self.start, length=self.length, record=text)
        write_json(folder / _TABLE, record)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Corpus":
        """The corpus in a folder; missing, damaged or altered files raise `InputError`.

        A folder with nothing but a store gives a corpus whose frames are mapped into memory and not read.
        """
        path = Path(folder) / _ARRAYS
        if not path.is_file() and is_corpus(folder):
            from scaling.motion.store.export import mapped_corpus, store_of  # PyArrow: a base install has no stores

            return mapped_corpus(store_of(folder))
        if not path.is_file():
            raise InputError(
                f"{folder}: no corpus here ({_ARRAYS} is missing); build one with `scaling motions import`."
            )
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
                record = json.loads(data["record"].tobytes())
                arrays = {key: data[key] for key in ("qpos", "start", "length")}
            table = {_ORIGINS: (), **record["table"]}
            columns = {column: tuple(table[column]) for column in (*_COLUMNS, _ORIGINS)}
            fields: dict[str, Any] = {**arrays, **columns, "refused": record["refused"], "config": record["config"]}
            corpus = cls(**fields)
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: not a readable corpus ({error}); build it again.") from None
        if corpus.content_hash != record["hash"]:
            raise InputError(f"{path}: the content does not match its hash {record['hash']}; build it again.")
        return corpus


def is_corpus(path: str | Path) -> bool:
    """Whether a path is the folder of a corpus or of a store, and not one of motion files."""
    return corpus_file(path) is not None


def corpus_file(folder: str | Path) -> Path | None:
    """The file that says what a corpus holds (its bytes, or for a store alone their hashes); None if there is none."""
    files = (Path(folder) / name for name in (_ARRAYS, "store.json", "store/store.json"))
    return next((file for file in files if file.is_file()), None)


def build_corpus(motions: Sequence[Motion], config: CorpusConfig | None = None) -> Corpus:
    """Resample to 50 Hz, cut, and split by recording group; clips that cannot be used are listed in `refused`."""
    config = config or CorpusConfig()
    doubles = sorted({motion.name for motion in motions if sum(other.name == motion.name for other in motions) > 1})
    if doubles:
        raise InputError(f"two clips are named {doubles[0]!r}; give every clip a name of its own.")
    kept: list[tuple[Motion, list[tuple[int, int]]]] = []
    refused: dict[str, str] = {}
    for motion in motions:
        try:
            steady = resample(clean(motion), CONTROL_RATE_HZ)
            kept.append((steady, cut(steady.qpos, CONTROL_RATE_HZ, config.segments)))
        except InputError as error:
            refused[motion.name] = str(error)
    if not kept:
        example = next(iter(refused.items()), None)
        reason = f"; {example[0]}: {example[1]}" if example else "; give at least one motion."
        raise InputError(f"none of {len(motions)} clips can be used{reason}")
    split = split_groups(
        [motion.group for motion, _ in kept],
        [motion.family for motion, _ in kept],
        val=config.val,
        test=config.test,
        seed=config.seed,
    )
    rows = [(motion, number, piece) for motion, pieces in kept for number, piece in enumerate(pieces)]
    length = np.array([size for _, _, (_, size) in rows], dtype=np.int32)
    return Corpus(
        qpos=np.concatenate([motion.qpos.astype(np.float32) for motion, _ in kept]),
        start=np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.int32),
        length=length,
        names=tuple(f"{motion.name}/{number:03d}" for motion, number, _ in rows),
        takes=tuple(motion.name for motion, _, _ in rows),
        groups=tuple(motion.group for motion, _, _ in rows),
        families=tuple(motion.family for motion, _, _ in rows),
        splits=tuple(split[motion.group] for motion, _, _ in rows),
        licences=tuple(motion.licence for motion, _, _ in rows),
        refused=refused,
        config=asdict(config),
    )


def nested_arms(
    corpus: Corpus,
    labels: Int[np.ndarray, "S"],
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    order: Int[np.ndarray, "n"] | None = None,
) -> dict[float, Int[np.ndarray, "m"]]:
    """Fraction -> training segments: each arm holds the smaller ones, by unique frames, stratified by `labels` [S].

    Another `order` of the unique training segments (positions among them) makes another choice. What was made of a
    segment is in the arms that the segment is in. Every arm has at least one segment more than the one below it; too
    few training segments are an `InputError`.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(corpus),):
        raise InputError(f"labels of shape {labels.shape} do not fit {len(corpus)} segments; give one a segment.")
    unique = corpus.unique_indices("train")
    order = stratified_order(labels[unique], seed) if order is None else order
    arms = nested_prefixes(order, corpus.length[unique].astype(np.float64), fractions)
    return {fraction: corpus.with_copies(unique[positions]) for fraction, positions in arms.items()}
