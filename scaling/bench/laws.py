"""Fits: a law with its bootstrap beside a plain SciPy optimiser on the same resamples of the same planted table."""

import time
from collections.abc import Iterator

import numpy as np
from scipy.optimize import minimize

from scaling.bench.row import Row
from scaling.laws import fit_table
from scaling.laws.catalogue import chinchilla
from scaling.laws.fit import DELTA, fit_form
from scaling.record.timing import medians

_SIZES, _DATAS = 5, 10


def planted(sizes: int = _SIZES, datas: int = _DATAS) -> dict[str, np.ndarray]:
    """Runs of a Chinchilla surface with known parameters and half a percent of noise."""
    rng = np.random.default_rng(0)
    size, data = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, sizes), np.geomspace(1e9, 1e12, datas)))
    loss = (1.8 + 480 * size**-0.35 + 2000 * data**-0.37) * np.exp(rng.normal(0.0, 0.005, len(size)))
    return {"size": size, "data": data, "loss": loss}


def rows(quick: bool) -> Iterator[Row]:
    """Seconds of a whole fit and of one of 240 rows, milliseconds of one refit in the bootstrap and by SciPy."""
    resamples, refits, repeats = (1000, 10, 3) if quick else (4000, 20, 5)
    table = planted()
    began = time.perf_counter()
    fit_table(table, loss="loss", size="size", data="data", resamples=resamples)
    yield Row(f"fit_table_{resamples}_resamples", time.perf_counter() - began, "s", higher_is_better=False)
    large = planted(15, 16)  # as many rows as the published Chinchilla table
    points = np.stack([large["size"], large["data"]], axis=1)
    began = time.perf_counter()
    fit_form(chinchilla(), points, large["loss"], np.arange(len(points)), resamples=resamples)
    seconds = time.perf_counter() - began
    yield Row(f"chinchilla_240_rows_{resamples}_resamples", seconds, "s", target=10.0, higher_is_better=False)
    x, loss = np.stack([table["size"], table["data"]], axis=1), table["loss"]
    run, form = np.arange(len(loss)), chinchilla()

    def ours() -> None:
        fit_form(form, x, loss, run, resamples=resamples)

    took = medians({"ours": ours, "scipy": lambda: _by_scipy(x, loss, refits)}, repeats)
    each, theirs = took["ours"] / resamples, took["scipy"] / refits
    yield Row("bootstrap_refit", 1e3 * each, "ms", higher_is_better=False)
    yield Row("scipy_bfgs_refit", 1e3 * theirs, "ms", higher_is_better=False)
    yield Row("bootstrap_refit_speedup", theirs / each, "x", target=5.0, ratio_to="scipy_bfgs_refit")


def _by_scipy(x: np.ndarray, loss: np.ndarray, refits: int) -> None:
    """One BFGS with analytic gradient a resample, from the planted optimum: kinder to SciPy than it would need."""
    rng = np.random.default_rng(1)
    start = np.array([np.log(1.8), np.log(480.0), np.log(2000.0), 0.35, 0.37])
    for _ in range(refits):
        drawn = rng.integers(0, len(loss), len(loss))
        minimize(_objective, start, (np.log(x[drawn]), np.log(loss[drawn])), method="BFGS", jac=True)


def _objective(theta: np.ndarray, log_x: np.ndarray, log_loss: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of Huber losses of the log residuals of a log-sum-exp of three lines, and its gradient."""
    lines = np.stack(
        [np.full(len(log_x), theta[0]), theta[1] - theta[3] * log_x[:, 0], theta[2] - theta[4] * log_x[:, 1]]
    )
    peak = lines.max(axis=0)
    share = np.exp(lines - peak)
    total = share.sum(axis=0)
    residual = peak + np.log(total) - log_loss
    small = np.abs(residual) <= DELTA
    value = np.where(small, 0.5 * residual**2, DELTA * (np.abs(residual) - 0.5 * DELTA)).sum()
    slope = np.where(small, residual, DELTA * np.sign(residual)) * share / total
    bend = [-(slope[1] @ log_x[:, 0]), -(slope[2] @ log_x[:, 1])]
    return float(value), np.array([*slope.sum(axis=1), *bend])
