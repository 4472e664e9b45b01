"""The data path: Grain reads batches ahead, each a pure function of its update's number, so resuming is exact."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import grain
import numpy as np
from jaxtyping import Int

from scaling.distill.buffer import Batch, Buffer

_AHEAD = 4  # batches; each is in memory at once


class Stream:
    """Batches of one round's training: every run walks through its own permutations of the buffer, epoch by epoch."""

    def __init__(self, buffer: Buffer, seeds: Sequence[int], batch: int) -> None:
        self._buffer = buffer
        self._seeds = tuple(seeds)
        self._batch = batch
        self._size = len(buffer)
        self._order = lru_cache(maxsize=4)(self._permutations)

    def _permutations(self, epoch: int) -> Int[np.ndarray, "R n"]:
        rounds = self._buffer.rounds
        return np.stack([np.random.default_rng([seed, rounds, epoch]).permutation(self._size) for seed in self._seeds])

    def indices(self, position: int) -> Int[np.ndarray, "R B"]:
        """Sequences of the batch at `position` (0 is the round's first)."""
        flat = position * self._batch + np.arange(self._batch)
        epochs = flat // self._size
        columns = [self._order(int(epoch))[:, flat[epochs == epoch] % self._size] for epoch in np.unique(epochs)]
        return np.concatenate(columns, axis=1)

    def at(self, position: int) -> Batch:
        """The batch at `position`."""
        return self._buffer.take(self.indices(position))

    def batches(self, start: int, stop: int, threads: int) -> Iterator[Batch]:
        """The batches from position `start` to before `stop` in order, read ahead by Grain's threads."""
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(_AHEAD, threads))
        return iter(grain.MapDataset.range(start, stop).map(self.at).to_iter_dataset(options))
