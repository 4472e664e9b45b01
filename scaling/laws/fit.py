"""Fit of one form to points: multi-start optimum, bootstrap by run, status, and the curve with its intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, t

from scaling.laws.catalogue import make
from scaling.laws.forms import Form, InLoss
from scaling.laws.observations import cells, levels
from scaling.laws.solve import solve

DELTA = 1e-3
STARTS = 12
MANY = 30  # residual degrees of freedom from which residuals are resampled instead of taken as normal
REFIT_ITERATIONS = 150  # of a resample, which starts at the optimum of all rows: most need thirty


def widened(level: float, groups: int, parameters: int) -> float:
    """Lower tail of a percentile bootstrap widened for few groups (Hesterberg 2015, expanded percentile interval)."""
    free = max(1, groups - parameters)
    return float(norm.cdf(-np.sqrt(groups / free) * t.ppf(0.5 * (1.0 + level), free)))


@dataclass(frozen=True)
class Curve:
    """A fitted form with its bootstrap: all that predictions need, and all that is stored of them."""

    form: Form
    params: Float[np.ndarray, " p"]
    draws: Float[np.ndarray, "b p"]
    noise: Float[np.ndarray, " b"]
    groups: int
    level: float
    span: Mapping[str, tuple[float, float]]

    @cached_property
    def tails(self) -> list[float]:
        """Quantiles that bound an interval of `level`."""
        q = widened(self.level, self.groups, len(self.params))
        return [q, 1.0 - q]

    def interval(self, samples: Float[np.ndarray, "b *n"]) -> Float[np.ndarray, "2 *n"]:
        """Widened percentile interval of bootstrap samples."""
        return np.quantile(samples, self.tails, axis=0)

    def predict(self, x: Float[np.ndarray, "n v"], noise: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Loss at `x` with the interval for a new run there (`noise`), or for the curve alone."""
        samples = np.nan_to_num(self.form.predict(self.draws, x), nan=0.0)  # a line below zero: loss at most 0
        if noise:
            samples = samples * np.exp(self.noise[:, None])
        low, high = self.interval(samples)
        return self.form.predict(self.params, x), low, high

    def to_json(self) -> dict[str, Any]:
        """JSON-ready dict; draws are rounded to seven digits when they are made, so nothing is lost here."""
        variable = self.form.variables[0] if len(self.form.variables) == 1 else None
        rows = np.column_stack([self.draws, self.noise]).tolist()
        return {"form": self.form.name, "variable": variable, "variables": list(self.form.variables),
                "params": self.params.tolist(), "groups": self.groups,
                "level": self.level, "span": {k: list(v) for k, v in self.span.items()}, "draws": rows}  # fmt: skip

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> "Curve":
        """Inverse of `to_json`."""
        rows = np.array(record["draws"], float)
        span = {k: (float(v[0]), float(v[1])) for k, v in record["span"].items()}
        form = make(record["form"], record.get("variables") or [record["variable"] or "data"])
        params = np.array(record["params"], float)
        return Curve(form, params, rows[:, :-1], rows[:, -1], record["groups"], record["level"], span)


@dataclass(frozen=True)
class Fit:
    """A fitted form: `objective` is the sum of Huber losses of log residuals, `sigma` the noise of log loss."""

    form: Form
    params: Float[np.ndarray, " p"]
    objective: float
    status: str
    notes: tuple[str, ...]
    residuals: Float[np.ndarray, " n"]
    sigma: float
    aicc: float | None
    curve: Curve | None


def refusal(form: Form, x: Float[np.ndarray, "n v"]) -> str | None:
    """Why these points cannot carry the form (more distinct levels than parameters are needed), or None."""
    for i, name in enumerate(form.variables):
        there = len(levels(x[:, i]))
        if there < form.levels[i]:
            return f"form {form.name} needs {form.levels[i]} distinct levels of {name}, the rows have {there}"
    if form.variables and len(np.unique(cells(x))) < form.cells:
        return f"form {form.name} needs {form.cells} distinct points, there are {len(np.unique(cells(x)))}"
    if len(x) < len(form.parameters) + 1:
        return f"form {form.name} needs {len(form.parameters) + 1} rows, there are {len(x)}"
    return None


