"""Batched minimiser of weighted Huber losses on log residuals: every start and every resample in one array program."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from scaling.laws.forms import Form, InLoss

ROWS_AT_ONCE = 30_000  # points x problems of one block, so that its arrays stay in cache
ROUNDING = 1e-14  # root mean square residual that is nothing but float64


@dataclass(frozen=True)
class Solution:
    """Optima of a batch of problems: `objective` is the plain sum over points, never a mean."""

    theta: Float[np.ndarray, "b p"]
    objective: Float[np.ndarray, " b"]
    converged: Bool[np.ndarray, " b"]
    iterations: int


def huber(residual: np.ndarray, delta: np.ndarray | float) -> np.ndarray:
    """Quadratic within `delta`, linear beyond, with matching slope."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual * residual, delta * (size - 0.5 * delta))


def objective(
    form: Form | InLoss, theta: np.ndarray, u: np.ndarray, log_y: np.ndarray, weights: np.ndarray, delta: float
) -> Float[np.ndarray, " b"]:
    """Weighted sum of the Huber losses of each problem; infinite where the form has no value."""
    with np.errstate(invalid="ignore"):
        total = np.sum(weights * huber(form.evaluate(theta, u)[0] - log_y, delta), axis=1)
    return np.where(np.isfinite(total), total, np.inf)


def solve(
    form: Form | InLoss,
    u: Float[np.ndarray, "n v"],
    log_y: Float[np.ndarray, " n"] | Float[np.ndarray, "b n"],
    weights: Float[np.ndarray, "b n"],
    starts: Float[np.ndarray, "b p"],
    delta: float = 1e-3,
    top: float | None = None,
    iterations: int = 400,
    tolerance: float = 1e-9,
    held: tuple[int, Float[np.ndarray, " b"]] | None = None,
) -> Solution:
    """Minimise each problem of the batch from its start by a damped Newton method with a falling Huber width.

    The width starts where the residuals are and shrinks to `delta` (most residuals then sit on the right side of it);
    the damping metric is that of iteratively reweighted least squares, so that heavy damping is a safe descent step
    and none is a Newton step. The gradient is measured relative to the largest that the Huber slopes allow. `held`
    fixes one coordinate at a value for each problem. Blocks run on threads: NumPy's loops release the interpreter.
    """
    top = float(np.exp(np.max(log_y))) if top is None else top
    block = max(1, ROWS_AT_ONCE // max(1, len(u)))
    log_y = np.broadcast_to(log_y, weights.shape)
    low, high = (np.broadcast_to(side, starts.shape).copy() for side in form.bounds(top, u))
    if held is not None:
        low[:, held[0]] = high[:, held[0]] = held[1]

    def part(i: int) -> Solution:
        rows = slice(i, i + block)
        return solve_block(
            form, u, log_y[rows], weights[rows], starts[rows], delta, low[rows], high[rows], iterations, tolerance
        )

    if len(starts) <= block:
        return part(0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(part, range(0, len(starts), block)))
    return Solution(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.converged for part in parts]),
        max(part.iterations for part in parts),
    )


def solve_block(
    form: Form | InLoss,
    u: np.ndarray,
    log_y: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    delta: float,
    low: np.ndarray,
    high: np.ndarray,
    iterations: int,
    tolerance: float,
) -> Solution:
    """One cache-sized block of `solve`."""
    theta = np.clip(starts, low, high)
    batch, size = theta.shape
    eye = np.eye(size)
    converged = np.zeros(batch, bool)
    with np.errstate(invalid="ignore"):
        spread = np.nanmax(np.abs(form.evaluate(theta, u)[0] - log_y), axis=1)
    width = np.maximum(delta, 0.5 * spread)
    damping, stalled = np.ones(batch), np.zeros(batch, int)
    active = np.arange(batch)
    step_count = 0
    for step_count in range(1, iterations + 1):  # noqa: B007
        t, w, d = theta[active], weights[active], width[active, None]
        least, most = low[active], high[active]
        f, jacobian, aux = form.evaluate(t, u)
        goal = log_y[active]
        r = f - goal
        value = np.sum(w * huber(r, d), axis=1)
        size_r = np.abs(r)
        psi = w * np.clip(r, -d, d)
        gradient = np.einsum("bn,bnp->bp", psi, jacobian)
        metric = ((w * d / np.maximum(size_r, d))[..., None] * jacobian).swapaxes(1, 2) @ jacobian
        hessian = ((w * (size_r < d))[..., None] * jacobian).swapaxes(1, 2) @ jacobian
        hessian += form.curvature(aux, jacobian, psi, u)
        held = ((t <= least) & (gradient > 0)) | ((t >= most) & (gradient < 0)) | (least == most)
        free_gradient = np.where(held, 0.0, gradient)
        scale = np.einsum("bn,bnp->bp", w * np.minimum(size_r, d) + 1e-12, np.abs(jacobian)) + 1e-300
        slope = np.max(np.abs(free_gradient) / np.maximum(scale, 1e-3 * scale.max(axis=1, keepdims=True)), axis=1)
        small = (slope < tolerance) | (value <= 0.5 * ROUNDING**2 * w.sum(axis=1))
        done = small & (d[:, 0] <= delta)
        if done.any():
            converged[active[done]] = True
        narrower = ((slope < 1e-2) | (stalled[active] >= 3)) & (d[:, 0] > delta)
        width[active] = np.where(narrower, np.maximum(delta, 0.4 * width[active]), width[active])
        stalled[active] = np.where(narrower, 0, stalled[active] + 1)
        value = np.where(narrower, np.sum(w * huber(r, width[active, None]), axis=1), value)

        ridge = np.trace(metric, axis1=1, axis2=2)[:, None, None] * 1e-12 * eye
        matrix = hessian + damping[active, None, None] * (metric + ridge) + ridge
        matrix = np.where(held[:, :, None] | held[:, None, :], eye, matrix)
        step = -np.linalg.solve(matrix, free_gradient[..., None])[..., 0]
        step = np.where(np.isfinite(step), step, 0.0)
        step *= np.minimum(1.0, 2.0 / np.maximum(np.max(np.abs(step), axis=1, keepdims=True), 1e-300))
        trial = np.clip(t + step, least, most)
        with np.errstate(invalid="ignore"):
            after = np.sum(w * huber(form.evaluate(trial, u)[0] - goal, width[active, None]), axis=1)
        downhill = np.sum(gradient * (trial - t), axis=1) < 0
        accept = np.isfinite(after) & (after < value) & downhill & ~narrower
        theta[active] = np.where(accept[:, None], trial, t)
        harder = ~accept & ~narrower
        damping[active] = np.clip(damping[active] * np.where(accept, 0.3, np.where(harder, 5.0, 1.0)), 1e-12, 1e8)
        exhausted = harder & (damping[active] >= 1e8)  # no descent left in float64
        converged[active[exhausted & (d[:, 0] <= delta)]] = slope[exhausted & (d[:, 0] <= delta)] < 1e-4
        width[active] = np.where(exhausted, delta, width[active])
        damping[active] = np.where(exhausted & (d[:, 0] > delta), 1.0, damping[active])
        active = active[~(done | (exhausted & (d[:, 0] <= delta)))]
        if not len(active):
            break
    return Solution(theta, objective(form, theta, u, log_y, weights, delta), converged, step_count)
