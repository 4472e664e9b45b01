"""What a reviewer asks of a fit: profile likelihood, outliers, influence, a nested test, one level ahead at a time."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, t

from scaling.laws import holdout as hold
from scaling.laws.catalogue import without_clusters
from scaling.laws.fit import Fit, fit_form, optimum, refusal, scaled
from scaling.laws.forms import Form
from scaling.laws.observations import Observations, levels
from scaling.laws.solve import objective, solve

PROFILED = ("E", "R_D", "R_N", "x0", "w", "c0", "c1", "d1")  # beside the exponents; amplitudes follow these
OFFSETS = np.geomspace(3e-3, 6.0, 14)
OUTLIER = 4.0  # robust standard deviations
MOST_RUNS = 400
SIMULATIONS = 99


def sandwich(residuals: Float[np.ndarray, " n"], delta: float) -> float:
    """Factor that turns twice a difference of Huber sums into a chi-square of one degree (Ronchetti 1982).

    E[psi'] / E[psi^2] for normal residuals whose spread is that of their median.
    """
    sigma = max(1.4826 * float(np.median(np.abs(residuals - np.median(residuals)))), 1e-12)
    c = delta / sigma
    inside = 2.0 * norm.cdf(c) - 1.0
    square = sigma**2 * (inside - 2.0 * c * norm.pdf(c)) + delta**2 * (1.0 - inside)
    return float(inside / max(square, 1e-300))


def profile(found: Observations, fit: Fit, delta: float, level: float) -> dict[str, Any]:
    """Profile-likelihood interval of each exponent and floor: (interval, None where open) and whether it is weak.

    One parameter is held on a grid, the others are fitted again. Rows of one run count as one where runs have several.
    """
    form, names = fit.form, fit.form.parameters
    chosen = [i for i, name in enumerate(names) if name in form.exponents or name in PROFILED]
    x = found.x(form.variables)
    if not form.exponents:
        return {}
    u, y, log_x, mean = scaled(form, x, found.loss)
    theta = optimum(form, u, y, np.ones((1, len(y))), delta)[0][0]
    low, high = form.bounds(float(y.max()), u)
    index = np.repeat(chosen, 2 * len(OFFSETS))
    offsets = np.tile(np.concatenate([-OFFSETS, OFFSETS]), len(chosen))
    value = np.clip(theta[index] + offsets, low[index], high[index])
    ones = np.ones((len(index), len(y)))
    best = np.full(len(index), np.inf)
    for i in chosen:
        rows = index == i
        start = np.repeat(theta[None], rows.sum(), axis=0)
        start[:, i] = value[rows]
        best[rows] = solve(form, u, np.log(y), ones[rows], start, delta, iterations=80, held=(i, value[rows])).objective
    least = min(float(objective(form, theta[None], u, np.log(y), ones[:1], delta)[0]), float(best.min()))
    runs = int(found.run.max()) + 1
    factor = 2.0 * sandwich(fit.residuals, delta) * min(1.0, runs / len(found))
    root = np.sqrt(np.maximum(factor * (best - least), 0.0))
    limit = float(t.ppf(0.5 * (1.0 + level), max(1, runs - len(names))))
    out = {}
    for i in chosen:
        ends: list[float | None] = []
        for side in (-1.0, 1.0):
            rows = (index == i) & (np.sign(offsets) == side)
            place = crossing(np.abs(offsets[rows]), value[rows], root[rows], theta[i], limit)
            ends.append(None if place is None else natural_at(form, theta, i, place, log_x, mean))
        lower, upper = ends
        weak = lower is None or upper is None or lower <= 0 or upper > 4.0 * lower
        out[names[i]] = {"interval": [lower, upper], "weak": weak}
    return out


def crossing(offset: np.ndarray, value: np.ndarray, root: np.ndarray, centre: float, limit: float) -> float | None:
    """Where the signed root of the profile first passes `limit`; None where it does not within the search range."""
    offset, value, root = (
        np.concatenate([[first], rest]) for first, rest in ((0.0, offset), (centre, value), (0.0, root))
    )
    beyond = np.flatnonzero(root >= limit)
    if not len(beyond) or beyond[0] == 0:
        return None
    k = int(beyond[0])
    share = (limit - root[k - 1]) / max(root[k] - root[k - 1], 1e-300)
    return float(value[k - 1] + share * (value[k] - value[k - 1]))


def natural_at(form: Form, theta: np.ndarray, i: int, place: float, log_x: np.ndarray, mean: float) -> float:
    """Parameter `i` in the units of the table where its coordinate is `place`."""
    moved = theta.copy()
    moved[i] = place
    return float(form.unscale(form.natural(moved[None]), log_x, mean)[0, i])


def influence(found: Observations, fit: Fit, errors: dict[str, float], delta: float) -> dict[str, Any]:
    """Outliers, the fit without them, and the runs whose absence moves an exponent most (in its standard errors)."""
    form, x = fit.form, found.x(fit.form.variables)
    centred = fit.residuals - np.median(fit.residuals)
    kept = np.sort(np.abs(centred))[len(fit.params) :]  # a robust fit goes through as many points as it has parameters
    spread = 1.4826 * float(np.median(kept)) if len(kept) else 0.0
    far = np.abs(centred) > OUTLIER * spread if spread > 1e-9 else np.zeros(len(found), bool)
    outliers = [{"row": int(found.row[i]), "residual": float(fit.residuals[i])} for i in np.flatnonzero(far)]
    without = None
    if far.any() and refusal(form, x[~far]) is None:
        run = np.unique(found.run[~far], return_inverse=True)[1]
        again = fit_form(form, x[~far], found.loss[~far], run, delta=delta)
        without = {"n": int((~far).sum()), "status": again.status, "objective": again.objective,
                   "params": dict(zip(form.parameters, again.params.tolist(), strict=True))}  # fmt: skip
    return {"outliers": outliers, "without_outliers": without, "runs": moved(found, fit, errors, delta)}


def moved(found: Observations, fit: Fit, errors: dict[str, float], delta: float, most: int = 5) -> list[dict[str, Any]]:
    """Leave one run out: the `most` runs that move an exponent furthest."""
    form = fit.form
    runs = int(found.run.max()) + 1
    if not form.exponents or runs > MOST_RUNS or runs < 4:
        return []
    x = found.x(form.variables)
    u, y, log_x, mean = scaled(form, x, found.loss)
    theta = optimum(form, u, y, np.ones((1, len(y))), delta)[0]
    weights = (np.arange(runs)[:, None] != found.run[None]).astype(float)
    left = solve(form, u, np.log(y), weights, np.repeat(theta, runs, axis=0), delta, iterations=80).theta
    params = form.unscale(form.natural(left), log_x, mean)
    columns = [i for i, name in enumerate(form.parameters) if name in form.exponents]
    scale = np.array([max(errors[form.parameters[i]], 1e-12) for i in columns])
    change = (params[:, columns] - fit.params[columns]) / scale
    order = np.argsort(-np.abs(change).max(axis=1), kind="stable")[:most]
    found_rows = []
    for k in order:
        which = int(np.argmax(np.abs(change[k])))
        rows = [int(r) for r in found.row[found.run == k][:3]]
        found_rows.append({"rows": rows, "parameter": form.parameters[columns[which]],
                           "change_in_standard_errors": float(change[k, which])})  # fmt: skip
    return found_rows


def cluster_test(found: Observations, fit: Fit, delta: float, seed: int) -> dict[str, Any]:
    """The law with its term in K against the same law without: p by simulation from the smaller one.

    With three cluster counts or fewer the term goes through them whatever it means, so it is `descriptive`.
    """
    form, small = fit.form, without_clusters(fit.form)
    x = found.x(form.variables)
    inner = fit_form(small, x[:, :-1], found.loss, found.run, delta=delta)
    counts = len(levels(found.values["clusters"]))
    rng = np.random.default_rng(seed + 2)
    kept = inner.residuals[rng.integers(0, len(found), (SIMULATIONS, len(found)))]
    u, y, _, mean = scaled(form, x, found.loss)
    base = small.predict(inner.params, x[:, :-1])
    goal = np.log(base / mean) + kept * np.sqrt(len(found) / max(1, len(found) - len(inner.params)))
    ones = np.ones(goal.shape)
    whole = optimum(form, u, y, ones[:1], delta)[0]
    nested = optimum(small, u[:, :-1], y, ones[:1], delta)[0]
    null = solve(small, u[:, :-1], goal, ones, np.repeat(nested, SIMULATIONS, axis=0), delta)
    gain = np.zeros(SIMULATIONS)
    for start in [whole, *(with_term(whole, nested, gamma) for gamma in (0.2, 1.0))]:
        full = solve(form, u, goal, ones, np.repeat(start, SIMULATIONS, axis=0), delta)
        gain = np.maximum(gain, null.objective - full.objective)
    seen = inner.objective - fit.objective
    p_value = float((1 + np.sum(gain >= seen)) / (SIMULATIONS + 1))
    return {"levels": counts, "descriptive": counts <= 3, "p_value": p_value, "objective_without": inner.objective,
            "objective": fit.objective, "aicc_without": inner.aicc, "aicc": fit.aicc,
            "form_without": small.name}  # fmt: skip


def with_term(whole: np.ndarray, nested: np.ndarray, gamma: float) -> np.ndarray:
    """Coordinates of the larger form at the smaller one's optimum, with a small term in K."""
    k = (nested.shape[1] - 1) // 2
    start = whole.copy()
    start[:, : 1 + k] = nested[:, : 1 + k]
    start[:, 1 + k] = np.log(0.01)
    start[:, 2 + k : 2 + 2 * k] = nested[:, 1 + k :]
    start[:, -1] = gamma
    return start


def rolling(form: Form, found: Observations, most: int = 3, **options: Any) -> list[dict[str, Any]]:
    """One level ahead from each of the last origins that can carry the form: signed mean error and coverage.

    Where every row has a budget of its own, levels are doublings.
    """
    axis = np.round(np.log(found.values[hold.budget(found)]), 9)
    if len(np.unique(axis)) > len(axis) / 2:
        axis = np.log(2.0) * np.floor((axis - axis.min()) / np.log(2.0)) + axis.min()
    out: list[dict[str, Any]] = []
    for step in np.unique(axis)[1:][::-1]:
        train, ahead = found.keep(axis < step), found.keep(axis == step)
        if len(out) == most or refusal(form, train.x(form.variables)) is not None:
            break
        part = fit_form(form, train.x(form.variables), train.loss, train.run, **options)
        assert part.curve is not None
        result = hold.score(part.curve, train, ahead, "one level ahead")
        errors = [row["relative_error"] for row in result.rows]
        out.append({"level": float(np.exp(step)), "n": len(result.rows), "trained_on": len(train),
                    "relative_error": float(np.mean(errors)), "coverage": result.coverage})  # fmt: skip
    return out[::-1]