def scaled(form: Form, x: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Centred log x, loss over its geometric mean, and the two scales."""
    log_x, mean = form.centre(x, loss)
    return np.log(x) - log_x, loss / mean, log_x, mean


def aim(form: Form | InLoss, y: np.ndarray) -> np.ndarray:
    """What the solver compares with: the log of the scaled loss, or the scaled loss."""
    return y if isinstance(form, InLoss) else np.log(y)


def optimum(
    form: Form | InLoss,
    u: np.ndarray,
    y: np.ndarray,
    weights: Float[np.ndarray, "b n"],
    delta: float,
    starts: int = STARTS,
    iterations: int = 400,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best of several starts for each row of weights: (theta [b p], objective [b], converged [b])."""
    first = form.starts(u, y, weights, starts)
    count = first.shape[1]
    first, repeated = first.reshape(-1, first.shape[-1]), np.repeat(weights, count, axis=0)
    found = solve(form, u, aim(form, y), repeated, first, delta, iterations=iterations)
    values = found.objective.reshape(-1, count)
    values = np.where(found.converged.reshape(-1, count), values, values * (1 + 1e-9))
    best = np.argmin(values, axis=1) + count * np.arange(len(weights))
    return found.theta[best], found.objective[best], found.converged[best]


def bootstrap_weights(
    form: Form, x: np.ndarray, run: Int[np.ndarray, " n"], resamples: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "b n"], int]:
    """Times each row is drawn when whole runs are drawn with replacement, and how many draws had to be repeated.

    A draw with fewer distinct points than parameters fits anything, so it is drawn again.
    """
    groups = int(run.max()) + 1
    axes = [cells(x[:, [i]]) for i in range(x.shape[1])] + ([cells(x)] if x.shape[1] else [])
    needed = [need - 1 for need in form.levels] + ([len(form.parameters)] if x.shape[1] else [])
    weights = np.zeros((resamples, len(run)))
    open_rows, repeated = np.arange(resamples), 0
    for _ in range(100):
        drawn = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=len(open_rows)).astype(float)
        weights[open_rows] = drawn[:, run]
        poor = np.zeros(len(open_rows), bool)
        for index, need in zip(axes, needed, strict=True):
            present = weights[open_rows] @ np.eye(int(index.max()) + 1)[index]
            poor |= np.sum(present > 0, axis=1) < need
        open_rows = open_rows[poor]
        if not len(open_rows):
            break
        repeated += len(open_rows)
    return weights, repeated


def fit_form(
    form: Form,
    x: Float[np.ndarray, "n v"],
    loss: Float[np.ndarray, " n"],
    run: Int[np.ndarray, " n"],
    *,
    resamples: int = 0,
    seed: int = 0,
    delta: float = DELTA,
    level: float = 0.95,
    residuals_in: str = "log",
) -> Fit:
    """Fit `form` to positive points; `resamples` 0 leaves the curve and its intervals out.

    `residuals_in` is `log` (relative errors, the default) or `loss` (`delta` is then in units of the loss).
    """
    u, y, log_x, mean = scaled(form, x, loss)
    seen = form if residuals_in == "log" else InLoss(form)
    if residuals_in != "log":
        delta /= mean
    theta, value, converged = optimum(seen, u, y, np.ones((1, len(y))), delta)
    value = value if residuals_in == "log" else value * mean**2
    params = form.unscale(form.natural(theta), log_x, mean)[0]
    residuals = np.log(loss) - np.log(form.predict(params, x))
    count, points, groups = len(params), len(loss), int(run.max()) + 1
    sigma = float(np.sqrt(np.sum(residuals**2) / max(1, points - count)))
    notes = [*form.edges(theta[0], u)]
    status = "at a bound" if notes else "converged"
    if not converged[0]:
        status = "not converged"
    if min(points, groups) < count + 2:
        status = "too few points"
        notes.append(f"{points} rows of {groups} runs for {count} parameters")
    curve = None
    if resamples:
        rng = np.random.default_rng(seed)
        weights, repeated = bootstrap_weights(form, x, run, resamples, rng)
        start = np.repeat(theta, resamples, axis=0)
        again = solve(seen, u, aim(seen, y), weights, start, delta, iterations=REFIT_ITERATIONS)
        best, failed = again.theta, ~again.converged
        if points - count < MANY:  # large tables have one optimum; small ones may have several
            other, objective, fine = optimum(seen, u, y, weights, delta, 1, REFIT_ITERATIONS)
            better = objective < again.objective
            best, failed = np.where(better[:, None], other, best), np.where(better, ~fine, failed)
        draws = form.unscale(form.natural(best), log_x, mean)
        if points - count >= MANY:
            noise = rng.choice(residuals, resamples) * np.sqrt(points / (points - count))
        else:
            noise = rng.normal(0.0, sigma, resamples)
        span = {name: (float(x[:, i].min()), float(x[:, i].max())) for i, name in enumerate(form.variables)}
        curve = Curve(form, params, rounded(draws), rounded(noise), groups, level, span)
        if repeated:
            notes.append(f"{repeated} resamples drawn again for want of distinct levels")
        if failed.any():
            notes.append(f"{int(failed.sum())} of {resamples} resamples did not converge")
    return Fit(form, params, float(value[0]), status, tuple(notes), residuals, sigma, aicc(residuals, count), curve)


def rounded(values: np.ndarray) -> np.ndarray:
    """To seven significant digits, so that a stored law predicts exactly what the fresh one does."""
    with np.errstate(divide="ignore"):
        digits = 10.0 ** (6 - np.floor(np.log10(np.where(values == 0, 1.0, np.abs(values)))))
    return np.round(values * digits) / digits


def aicc(residuals: np.ndarray, parameters: int) -> float | None:
    """Corrected Akaike criterion of normal log residuals (noise level counted); None where it is not defined."""
    n, k = len(residuals), parameters + 1
    if n - k - 1 <= 0:
        return None
    return float(n * np.log(max(np.mean(residuals**2), 1e-24)) + 2 * k + 2 * k * (k + 1) / (n - k - 1))
