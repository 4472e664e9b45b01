"""All rounds' sequences in one bounded store on the device: what no longer fits leaves evenly."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scaling.distill.rollout import Sequences
from scaling.errors import InputError

Aggregation = Literal["all", "on_policy"]


class Batch(NamedTuple):
    """Sequences to learn from, per run."""

    obs: Float[Array | np.ndarray, "R B T obs"]
    start: Bool[Array | np.ndarray, "R B T"]
    label: Float[Array | np.ndarray, "R B T 29"]


class Buffer:
    """At most `most` sequences for each run, and at most `limit_mb` of them, on the device.

    "all": every sequence draws a priority once and the smallest stay, so the buffer is at any time an even sample of
    all rounds, and the same one however often training was resumed. "on_policy": the latest round alone stays. A place
    that is given up is written over, so memory does not grow.
    """

    def __init__(self, limit_mb: float, most: int, aggregation: Aggregation = "all", seed: int = 0) -> None:
        self._limit = limit_mb * 2**20
        self._most = most
        self._all = aggregation == "all"
        self._seed = seed
        self._rounds = 0
        self._priority = np.zeros(0)
        self._places = np.zeros(0, int)  # where the sequences stand, in the order in which they came
        self._held: Batch | None = None

    def __len__(self) -> int:
        """Sequences held for each run."""
        return len(self._priority)

    @property
    def rounds(self) -> int:
        """Rounds added so far."""
        return self._rounds

    def add(self, sequences: Sequences | Batch) -> None:
        """Take in one round. Raises InputError where not even one sequence fits into the limit."""
        new = Batch(sequences.obs, sequences.start, sequences.label)
        room = self._room(new)
        rng = np.random.default_rng([self._seed, self._rounds])
        fresh = rng.random(new.obs.shape[1])
        old = len(self) if self._all else 0
        priority = np.concatenate([self._priority[:old], fresh])
        keep = np.sort(np.argsort(priority, kind="stable")[:room])
        staying = self._places[keep[keep < old]]
        coming = keep[keep >= old] - old
        places = np.setdiff1d(np.arange(room), staying)[: len(coming)]
        if self._held is None:
            self._held = Batch(*(jnp.zeros((x.shape[0], room, *x.shape[2:]), x.dtype) for x in new))
        self._held = _write(self._held, Batch(*(x[:, coming] for x in new)), places)
        self._priority, self._places = priority[keep], np.concatenate([staying, places])
        self._rounds += 1

    def take(self, index: Int[np.ndarray, "R B"]) -> Batch:
        """The sequences that each run asks for."""
        if self._held is None:
            raise ValueError("nothing has been added to the buffer")
        batch: Batch = _read(self._held, self._places[index])
        return batch

    def _room(self, new: Batch) -> int:
        size = sum(np.dtype(x.dtype).itemsize * int(np.prod(x.shape[2:])) for x in new)
        if size > self._limit:
            raise InputError(
                f"dagger.buffer_mb leaves {self._limit / 2**20:.2g} MB to a run, and a sequence of {new.obs.shape[2]} "
                f"frames takes {size / 2**20:.2g} MB; raise dagger.buffer_mb or lower dagger.steps"
            )
        return min(self._most, int(self._limit // size))


def _scatter(held: Batch, fresh: Any, places: Int[Array, "n"]) -> Batch:
    return Batch(*(jnp.asarray(x).at[:, places].set(y) for x, y in zip(held, fresh, strict=True)))


def _gather(held: Batch, index: Int[Array, "R B"]) -> Batch:
    rows = jnp.arange(index.shape[0])[:, None]
    return Batch(*(x[rows, index] for x in held))


_write = jax.jit(_scatter, donate_argnums=0)
_read = jax.jit(_gather)
