"""Who trains in which slot: experts enter in order, leave at wave boundaries, and the next takes the place."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

EMPTY = -1


@dataclass(frozen=True)
class WaveConfig:
    """How a bank is worked through. The defaults train all experts at once to the end of their budget.

    `slots` experts train at once (0: all; rounded up to the mesh's size). Every `boundary` iterations (0: a whole
    budget) experts that are done leave and the next take their place; done is who has spent the budget, or whose
    share of failing steps over the last iterations is below `leave_below` (0: nobody leaves early).
    """

    slots: int = 0
    boundary: int = 0
    leave_below: float = 0.0

    def __post_init__(self) -> None:
        if self.slots < 0 or self.boundary < 0:
            raise ValueError(f"slots {self.slots}, boundary {self.boundary}: at least 0")
        if not 0.0 <= self.leave_below < 1.0:
            raise ValueError(f"leave_below {self.leave_below}: a share of steps, at least 0 and below 1")


class Roster(NamedTuple):
    """The expert in each slot (-1: none) and which experts have left."""

    slots: Int[np.ndarray, "S"]
    left: Bool[np.ndarray, "K"]

    @property
    def busy(self) -> Bool[np.ndarray, "S"]:
        """The slots in which an expert trains."""
        return self.slots != EMPTY

    @property
    def experts(self) -> Int[np.ndarray, "S"]:
        """The expert of each slot, 0 for an empty one: a program of one shape needs somebody there."""
        return np.maximum(self.slots, 0)


def open_roster(experts: int, config: WaveConfig, devices: int = 1) -> Roster:
    """The first wave: experts 0 to the number of slots, a multiple of `devices`."""
    slots = min(config.slots or experts, experts)
    slots = -(-slots // devices) * devices
    ids = np.arange(slots)
    return Roster(np.where(ids < experts, ids, EMPTY).astype(np.int32), np.zeros(experts, bool))


def exchange(roster: Roster, leaving: Bool[np.ndarray, "S"]) -> tuple[Roster, Bool[np.ndarray, "S"]]:
    """The roster after those `leaving` have left, and the slots in which a new expert begins."""
    leaving = leaving & roster.busy
    left = roster.left.copy()
    left[roster.slots[leaving]] = True
    seen = left.copy()
    seen[roster.slots[roster.busy]] = True
    waiting = np.flatnonzero(~seen)
    free = np.flatnonzero(leaving)
    slots = roster.slots.copy()
    slots[free] = EMPTY
    entering = free[: len(waiting)]
    slots[entering] = waiting[: len(entering)]
    fresh = np.zeros(len(slots), bool)
    fresh[entering] = True
    return Roster(slots, left), fresh
