"""A corpus in memory written out as a store, and the labels of a clustering read back for it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion import naming
from scaling.motion.corpus import Corpus
from scaling.motion.store.index import ClipRow
from scaling.motion.store.memory_map import MappedFrames
from scaling.motion.store.store import Store, StoreConfig, is_store, open_store, write_store

STORE = "store"  # the folder below a corpus
# Field of a corpus -> column of the index.
_COLUMNS = {
    "names": "clip",
    "takes": "take",
    "groups": "recording",
    "families": "family",
    "splits": "split",
    "licences": "licence",
    "origins": "origin",
}


@dataclass(frozen=True)
class Provenance:
    """Where a take came from and its quality score, None where it was not judged."""

    source: str = ""
    quality: float | None = None


def store_corpus(
    corpus: Corpus, takes: Mapping[str, Provenance], folder: str | Path, config: StoreConfig | None = None
) -> Store:
    """Write every segment of a corpus; `takes` says what is known of them by the name of their take."""

    def clips() -> Iterator[tuple[ClipRow, Float[np.ndarray, "T 36"]]]:
        for place, take in enumerate(corpus.takes):
            known = takes.get(take, Provenance())
            row = ClipRow(
                **{column: getattr(corpus, field)[place] for field, column in _COLUMNS.items()},
                source=known.source,
                subject=naming.subject(take),
                quality=known.quality,
                rate_hz=corpus.rate_hz,
            )
            yield row, corpus.segment(place)

    return write_store(folder, clips(), config, of=corpus.content_hash)


def mapped_corpus(store: Store) -> Corpus:
    """The store as a corpus: its table in memory, its frames mapped (the flat file is made if it is absent)."""
    whole = np.int32 if store.frames < 1 << 31 else np.int64
    table: dict[str, Any] = {field: tuple(store.texts(column)) for field, column in _COLUMNS.items()}
    return Corpus(
        qpos=MappedFrames(store).qpos,
        start=store.records.clip_start.astype(whole),
        length=store.records.clip_frames.astype(np.int32),
        **table,
    )


def store_of(folder: str | Path) -> Store:
    """The store of a corpus's folder (or that store itself), written if it is absent or of another corpus."""
    folder = Path(folder)
    if is_store(folder):
        return open_store(folder)
    below = folder / STORE
    if is_store(below) and not (folder / "corpus.npz").is_file():
        return open_store(below)
    corpus = Corpus.load(folder)
    if is_store(below) and (found := open_store(below)).of == corpus.content_hash:
        return found
    return store_corpus(corpus, {}, below)


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
