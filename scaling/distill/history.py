"""Losses on the way: arrays of fixed size over the points of a training, so that a checkpoint restores them exactly."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from scaling.distill.config import DaggerConfig
from scaling.distill.loss import over_families

_LOSSES = ("val_loss", "val_loss_own")
_SINGLE = ("train_loss", "fail_rate", "val_auxiliary")
ACTING, LEARNING = 0, 1  # places in `seconds`


def points(config: DaggerConfig) -> list[tuple[int, int, bool]]:
    """(update, round, last of its round) at which losses are taken, every `val_every` updates and at its end."""
    found = []
    for round_ in range(config.rounds):
        first, last = config.updates_until(round_), config.updates_until(round_ + 1)
        marks = [*range(first + config.val_every, last, config.val_every), last]
        found += [(mark, round_, mark == last) for mark in marks]
    return found


class History:
    """Per point and run: mean training loss since the last point, validation losses by family; NaN is not measured.

    `lost` are the updates between which a run's loss stopped being finite, `seconds` those that the whole group spent
    acting and learning.
    """

    def __init__(self, config: DaggerConfig, runs: int, families: tuple[str, ...]) -> None:
        self.points = points(config)
        self.families = families
        shape = (len(self.points), runs)
        self.arrays: dict[str, np.ndarray] = {
            **{name: np.full(shape, np.nan, np.float32) for name in _SINGLE},
            **{name: np.full((*shape, len(families)), np.nan, np.float32) for name in _LOSSES},
            "lost": np.full((runs, 2), np.nan, np.float32),
            "seconds": np.zeros(2, np.float64),
        }

    def begun(self, updates: int) -> int:
        """The update of the last point before or at this one, 0 before the first."""
        return max((update for update, _, _ in self.points if update <= updates), default=0)

    def of_round(self, round_: int) -> list[tuple[int, tuple[int, int, bool]]]:
        """Number and content of a round's points."""
        return [(number, point) for number, point in enumerate(self.points) if point[1] == round_]

    def end_of(self, round_: int) -> int:
        """Number of a round's last point."""
        return self.of_round(round_)[-1][0]

    def put(self, point: int, alive: Bool[np.ndarray, "R"], **values: Float[np.ndarray, "R *f"]) -> None:
        """Values of one point; those of runs that have stopped stay missing."""
        for name, value in values.items():
            self.arrays[name][point][alive] = np.asarray(value)[alive]

    def lose(self, alive: Bool[np.ndarray, "R"], first: int, last: int) -> list[int]:
        """Runs that stopped since the last call, between updates `first` and `last`."""
        new = np.flatnonzero(~alive & np.isnan(self.arrays["lost"][:, 0]))
        self.arrays["lost"][new] = first, last
        return [int(run) for run in new]

    def status(self, run: int) -> str:
        """ "finished", or when the run's loss stopped being finite."""
        first, last = self.arrays["lost"][run]
        return "finished" if np.isnan(first) else f"diverged between updates {first:.0f} and {last:.0f}"

    def curve(self, run: int) -> list[dict[str, Any]]:
        """One entry a point: update, round, losses (None where not measured)."""
        rows = []
        for point, (update, round_, _) in enumerate(self.points):
            row: dict[str, Any] = {"update": update, "round": round_}
            row |= {name: _known(self.arrays[name][point, run]) for name in _SINGLE}
            row |= {name: _known(over_families(self.arrays[name])[point, run]) for name in _LOSSES}
            rows.append(row)
        return rows

    def columns(self, run: int) -> dict[str, Any]:
        """Final and minimum of both losses, the update of the minimum, and the final losses of each family and of the
        second head.
        """
        found: dict[str, Any] = {"val_auxiliary": _known(self.arrays["val_auxiliary"][-1, run])}
        updates = np.array([update for update, _, _ in self.points])
        for name in _LOSSES:
            values = over_families(self.arrays[name])[:, run]
            known = np.isfinite(values)
            best = int(np.nanargmin(values)) if known.any() else None
            found[name] = _known(values[-1])
            found[f"{name}_min"] = None if best is None else _known(values[best])
            found[f"{name}_min_update"] = None if best is None else int(updates[best])
        for index, family in enumerate(self.families):
            found[f"val_loss_{family or 'unnamed'}"] = _known(self.arrays["val_loss"][-1, run, index])
        return found


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
