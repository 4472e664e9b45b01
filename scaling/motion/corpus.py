"""The corpus: segments of 50 Hz `qpos` packed end to end, their takes, groups, families and splits."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.errors import InputError
from scaling.motion.arms import FRACTIONS, nested_prefixes, stratified_order
from scaling.motion.clip import CONTROL_RATE_HZ, Motion, clean, resample
from scaling.motion.deal import split_groups
from scaling.motion.segment import SPLITS, SegmentConfig, cut
from scaling.motion.spool import Spool
from scaling.record.hashing import RowsHash, content_hash

__all__ = ["FRACTIONS", "Corpus", "CorpusConfig", "Segment", "build_corpus", "nested_arms"]

COLUMNS = ("names", "takes", "groups", "families", "splits", "licences", "origins")


@dataclass(frozen=True)
class CorpusConfig:
    """How clips become a corpus: segment lengths, shares of the frames held out, and the seed of the split."""

    segments: SegmentConfig = field(default_factory=SegmentConfig)
    val: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise ValueError(f"held-out shares val {self.val} and test {self.test} must leave something to train on")


@dataclass(frozen=True)
class Segment:
    """One segment with its entry in each of `COLUMNS`."""

    qpos: Float[np.ndarray, "T 36"]
    name: str
    take: str
    group: str
    family: str
    split: str
    licence: str
    origin: str = ""

    def entries(self) -> tuple[str, ...]:
        """In the order of `COLUMNS`."""
        return (self.name, self.take, self.group, self.family, self.split, self.licence, self.origin)


class CorpusHash:
    """The content hash of a corpus whose segments are told one after the other; only its table stays in memory."""

    def __init__(self) -> None:
        self.length: list[int] = []
        self.table: list[tuple[str, ...]] = []
        self._qpos = RowsHash()

    def update(self, segment: Segment) -> None:
        """The next segment."""
        self._qpos.update(np.asarray(segment.qpos, np.float32))
        self.length.append(len(segment.qpos))
        self.table.append(segment.entries())

    def hexdigest(self) -> str:
        """The hash; a corpus of unique segments has no column of origins, and so the hash that it always had."""
        columns = dict(zip(COLUMNS, (tuple(column) for column in zip(*self.table, strict=True)), strict=True))
        if not any(columns["origins"]):
            del columns["origins"]
        length = np.array(self.length, np.int32)
        return content_hash({"qpos": self._qpos, "start": starts(length), "length": length, **columns})


def starts(length: Int[np.ndarray, "S"]) -> Int[np.ndarray, "S"]:
    """First frame of each segment where they lie end to end, of 64 bits where 32 do not suffice."""
    edges = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])
    return edges[:-1].astype(np.int32 if edges[-1] < 1 << 31 else np.int64)


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

    def segments(self) -> Iterator[Segment]:
        """Every segment with its entries; frames are views."""
        for index, entries in enumerate(zip(*(getattr(self, column) for column in COLUMNS), strict=True)):
            yield Segment(self.segment(index), *entries)

    def select(self, indices: Int[np.ndarray, "n"]) -> "Corpus":
        """The corpus of these segments alone, on the same frames: nothing is copied."""
        columns: dict[str, Any] = {
            column: tuple(getattr(self, column)[index] for index in indices) for column in COLUMNS
        }
        return replace(self, start=self.start[indices], length=self.length[indices], **columns)

    def subset(self, indices: Int[np.ndarray, "n"]) -> "Corpus":
        """The corpus of these segments alone, packed anew; all of them give the corpus itself."""
        if len(indices) == len(self):
            return self
        return pack(self.select(indices).segments(), self.refused, self.config)

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
        found = CorpusHash()
        for segment in self.segments():
            found.update(segment)
        return found.hexdigest()

    def save(self, folder: str | Path) -> Path:
        """Write the store and, last, `corpus.json`; returns the folder."""
        from scaling.motion.store.export import write_corpus  # PyArrow: a base install has no stores

        write_corpus(folder, self.segments(), self.refused, self.config)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Corpus":
        """The corpus in a folder, its frames mapped into memory; missing or damaged files raise `InputError`."""
        if not is_corpus(folder):
            raise InputError(
                f"{folder}: no corpus here (store.json is missing); build one with `scaling motions import`."
            )
        from scaling.motion.store.export import load_corpus

        return load_corpus(folder)


def is_corpus(path: str | Path) -> bool:
    """Whether a path is the folder of a corpus or of a store, and not one of motion files."""
    return corpus_file(path) is not None


def corpus_file(folder: str | Path) -> Path | None:
    """The file that says what a corpus holds, by hashes; None if there is none."""
    files = (Path(folder) / name for name in ("store.json", "store/store.json"))
    return next((file for file in files if file.is_file()), None)


def pack(segments: Iterable[Segment], refused: dict[str, str], config: dict) -> Corpus:
    """The corpus of these segments in memory, end to end."""
    kept = list(segments)
    length = np.array([len(segment.qpos) for segment in kept], np.int32)
    columns: dict[str, Any] = dict(zip(COLUMNS, zip(*(one.entries() for one in kept), strict=True), strict=True))
    qpos = np.concatenate([np.asarray(segment.qpos, np.float32) for segment in kept])
    return Corpus(qpos, starts(length), length, **columns, refused=refused, config=config)


def build_corpus(
    motions: Sequence[Motion], config: CorpusConfig | None = None, scratch: str | Path | None = None
) -> Corpus:
    """Resample to 50 Hz, cut, and split by recording group; clips that cannot be used are listed in `refused`.

    The frames wait in a file without a name in `scratch`, mapped into memory: one clip at a time is in it.
    """
    config = config or CorpusConfig()
    doubles = sorted(name for name, count in Counter(motion.name for motion in motions).items() if count > 1)
    if doubles:
        raise InputError(f"two clips are named {doubles[0]!r}; give every clip a name of its own.")
    spool = Spool(np.float32, scratch)
    kept: list[tuple[Motion, list[tuple[int, int]]]] = []
    refused: dict[str, str] = {}
    for motion in motions:
        try:
            steady = resample(clean(motion), CONTROL_RATE_HZ)
            pieces = cut(steady.qpos, CONTROL_RATE_HZ, config.segments)
        except InputError as error:
            refused[motion.name] = str(error)
            continue
        spool.add(steady.qpos)
        kept.append((motion, pieces))
    if not kept:
        example = next(iter(refused.items()), None)
        reason = f"; {example[0]}: {example[1]}" if example else "; give at least one motion."
        raise InputError(f"none of {len(motions)} clips can be used{reason}")
    rows = [(motion, number, size) for motion, pieces in kept for number, (_, size) in enumerate(pieces)]
    split = split_groups(
        [motion.group for motion, _, _ in rows],
        [motion.family for motion, _, _ in rows],
        [size for _, _, size in rows],
        val=config.val,
        test=config.test,
        seed=config.seed,
    )
    length = np.array([size for _, _, size in rows], dtype=np.int32)
    return Corpus(
        qpos=spool.frames(),
        start=starts(length),
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
