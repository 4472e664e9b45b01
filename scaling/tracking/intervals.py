"""Honest intervals for closed-loop figures: Wilson for success, bootstrap over episodes for means."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Estimate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(success: Bool[np.ndarray, "E"], z: float = 1.959963984540054) -> Estimate:
    """Share of successes with Wilson's score interval."""
    n = len(success)
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    p = float(np.mean(success))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(p, _unit(middle - half), _unit(middle + half))


def _unit(x: float) -> float:
    """Rounding may leave a bound of 0 or 1 an ulp away from it."""
    return float(np.clip(np.round(x, 15), 0.0, 1.0))


def bootstrap_mean(values: Float[np.ndarray, "E"], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean over episodes with a percentile bootstrap interval; episodes without a value (NaN) are left out."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    return Estimate(float(values.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))
