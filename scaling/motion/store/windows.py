"""Which windows a step trains on: a pure function of seed and step, the same for any number of hosts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from scaling.errors import InputError
from scaling.motion.store.shuffle import mix, permuted
from scaling.motion.store.store import LABEL_REMEDY, Store

_SLOTS = 1 << 16  # in which clusters take turns; a weight is kept to one part in so many


@dataclass(frozen=True)
class WindowConfig:
    """Frames in a window, windows in a global batch, and the seed of their order.

    `mixing` "windows" makes all windows equally likely, "clusters" all clusters (of the store's fixed clustering), and
    a mapping gives each cluster its weight (a cluster that it leaves out is not drawn from).
    """

    frames: int = 32
    batch: int = 256
    seed: int = 0
    mixing: str | Mapping[int, float] = "windows"

    def __post_init__(self) -> None:
        if self.frames < 1 or self.batch < 1 or self.seed < 0:
            raise ValueError(f"frames {self.frames}, batch {self.batch} and seed {self.seed}: at least 1, 1 and 0")
        if isinstance(self.mixing, str):
            if self.mixing not in ("windows", "clusters"):
                raise ValueError(f"mixing {self.mixing!r}: 'windows', 'clusters' or weights by cluster")
        elif not self.mixing or min(self.mixing.values()) <= 0 or not np.isfinite(sum(self.mixing.values())):
            raise ValueError(f"mixing {dict(self.mixing)}: weights must be positive, and at least one")


class Windows:
    """Windows of some clips of a store, in a random order without end.

    Every cluster is walked through in passes: a pass has each of its windows (one begins at every frame that leaves
    room within the clip) once, in an order of its own. Nothing is remembered from step to step.
    """

    def __init__(
        self,
        start: Int[np.ndarray, "C"],
        length: Int[np.ndarray, "C"],
        labels: Int[np.ndarray, "C"],
        config: WindowConfig,
    ) -> None:
        self.config = config
        rooms = np.asarray(length, np.int64) - config.frames + 1
        labels = np.zeros_like(rooms) if config.mixing == "windows" else np.asarray(labels)
        weights = (
            config.mixing if isinstance(config.mixing, Mapping) else dict.fromkeys(labels[rooms > 0].tolist(), 1.0)
        )
        if config.mixing == "clusters" and -1 in weights:
            raise InputError(f"clips without a cluster cannot be mixed by cluster; {LABEL_REMEDY}.")
        used = np.flatnonzero((rooms > 0) & np.isin(labels, list(weights)))
        empty = sorted(set(weights) - set(labels[used].tolist()))
        if empty or not len(used):
            of = f" in cluster {empty[0]}" if empty else ""
            raise InputError(
                f"no clip{of} is as long as a window of {config.frames} frames; give longer clips or shorter windows."
            )
        order = used[np.argsort(labels[used], kind="stable")]
        names, first = np.unique(labels[order], return_index=True)
        self._start = np.asarray(start, np.int64)[order]
        self._ends = np.cumsum(rooms[order])  # windows up to and with each clip
        edges = np.concatenate([self._ends - rooms[order], self._ends[-1:]])[[*first, len(order)]]
        self._base, self.sizes = edges[:-1], np.diff(edges)
        self._take_turns(np.array([weights[int(name)] for name in names]))

    def _take_turns(self, weights: np.ndarray) -> None:
        """Deal the slots to the clusters by weight, largest remainders first, in a random but fixed order."""
        share = weights / weights.sum() * _SLOTS
        quota = np.floor(share).astype(np.int64)
        quota[np.argsort(quota - share, kind="stable")[: _SLOTS - quota.sum()]] += 1
        if quota.min() == 0:
            raise InputError(f"a cluster's weight is below 1/{_SLOTS} of all; leave it out or raise it.")
        turns = np.repeat(np.arange(len(quota)), quota)
        self._turn = np.random.default_rng([self.config.seed, 5]).permutation(turns)
        ranks = np.empty(_SLOTS, np.int64)
        ranks[np.argsort(self._turn, kind="stable")] = np.concatenate([np.arange(count) for count in quota])
        self._rank, self._quota = ranks, quota

    def first_frames(self, step: int, host: int = 0, hosts: int = 1) -> Int[np.ndarray, "b"]:
        """First frame of each window of a host's share of a step's batch; the shares in order are the batch."""
        batch = self.config.batch
        if batch % hosts or not 0 <= host < hosts:
            raise InputError(f"host {host} of {hosts} cannot share a batch of {batch} evenly; change one of them.")
        share = batch // hosts
        draw = step * batch + host * share + np.arange(share)
        slot = draw % _SLOTS
        cluster = self._turn[slot]
        turn = draw // _SLOTS * self._quota[cluster] + self._rank[slot]
        size = self.sizes[cluster]
        seed = mix(np.full(share, self.config.seed, np.uint64))
        key = mix(mix(seed ^ cluster.astype(np.uint64)) ^ (turn // size).astype(np.uint64))
        place = permuted((turn % size).astype(np.uint64), size.astype(np.uint64), key).astype(np.int64)
        place += self._base[cluster]
        clip = np.searchsorted(self._ends, place, side="right")
        return self._start[clip] + self._room(clip) + place - self._ends[clip]

    def _room(self, clip: Int[np.ndarray, "b"]) -> Int[np.ndarray, "b"]:
        """How many windows these clips have."""
        return self._ends[clip] - np.where(clip > 0, self._ends[clip - 1], 0)


def windows_of(store: Store, config: WindowConfig, clips: Int[np.ndarray, "n"] | None = None) -> Windows:
    """The windows of some clips of a store (default: its training clips); clips shorter than a window have none."""
    if clips is None:
        clips = np.flatnonzero(store.where("split", "train"))
    records = store.records
    return Windows(records.clip_start[clips], records.clip_frames[clips], store.clusters[clips], config)
