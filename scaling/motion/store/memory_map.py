"""The fast path: all frames of a store in one flat file, made from the shards and mapped into memory, not read."""

import json
import mmap
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from scaling.motion.store.shards import FRAME_BYTES
from scaling.motion.store.store import Store
from scaling.record.files import told, write_json
from scaling.robot.g1 import NQ

_SHARE = 0.5  # of the machine's memory that a flat file may take in the page cache
_FRAMES, _STAMP = "frames.f32", "frames.json"


class MappedFrames:
    """The frames of a store, [N, 36] float32; the file is made when it is absent or of another content."""

    def __init__(self, store: Store, folder: str | Path | None = None) -> None:
        folder = Path(folder or store.folder)
        path = folder / _FRAMES
        if not _fresh(store, folder):
            _make(store, folder)
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        # What fits into memory is read ahead as a whole; of what does not, nothing beyond the windows asked for.
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        mapped.madvise(mmap.MADV_WILLNEED if len(mapped) < _SHARE * memory else mmap.MADV_RANDOM)
        self.qpos: Float[np.ndarray, "N 36"] = np.frombuffer(mapped, "<f4").reshape(-1, NQ)

    def take(self, first: Int[np.ndarray, "b"], frames: int) -> Float[np.ndarray, "b t 36"]:
        """Windows of `frames` frames from these first ones on, copied."""
        # Rows that overlap: one copy of 144 B a frame for each window, without an index for every frame.
        count = len(self.qpos) - frames + 1
        shape = (max(count, 0), frames * NQ)
        windows = np.lib.stride_tricks.as_strided(self.qpos, shape, (FRAME_BYTES, 4), writeable=False)
        return windows[first].reshape(len(first), frames, NQ)


def _fresh(store: Store, folder: Path) -> bool:
    """Whether the flat file is of this store and whole."""
    try:
        stamp = json.loads((folder / _STAMP).read_text())
        return stamp == {"hash": store.hash} and (folder / _FRAMES).stat().st_size == store.frames * FRAME_BYTES
    except (OSError, ValueError):
        return False


def _make(store: Store, folder: Path) -> None:
    """Write the flat file, verifying every record on the way, and then its stamp."""
    partial = folder / f".{_FRAMES}.partial-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _STAMP).unlink(missing_ok=True)
        with partial.open("wb") as out:
            for chunk in store.stream():
                out.write(chunk.data)
        partial.replace(folder / _FRAMES)
        write_json(folder / _STAMP, {"hash": store.hash})
    except OSError as error:
        sentence = told(error, folder / _FRAMES, "writing")
        if sentence is not None:
            raise sentence from None
        raise
    finally:
        partial.unlink(missing_ok=True)
