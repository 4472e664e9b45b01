"""Approach 2 of Hoffmann et al. 2022: a parabola's minimum at each compute budget, and the exponent of the minima."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.laws.observations import Observations, levels

WIDTH = 0.1  # e-folds of compute that count as one budget
LEAST = 5  # distinct sizes that a parabola needs: two more than it has parameters
BUDGETS_LEAST = 3
SAME = 1e-9  # e-folds of size: nearer than this is the same size


@dataclass(frozen=True)
class IsoFlop:
    """`status` is converged, edge minimum, too few points or flat; the exponent is None unless converged."""

    status: str
    exponent: float | None
    standard_error: float | None
    interval: tuple[float, float] | None
    budgets: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready dict."""
        return {"status": self.status, "exponent": self.exponent, "standard_error": self.standard_error,
                "interval": None if self.interval is None else list(self.interval),
                "budgets": list(self.budgets)}  # fmt: skip


def groups(log_compute: Float[np.ndarray, " n"], size: Float[np.ndarray, " n"]) -> list[Bool[np.ndarray, " n"]]:
    """Rows of each budget: the fullest window of WIDTH first, until none has LEAST distinct sizes."""
    left = np.ones(len(log_compute), bool)
    found = []
    while left.any():
        starts = np.unique(log_compute[left])
        windows = [left & (log_compute >= s - 1e-9) & (log_compute <= s + WIDTH) for s in starts]
        best = max(windows, key=np.sum)
        if len(levels(size[best])) >= LEAST:
            found.append(best)
        left &= ~best
    return sorted(found, key=lambda rows: float(log_compute[rows].mean()))


@dataclass(frozen=True)
class Minimum:
    """One budget: its rows, the parabola of log loss in log(size / centre), and its minimum where there is one.

    `status`: "minimum"; "edge", the least loss lies outside the sizes that were run; "no minimum", not convex.
    """

    compute: float
    rows: Int[np.ndarray, " n"]
    centre: float
    parabola: Float[np.ndarray, "3"]
    size: float | None
    loss: float | None
    status: str

    def at(self, size: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Loss of the parabola at these sizes."""
        return np.exp(np.polyval(self.parabola, np.log(size / self.centre)))


def isoflop_minima(
    size: Float[np.ndarray, " n"], compute: Float[np.ndarray, " n"], loss: Float[np.ndarray, " n"]
) -> list[Minimum]:
    """Budgets of a table by rising compute, each with its parabola.

    Minima at an edge of the sizes are marked and have no size: they would bias the exponent.
    """
    log_n, log_l, log_c = np.log(size), np.log(loss), np.log(compute)
    return [
        minimum(log_n[rows], log_l[rows], float(np.exp(log_c[rows].mean())), np.flatnonzero(rows))
        for rows in groups(log_c, size)
    ]


def minimum(
    log_n: Float[np.ndarray, " n"], log_l: Float[np.ndarray, " n"], compute: float, rows: Int[np.ndarray, " n"]
) -> Minimum:
    """Parabola of one budget; the least loss at the smallest or largest size is an edge, whatever the parabola says."""
    centre = float(log_n.mean())
    parabola = np.polyfit(log_n - centre, log_l, 2)
    best = -parabola[1] / (2.0 * parabola[0]) if parabola[0] > 0 else np.nan
    lowest = log_n[np.argmin(log_l)]
    ends = log_n.min() + SAME, log_n.max() - SAME
    inside = bool(log_n.min() < best + centre < log_n.max() and ends[0] < lowest < ends[1])
    status = "minimum" if inside else "edge" if parabola[0] > 0 else "no minimum"
    size, loss = (float(np.exp(best + centre)), float(np.exp(np.polyval(parabola, best)))) if inside else (None, None)
    return Minimum(compute, rows, float(np.exp(centre)), parabola, size, loss, status)


def vertices(
    z: Float[np.ndarray, " n"], log_loss: Float[np.ndarray, " n"], weights: Float[np.ndarray, "b n"]
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Place and curvature of the least-squares parabola of each row of weights; NaN where it has under four sizes."""
    centre = z.mean()
    design = np.stack([np.ones_like(z), z - centre, (z - centre) ** 2], axis=1)
    gram = np.einsum("bn,ni,nj->bij", weights, design, design)
    index = np.unique(np.round(z, 9), return_inverse=True)[1]
    enough = np.sum(weights @ np.eye(int(index.max()) + 1)[index] > 0, axis=1) >= 4
    gram = np.where(enough[:, None, None], gram, np.eye(3))
    gram += 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    fit = np.linalg.solve(gram, ((weights * log_loss) @ design)[..., None])[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(enough, centre - fit[:, 1] / (2.0 * fit[:, 2]), np.nan), fit[:, 2]


def isoflop(found: Observations, weights: Float[np.ndarray, "b n"], level: float) -> IsoFlop | None:
    """Minima by budget and the exponent of the optimal size; None where the rows are not laid out by budget.

    Minima at an edge of the sizes are dropped: their parabola extrapolates. `weights` are resamples of whole runs.
    """
    if not {"size", "compute"} <= set(found.values):
        return None
    size, log_loss = found.values["size"], np.log(found.loss)
    budgets = isoflop_minima(size, found.values["compute"], found.loss)
    if len(budgets) < BUDGETS_LEAST:
        return None
    everything = np.vstack([np.ones(len(size)), weights])
    minima, centres, described = [], [], []
    for one in budgets:
        z, losses = np.log(size[one.rows]), log_loss[one.rows]
        why = "converged" if one.size is not None else ("edge minimum" if np.ptp(losses) > 1e-12 else "flat")
        described.append({"compute": one.compute, "n": len(one.rows), "sizes": len(levels(size[one.rows])),
                          "status": why, "size": one.size})  # fmt: skip
        if one.size is not None:
            place, bend = vertices(z, losses, everything[:, one.rows])
            minima.append(np.where((place > z.min()) & (place < z.max()) & (bend > 0), place, np.nan))
            centres.append(np.log(one.compute))
    if len(minima) < BUDGETS_LEAST:
        none = all(entry["status"] != "converged" for entry in described)
        status = "edge minimum" if none else "too few points"
        return IsoFlop(status, None, None, None, tuple(described))
    slopes = slope_of(np.array(centres), np.stack(minima, axis=1))
    draws = slopes[1:][np.isfinite(slopes[1:])]
    if len(draws) < 20:
        return IsoFlop("converged", float(slopes[0]), None, None, tuple(described))
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return IsoFlop("converged", float(slopes[0]), float(np.std(draws, ddof=1)), (float(low), float(high)),
                   tuple(described))  # fmt: skip


def slope_of(x: Float[np.ndarray, " k"], y: Float[np.ndarray, "b k"]) -> Float[np.ndarray, " b"]:
    """Least-squares slope of each row of `y` on `x`, over the entries that are there."""
    there = np.isfinite(y)
    count = there.sum(axis=1)
    filled = np.where(there, y, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x = (there @ x) / count
        dx = np.where(there, x - mean_x[:, None], 0.0)
        slope = np.sum(dx * filled, axis=1) / np.sum(dx**2, axis=1)
    return np.where(count >= 2, slope, np.nan)


def disagree(one: tuple[float, float], two: tuple[float, float]) -> bool:
    """Whether two intervals have no value in common."""
    return one[1] < two[0] or two[1] < one[0]
