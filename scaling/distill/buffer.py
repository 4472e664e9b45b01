"""All rounds' sequences in one bounded store: DAgger aggregates, and what no longer fits leaves evenly."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.distill.rollout import Sequences


class Batch(NamedTuple):
    """Sequences to learn from, per run."""

    obs: Float[np.ndarray, "R B T obs"]
    start: Bool[np.ndarray, "R B T"]
    label: Float[np.ndarray, "R B T 29"]


class Buffer:
    """Sequences of all rounds, in host memory of at most `limit_mb` for each run.

    Every sequence draws a priority once and the smallest stay: the buffer is at any time an even sample of all rounds,
    and the same one however often training was resumed.
    """

    def __init__(self, limit_mb: float, seed: int = 0) -> None:
        self._limit = limit_mb * 2**20
        self._seed = seed
        self._rounds = 0
        self._priority = np.zeros(0)
        self._held: Batch | None = None

    def __len__(self) -> int:
        """Sequences held for each run."""
        return len(self._priority)

    @property
    def rounds(self) -> int:
        """Rounds added so far."""
        return self._rounds

    def add(self, sequences: Sequences | Batch) -> None:
        """Take in one round."""
        new = Batch(sequences.obs, sequences.start, sequences.label)
        rng = np.random.default_rng([self._seed, self._rounds])
        priority = np.concatenate([self._priority, rng.random(new.obs.shape[1])])
        size = sum(x[:, 0].nbytes for x in new)
        keep = np.arange(len(priority))
        if len(priority) * size > self._limit:
            most = max(1, int(self._limit // size))
            keep = np.sort(np.argsort(priority, kind="stable")[:most])
        old, held = len(self), self._held
        parts = []
        for place, fresh in enumerate(new):
            kept = fresh[:, keep[keep >= old] - old]
            parts.append(kept if held is None else np.concatenate([held[place][:, keep[keep < old]], kept], axis=1))
        self._held = Batch(*parts)
        self._priority = priority[keep]
        self._rounds += 1

    def take(self, index: Int[np.ndarray, "R B"]) -> Batch:
        """The sequences that each run asks for."""
        if self._held is None:
            raise ValueError("nothing has been added to the buffer")
        rows = np.arange(len(index))[:, None]
        return Batch(*(values[rows, index] for values in self._held))
