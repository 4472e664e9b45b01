"""K-means with k-means++ starts and restarts, never an empty cluster, and how balanced and stable the outcome is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.errors import InputError

_RESTARTS = 8
_ITERATIONS = 100


@dataclass(frozen=True)
class Clustering:
    """K clusters of S segments.

    `balance` is the normalised entropy of the sizes (1: all equal); `stability_ari` the adjusted Rand index between
    this clustering and one from another seed (1: the same clusters). Both are NaN where K = 1 leaves nothing to say.
    """

    labels: Int[np.ndarray, "S"]
    centres: Float[np.ndarray, "K F"]
    sizes: Int[np.ndarray, "K"]
    balance: float
    stability_ari: float
    inertia: float

    def report(self) -> dict[str, object]:
        """The figures of `scaling motions cluster`."""
        return {
            "clusters": len(self.sizes),
            "sizes": [int(size) for size in self.sizes],
            "balance": self.balance,
            "stability_ari": self.stability_ari,
            "inertia": self.inertia,
        }


def kmeans(
    features: Float[np.ndarray, "S F"], k: int, seed: int, fit: Int[np.ndarray, "n"] | None = None
) -> Clustering:
    """Cluster rows; with `fit`, only these rows place the centres and the others join the nearest (held-out data).

    Clusters are numbered by size, largest first. k above the rows that place centres raises `InputError`.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise InputError(f"features of shape {features.shape} must be a finite table, one row a segment.")
    rows = features if fit is None else features[fit]
    if not 1 <= k <= len(rows):
        raise InputError(
            f"{k} clusters cannot be made of {len(rows)} segments; choose between 1 and {len(rows)}, "
            "or cut shorter segments."
        )
    labels, centres, inertia = _best(rows, k, np.random.default_rng([seed, 3]))
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    rank = np.argsort(order)
    centres, fitted = centres[order], rank[labels]
    other, _, _ = _best(rows, k, np.random.default_rng([seed, 4]))
    everywhere = fitted if fit is None else _nearest(features, centres)[0]
    if fit is not None:
        everywhere[fit] = fitted
    sizes = np.bincount(everywhere, minlength=k)
    share = sizes / sizes.sum()
    balance = float(-(share * np.log(share)).sum() / np.log(k)) if k > 1 else float("nan")
    stability = adjusted_rand_index(fitted, other) if k > 1 else float("nan")
    return Clustering(everywhere.astype(np.int32), centres, sizes, balance, stability, inertia)


def _best(rows: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """The restart with the smallest sum of squared distances."""
    outcomes = [_lloyd(rows, _plus_plus(rows, k, rng)) for _ in range(_RESTARTS)]
    return min(outcomes, key=lambda outcome: outcome[2])


def _plus_plus(rows: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Starting centres: each new one drawn with chance proportional to squared distance (Arthur and Vassilvitskii)."""
    chosen = [int(rng.integers(len(rows)))]
    distance = np.sum((rows - rows[chosen[0]]) ** 2, axis=1)
    for _ in range(k - 1):
        total = distance.sum()
        if total > 0:
            index = int(rng.choice(len(rows), p=distance / total))
        else:  # only copies are left
            index = int(rng.choice(np.setdiff1d(np.arange(len(rows)), chosen)))
        chosen.append(index)
        distance = np.minimum(distance, np.sum((rows - rows[index]) ** 2, axis=1))
        distance[chosen] = 0.0
    return rows[chosen].copy()


def _nearest(rows: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centre of each row and the squared distance to it."""
    squared = (rows**2).sum(axis=1)[:, None] - 2.0 * rows @ centres.T + (centres**2).sum(axis=1)[None]
    labels = np.argmin(squared, axis=1)
    return labels, np.sum((rows - centres[labels]) ** 2, axis=1)


def _fill_empty(labels: np.ndarray, distance: np.ndarray, k: int) -> np.ndarray:
    """Labels in which each empty cluster got the row farthest from its centre, never the last row of another."""
    sizes = np.bincount(labels, minlength=k)
    for empty in np.flatnonzero(sizes == 0):
        movable = np.where(sizes[labels] > 1, distance, -1.0)
        row = int(np.argmax(movable))
        sizes[labels[row]] -= 1
        labels[row], distance[row] = empty, 0.0
        sizes[empty] = 1
    return labels


def _lloyd(rows: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Lloyd's iterations to rest; every cluster keeps at least one row."""
    k = len(centres)
    labels = np.full(len(rows), -1)
    for _ in range(_ITERATIONS):
        found, distance = _nearest(rows, centres)
        found = _fill_empty(found, distance, k)
        if np.array_equal(found, labels):
            break
        labels = found
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, rows)
        centres = sums / np.bincount(labels, minlength=k)[:, None]
    return labels, centres, float(np.sum((rows - centres[labels]) ** 2))


def adjusted_rand_index(a: Int[np.ndarray, "n"], b: Int[np.ndarray, "n"]) -> float:
    """Agreement of two labellings beyond chance (Hubert and Arabie 1985): 1 the same, about 0 unrelated."""
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1.0)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1.0) / 2.0).sum())

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    chance = rows * columns / max(pairs(np.array([float(len(a))])), 1.0)
    ceiling = 0.5 * (rows + columns)
    return 1.0 if ceiling == chance else (both - chance) / (ceiling - chance)
