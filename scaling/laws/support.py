"""Whether a table supports a law at all, said in words: noise must never be dressed up as a law."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t

from scaling.laws.fit import Curve, Fit, bootstrap_weights, widened
from scaling.laws.holdout import Holdout
from scaling.laws.observations import Observations, cells

LAW_P, TREND_P = 0.01, 0.05  # one-sided; a law is claimed at the first, a trend at the second


@dataclass(frozen=True)
class Support:
    """`verdict` is law, refuted, trend, none or inverted; `sentence` says so for a reader; `checks` has the figures."""

    verdict: str
    sentence: str
    checks: dict[str, Any]


def slopes(z: Float[np.ndarray, "n v"], log_y: Float[np.ndarray, " n"], weights: np.ndarray) -> np.ndarray:
    """Weighted least-squares slopes of log loss on log x for each row of weights [b v]."""
    design = np.column_stack([np.ones(len(z)), z - z.mean(axis=0)])
    gram = np.einsum("bn,ni,nj->bij", weights, design, design)
    gram += 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(design.shape[1])
    return np.linalg.solve(gram, ((weights * log_y) @ design)[..., None])[:, 1:, 0]


def level_test(x: Float[np.ndarray, "n v"], log_y: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the level means and the chance of one as low where there is none (near 1: it rises).

    Means of levels, not rows: noise shared by the runs of an arm then counts as noise, whatever the number of seeds.
    """
    index = cells(x)
    count = np.bincount(index)
    z = np.stack([np.bincount(index, np.log(x[:, i])) / count for i in range(x.shape[1])], axis=1)
    y = np.bincount(index, log_y) / count
    design = np.column_stack([np.ones(len(z)), z - z.mean(axis=0)])
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    free = len(y) - design.shape[1]
    if free < 1 or rank < design.shape[1]:
        return solution[1:], np.full(x.shape[1], np.nan)
    residual = y - design @ solution
    floor = (1e-9 * max(1.0, float(np.max(np.abs(y))))) ** 2  # exact data: rounding is not evidence
    variance = max(float(residual @ residual) / free, floor) * np.diag(np.linalg.inv(design.T @ design))
    return solution[1:], t.cdf(solution[1:] / np.sqrt(variance[1:]), free)


def seed_spread(x: np.ndarray, log_y: np.ndarray, run: Int[np.ndarray, " n"]) -> float | None:
    """Pooled standard deviation of log loss between runs at the same point; None without repeats."""
    index = cells(x)
    count = np.bincount(index)
    free = int(np.sum(count - 1))
    if free < 1 or len(np.unique(run)) < 2:
        return None
    mean = np.bincount(index, log_y) / count
    return float(np.sqrt(np.sum((log_y - mean[index]) ** 2) / free))


def assess(found: Observations, fit: Fit, constant: Fit, result: Holdout | None, label: str, resamples: int, seed: int,
           level: float) -> Support:  # fmt: skip
    """Compare the fitted form with no effect at all: slopes by run, level means, out-of-sample error, seed spread."""
    form = fit.form
    count = len(form.falling)  # forms name these first; the next is a condition that is only allowed for
    x, log_y = found.x(form.variables[: count + 1]), np.log(found.loss)
    names = [found.columns.get(v, v) for v in form.falling]
    rng = np.random.default_rng(seed + 1)
    weights, _ = bootstrap_weights(form, found.x(form.variables), found.run, max(200, resamples), rng)
    groups = int(found.run.max()) + 1
    q = widened(level, groups, x.shape[1] + 1)
    low, high = np.quantile(slopes(np.log(x), log_y, weights), [q, 1.0 - q], axis=0)[:, :count]
    slope, p = (v[:count] for v in level_test(x, log_y))
    whole = found.x(form.variables)
    ends = np.stack([whole.min(axis=0), whole.max(axis=0)])
    ends[:, count:] = np.exp(np.log(whole[:, count:]).mean(axis=0))
    first, last = form.predict(fit.params, ends)
    fall = float(np.log(first / last)) if last > 0 else float("nan")
    spread = seed_spread(x, log_y, found.run)
    if result is not None:
        beats = result.log_error < result.constant_log_error
    else:
        beats = fit.aicc is None or constant.aicc is None or fit.aicc < constant.aicc
    checks = {"slopes": dict(zip(names, slope.tolist(), strict=True)),
              "slope_intervals": {n: [float(a), float(b)] for n, a, b in zip(names, low, high, strict=True)},
              "p_falling": dict(zip(names, [None if np.isnan(v) else float(v) for v in p], strict=True)),
              "fall_over_range": fall, "seed_spread": spread, "residual_noise": fit.sigma,
              "beats_constant": bool(beats)}  # fmt: skip
    known = ~np.isnan(p)
    falls = known & (p < TREND_P) & (high < 0)
    rises = known & (p > 1 - TREND_P) & (low > 0)
    parts = [f"{n} {s:+.3g} [{a:+.3g}, {b:+.3g}]" for n, s, a, b in zip(names, slope, low, high, strict=True)]
    told = f"log-log slope in {' and '.join(parts)}"
    noise = f"{spread:.2%} between runs at the same point" if spread is not None else f"{fit.sigma:.2%} residual noise"
    if rises.any():
        which = " and ".join(np.array(names)[rises])
        return Support("inverted", f"No scaling law: the loss rises with {which} ({told}).", checks)
    if not falls.all():
        which = " and ".join(np.array(names)[~falls])
        if falls.any():
            rest = f"No law in {which}: the loss does not fall with it beyond its noise ({told}; {noise})."
            return Support("trend", rest, checks)
        why = "too few levels to tell" if not known.all() else "the loss does not fall beyond its noise"
        return Support("none", f"No scaling law: {why} with {which} ({told}; {noise}).", checks)
    if not beats:
        how = (f"out of sample the {form.name} form ({result.log_error:.2%}) does no better than a constant "
               f"({result.constant_log_error:.2%})" if result else "AICc prefers a constant")  # fmt: skip
        return Support("none", f"No scaling law: {how}, although the loss falls in sample ({told}; {noise}).", checks)
    body = f"over the range the loss falls by {1 - np.exp(-fall):.1%} against {noise}; {told}"
    ahead = ""
    if result is not None:
        ahead = (f"; out of sample it errs by {result.mean_error:.2%} on average, a constant by "
                 f"{result.constant_log_error:.2%}")  # fmt: skip
    if label.startswith("refuted"):
        return Support("refuted", f"The loss falls, but the {form.name} form is {label}: {body}{ahead}.", checks)
    if np.max(p) >= LAW_P:
        weak = f"level means alone give p = {np.max(p):.2g}, a law is claimed below {LAW_P}"
        return Support("trend", f"A falling trend, not yet a law ({weak}): {body}{ahead}.", checks)
    if fit.status in ("too few points", "not converged"):
        return Support("trend", f"A falling trend, not yet a law ({fit.status}): {body}{ahead}.", checks)
    loose = loose_exponents(fit.curve)
    if loose:
        ahead += f"; the data do not pin down {loose}"
    return Support("law", f"The data support a {form.name} law: {body}{ahead}.", checks)


def loose_exponents(curve: Curve | None) -> str:
    """Exponents whose interval spans more than a factor of four, in words; empty where none does."""
    if curve is None:
        return ""
    bounds = curve.interval(curve.draws)
    found = []
    for i, name in enumerate(curve.form.parameters):
        if name in curve.form.exponents and bounds[1, i] > 4.0 * bounds[0, i]:
            found.append(f"{name} ({bounds[0, i]:.2g} to {bounds[1, i]:.2g})")
    return " and ".join(found)
