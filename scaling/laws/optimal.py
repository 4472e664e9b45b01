"""Compute-optimal allocation on a fitted law: budget to size and data, and back."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar

from scaling.errors import InputError
from scaling.laws.fit import Curve

FLOPS = 6.0  # of training, for each parameter and each unit of data
REACH = 40.0  # e-folds of size, and of compute, that are searched to either side


@dataclass(frozen=True)
class Allocation:
    """The best use of `compute`: intervals are those of the bootstrap (of the loss: the curve's, without noise)."""

    compute: float
    size: float
    data: float
    loss: float
    size_interval: tuple[float, float]
    data_interval: tuple[float, float]
    loss_interval: tuple[float, float]


def closed(curve: Curve, params: Float[np.ndarray, "b p"]) -> tuple[np.ndarray, np.ndarray] | None:
    """(G, a) with optimal size G (C / 6)^a (Hoffmann et al. 2022, eq. 4), or None for a form without that solution."""
    form = curve.form
    columns = dict(zip(form.parameters, params.T, strict=True))
    if form.name in ("chinchilla", "clusters") and {"size", "data"} <= set(form.variables):
        a, b, alpha, beta = (columns[name] for name in ("A", "B", "alpha", "beta"))
    elif form.name == "overtraining":
        a, b, alpha = columns["a"], columns["b"], 2.0 * columns["eta"]
        beta = alpha
    else:
        return None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_g = (np.log(alpha) + np.log(a) - np.log(beta) - np.log(b)) / (alpha + beta)
        return np.exp(log_g), beta / (alpha + beta)


def optimal_size(curve: Curve, params: Float[np.ndarray, "b p"], compute: float, flops: float = FLOPS,
                 others: Mapping[str, float] | None = None) -> Float[np.ndarray, " b"]:  # fmt: skip
    """Size of least loss at a compute budget for each parameter vector."""
    known = closed(curve, params)
    if known is not None:
        return known[0] * (compute / flops) ** known[1]
    middle = float(np.log(curve.span["size"]).mean())

    def loss(log_n: float, row: np.ndarray) -> float:
        size = np.exp(log_n)
        x = point(curve, {**(others or {}), "size": size, "data": compute / (flops * size)})
        return float(np.log(curve.form.predict(row, x)[0]))

    grid = middle + np.linspace(-REACH, REACH, 161)
    sizes = []
    for row in params:
        best = grid[int(np.argmin([loss(z, row) for z in grid]))]
        step = grid[1] - grid[0]
        found = minimize_scalar(loss, bounds=(best - step, best + step), args=(row,), method="bounded",
                                options={"xatol": 1e-10})  # fmt: skip
        sizes.append(np.exp(found.x))
    return np.array(sizes)


def point(curve: Curve, given: Mapping[str, float]) -> Float[np.ndarray, "1 v"]:
    """One row of `x`; a variable that is not given is told."""
    missing = [name for name in curve.form.variables if name not in given]
    if missing:
        raise InputError(f"this {curve.form.name} law also reads {' and '.join(missing)}: give {missing[0]}")
    return np.array([[given[name] for name in curve.form.variables]], float)


def allocate(
    curve: Curve, compute: float, flops: float = FLOPS, others: Mapping[str, float] | None = None, draws: int = 200
) -> Allocation:
    """Size and data of least loss with size x data x `flops` = `compute`, with intervals from `draws` resamples."""
    check(curve)
    if not (np.isfinite(compute) and compute > 0):
        raise InputError(f"compute = {compute} is not a positive number")
    known = closed(curve, curve.params[None]) is not None
    rows = np.vstack([curve.params, curve.draws if known else curve.draws[: min(draws, 50)]])
    sizes = optimal_size(curve, rows, compute, flops, others)
    if not (np.isfinite(sizes[0]) and sizes[0] > 0):
        raise InputError("a parameter of this law is zero: it has no compute-optimal size")
    loss = np.array([
        curve.form.predict(row, point(curve, {**(others or {}), "size": n, "data": compute / (flops * n)}))[0]
        for row, n in zip(rows[: draws + 1], sizes, strict=False)
    ])  # fmt: skip

    def bounds(values: np.ndarray) -> tuple[float, float]:
        low, high = curve.interval(values[np.isfinite(values)])
        return float(low), float(high)

    data = compute / (flops * sizes)
    return Allocation(compute, float(sizes[0]), float(data[0]), float(loss[0]), bounds(sizes[1:]), bounds(data[1:]),
                      bounds(loss[1:]))  # fmt: skip


def budget(curve: Curve, *, size: float | None = None, data: float | None = None, loss: float | None = None,
           flops: float = FLOPS, **others: float) -> float:  # fmt: skip
    """The inverse of `allocate`: the compute at which that size, that data or that loss is what is optimal."""
    check(curve)
    if sum(v is not None for v in (size, data, loss)) != 1:
        raise InputError("give one of size, data and loss")
    known = closed(curve, curve.params[None])
    if known is not None and loss is None:
        g, a = known[0][0], known[1][0]
        if size is not None:
            return float(flops * (size / g) ** (1.0 / a))
        assert data is not None
        return float(flops * (data * g) ** (1.0 / (1.0 - a)))
    rows = curve.params[None]

    def miss(log_c: float) -> float:
        c = float(np.exp(log_c))
        n = optimal_size(curve, rows, c, flops, others)[0]
        if size is not None:
            return float(np.log(n / size))
        if data is not None:
            return float(np.log(c / (flops * n) / data))
        assert loss is not None
        x = point(curve, {**others, "size": n, "data": c / (flops * n)})
        return float(np.log(loss / curve.form.predict(curve.params, x)[0]))

    middle = float(np.log(flops) + sum(np.log(curve.span[name]).mean() for name in ("size", "data")))
    low, high = middle - REACH, middle + REACH
    if miss(low) * miss(high) > 0:
        raise InputError("no budget within reach of this law gives that: it is below the floor, or far from the rows")
    return float(np.exp(brentq(miss, low, high, xtol=1e-12, rtol=1e-14)))


def check(curve: Curve) -> None:
    """Only a law in size and data has something to allocate."""
    if not {"size", "data"} <= set(curve.form.variables):
        raise InputError(f"a {curve.form.name} law in {' and '.join(curve.form.variables)} has no size against data")
