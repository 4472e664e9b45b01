"""Batches of windows by Grain, from the memory map or from the shards: resumed anywhere, split over any hosts."""

from dataclasses import dataclass
from typing import Protocol, SupportsIndex

import grain
import numpy as np
from jaxtyping import Float, Int

from scaling.errors import InputError
from scaling.motion.store.store import Store
from scaling.motion.store.windows import Windows
from scaling.robot.g1 import NQ

_AHEAD = 4  # batches
_READ_AT_ONCE = 128  # windows; about as many records of up to 74 kB


class Frames(Protocol):
    """Whatever hands out windows by their first frames: `MappedFrames` or `ShardFrames`."""

    def take(self, first: Int[np.ndarray, "b"], frames: int) -> Float[np.ndarray, "b t 36"]:
        """Windows of `frames` frames from these first ones on."""


class ShardFrames:
    """Windows read from the shards themselves, every record verified; for disks too small for the flat file."""

    def __init__(self, store: Store) -> None:
        self._records = store.records
        self._reader = store.reader()

    def take(self, first: Int[np.ndarray, "b"], frames: int) -> Float[np.ndarray, "b t 36"]:
        """Windows of `frames` frames from these first ones on, some at a time, so that few records are in memory."""
        found = np.empty((len(first), frames, NQ), np.float32)
        for begin in range(0, len(first), _READ_AT_ONCE):
            some = slice(begin, begin + _READ_AT_ONCE)
            found[some] = self._take(first[some], frames)
        return found

    def _take(self, first: Int[np.ndarray, "b"], frames: int) -> Float[np.ndarray, "b t 36"]:
        """Each record that these windows touch is read once."""
        start, length = self._records.start, self._records.frames
        wanted = first[:, None] + np.arange(frames)
        record = np.searchsorted(start, wanted, side="right") - 1
        touched, place = np.unique(record, return_inverse=True)
        rows = np.frombuffer(b"".join(self._reader.read(touched.tolist())), "<f4").reshape(-1, NQ)
        offset = np.concatenate([[0], np.cumsum(length[touched])[:-1]]) - start[touched]
        return rows[offset[place.reshape(wanted.shape)] + wanted]


@dataclass(frozen=True)
class WindowSource:
    """A Grain data source: entry `step` is this host's share of that step's batch, {"qpos": [b, t, 36], "first": [b]}.

    `first` is each window's first frame, counted over the store.
    """

    frames: Frames
    windows: Windows
    steps: int
    host: int = 0
    hosts: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps: train for at least one.")
        self.windows.first_frames(0, self.host, self.hosts)  # says what does not fit

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: SupportsIndex) -> dict[str, np.ndarray]:
        first = self.windows.first_frames(step.__index__(), self.host, self.hosts)
        return {"qpos": self.frames.take(first, self.windows.config.frames), "first": first}


def batches(source: WindowSource, threads: int = 2) -> grain.DatasetIterator:
    """The steps in order, read ahead by threads; `get_state` and `set_state` resume it at any step."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(_AHEAD, threads))
    return iter(grain.MapDataset.source(source).to_iter_dataset(options))
