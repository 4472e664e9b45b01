"""K-means of segments at any K, never with an empty cluster, and how balanced, stable and tight the outcome is."""

import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from scaling.errors import InputError

# Starts of each clustering: many where one costs nothing; at a large K one start is as good as another and costs much.
_STARTS = 8
_FEW_STARTS, _LARGE = 1, 64
_SEEDS = 3  # clusterings that are compared with each other


@dataclass(frozen=True)
class Clustering:
    """K clusters of S segments, numbered by how many of the rows that place centres they hold, most first.

    `balance` is the normalised entropy of the sizes (1: all equal); `stability_ari` the mean adjusted Rand index of
    this clustering and those of two other seeds, pair by pair (1: the same clusters); `between` the share of the
    variance that lies between clusters. All three are NaN where K = 1 leaves nothing to say.
    """

    labels: Int[np.ndarray, "S"]
    centres: Float[np.ndarray, "K F"]
    sizes: Int[np.ndarray, "K"]
    balance: float
    stability_ari: float
    inertia: float
    between: float

    def report(self) -> dict[str, object]:
        """The figures of `scaling motions cluster`."""
        return {
            "clusters": len(self.sizes),
            "sizes": [int(size) for size in self.sizes],
            "balance": self.balance,
            "largest_share": float(self.sizes.max() / self.sizes.sum()),
            "singletons": int((self.sizes == 1).sum()),
            "stability_ari": self.stability_ari,
            "inertia": self.inertia,
            "between": self.between,
        }


def kmeans(
    features: Float[np.ndarray, "S F"], k: int, seed: int, fit: Int[np.ndarray, "n"] | None = None
) -> Clustering:
    """Cluster rows; with `fit`, only these rows place the centres and the others join the nearest (held-out data).

    k above the rows that place centres raises `InputError`.
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
    several = [_cluster(rows, k, [seed, 3 + other]) for other in range(_SEEDS if k > 1 else 1)]
    labels = several[0]
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    fitted = np.argsort(order)[labels]
    centres = _centres(rows, fitted, k)
    inertia = float(np.sum((rows - centres[fitted]) ** 2))
    everywhere = fitted if fit is None else _nearest(features, centres)
    if fit is not None:
        everywhere[fit] = fitted
    sizes = np.bincount(everywhere, minlength=k)
    share = sizes / sizes.sum()
    balance = stability = between = float("nan")
    if k > 1:
        balance = float(-(share * np.log(share)).sum() / np.log(k))
        stability = float(np.mean([adjusted_rand_score(one, other) for one, other in combinations(several, 2)]))
        total = float(np.sum((rows - rows.mean(axis=0)) ** 2))
        between = 1.0 - inertia / total if total > 0 else float("nan")
    return Clustering(everywhere.astype(np.int32), centres, sizes, balance, stability, inertia, between)


def _cluster(rows: Float[np.ndarray, "n F"], k: int, seed: list[int]) -> Int[np.ndarray, "n"]:
    """Labels of the best of several starts, no cluster empty; on one thread, because the order of sums decides ties."""
    number = int(np.random.default_rng(seed).integers(2**31))
    starts = _STARTS if k <= _LARGE else _FEW_STARTS
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of copies, for which `_fill_empty` is there
        labels = KMeans(k, n_init=starts, random_state=number).fit(rows).labels_
    return _fill_empty(rows, labels.astype(int), k)


def _centres(rows: Float[np.ndarray, "n F"], labels: Int[np.ndarray, "n"], k: int) -> Float[np.ndarray, "K F"]:
    """The mean of each cluster."""
    sums = np.zeros((k, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return sums / np.maximum(np.bincount(labels, minlength=k), 1)[:, None]


def _nearest(rows: Float[np.ndarray, "n F"], centres: Float[np.ndarray, "K F"]) -> Int[np.ndarray, "n"]:
    """Nearest centre of each row."""
    return np.argmin((centres**2).sum(axis=1)[None] - 2.0 * rows @ centres.T, axis=1)


def _fill_empty(rows: Float[np.ndarray, "n F"], labels: Int[np.ndarray, "n"], k: int) -> Int[np.ndarray, "n"]:
    """Labels in which each empty cluster got the row farthest from its centre, never the last row of another."""
    sizes = np.bincount(labels, minlength=k)
    distance = np.sum((rows - _centres(rows, labels, k)[labels]) ** 2, axis=1)
    for empty in np.flatnonzero(sizes == 0):
        row = int(np.argmax(np.where(sizes[labels] > 1, distance, -1.0)))
        sizes[labels[row]] -= 1
        labels[row], distance[row] = empty, 0.0
        sizes[empty] = 1
    return labels
