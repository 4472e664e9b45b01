"""A corpus written out as a store and read back, and the labels of a clustering for it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion import naming
from scaling.motion.clip import CONTROL_RATE_HZ
from scaling.motion.corpus import COLUMNS, Corpus, CorpusHash, Segment
from scaling.motion.segment import SPLITS
from scaling.motion.store.index import ClipRow
from scaling.motion.store.memory_map import MappedFrames
from scaling.motion.store.shards import StoreConfig
from scaling.motion.store.store import Store, is_store, open_store, write_store
from scaling.record.files import write_json

STORE = "store"  # the folder below a corpus
_VERSION = 2
_TABLE = "corpus.json"
# The columns of the index in the order of `corpus.COLUMNS`.
_INDEX = ("clip", "take", "recording", "family", "split", "licence", "origin")


@dataclass(frozen=True)
class Provenance:
    """Where a take came from and its quality score, None where it was not judged."""

    source: str = ""
    quality: float | None = None


def write_corpus(
    folder: str | Path,
    segments: Iterable[Segment],
    refused: Mapping[str, str],
    settings: Mapping[str, Any],
    takes: Mapping[str, Provenance] | None = None,
    config: StoreConfig | None = None,
    duplicates: Sequence[Sequence[str]] = (),
) -> Corpus:
    """Write segments as they come below `folder/store`, none of them kept in memory, and then `corpus.json`.

    `takes` says what is known of them by the name of their take; `duplicates` are sets of copies, the kept one first.
    Returns the corpus, its frames mapped.
    """
    folder, takes, told = Path(folder), takes or {}, CorpusHash()

    def clips() -> Iterator[tuple[ClipRow, Float[np.ndarray, "T 36"]]]:
        for segment in segments:
            told.update(segment)
            known = takes.get(segment.take, Provenance())
            entries: dict[str, Any] = dict(zip(_INDEX, segment.entries(), strict=True))
            row = ClipRow(
                **entries,
                source=known.source,
                subject=naming.subject(segment.take),
                quality=known.quality,
                rate_hz=CONTROL_RATE_HZ,
            )
            yield row, segment.qpos

    store = write_store(folder / STORE, clips(), config, of=told.hexdigest)
    corpus = mapped_corpus(store, refused, settings)
    frames = {split: corpus.frames(corpus.indices(split)) for split in SPLITS}
    summary = {
        "version": _VERSION,
        "hash": store.of,
        "rate_hz": corpus.rate_hz,
        "segments": len(corpus),
        "frames": corpus.frames(),
        "augmented_frames": corpus.augmented_frames(),
        "hours": corpus.hours(),
        "frames_by_split": frames,
    }
    left_out = {"refused": corpus.refused, "duplicates": [list(copies) for copies in duplicates]}
    write_json(folder / _TABLE, {**summary, "config": corpus.config, **left_out})
    return corpus


def mapped_corpus(
    store: Store, refused: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Corpus:
    """The store as a corpus: its table in memory, its frames mapped (the flat file is made if it is absent)."""
    whole = np.int32 if store.frames < 1 << 31 else np.int64
    table: dict[str, Any] = {field: tuple(store.texts(column)) for field, column in zip(COLUMNS, _INDEX, strict=True)}
    corpus = Corpus(
        qpos=MappedFrames(store).qpos,
        start=store.records.clip_start.astype(whole),
        length=store.records.clip_frames.astype(np.int32),
        **table,
        refused=dict(refused or {}),
        config=dict(settings or {}),
    )
    if store.of:
        corpus.__dict__["content_hash"] = store.of  # it was reckoned while the store was written
    return corpus


def load_corpus(folder: str | Path) -> Corpus:
    """The corpus in a folder (or of a store alone); what was refused and how it was built stand in `corpus.json`."""
    store, path = store_of(folder), Path(folder) / _TABLE
    if not path.is_file():
        return mapped_corpus(store)
    try:
        told = json.loads(path.read_text())
        of, refused, settings = told["hash"], dict(told["refused"]), dict(told["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable ({error}); build the corpus again.") from None
    if of != store.of:
        raise InputError(f"{path}: it is of the corpus {of}, but the store beside it is another; build it again.")
    return mapped_corpus(store, refused, settings)


def store_of(folder: str | Path) -> Store:
    """The store of a corpus's folder, or that store itself."""
    folder = Path(folder)
    below = folder / STORE
    return open_store(below if is_store(below) else folder)


def read_labels(path: str | Path) -> dict[str, int]:
    """Clip name -> cluster, from the JSON of `scaling motions cluster`; `InputError` for anything else."""
    try:
        labels = json.loads(Path(path).read_text())["labels"]
        return {str(name): int(label) for name, label in labels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path}: no labels here ({reason}); give the JSON of `scaling motions cluster` at one K."
        ) from None
