"""Planted tables for the tests of the laws."""

import numpy as np


def planted(f, noise, *, levels=5, seeds=2, first=3e4, ratio=2.0, seed=0):
    """Columns of a small study: `levels` arms by `seeds` seeds, log-normal noise, one run a row."""
    rng = np.random.default_rng(seed)
    x = np.repeat(first * ratio ** np.arange(levels), seeds)
    loss = f(x) * np.exp(rng.normal(0.0, noise, len(x)) if noise else 0.0)
    return {"frames": x, "val_loss": loss, "run": [f"r{i}" for i in range(len(x))]}


def falling(x):
    """Floor .02, exponent .4."""
    return 0.02 + 3.0 * x**-0.4


def grid(noise, *, seed=0, sizes=6, datas=9, n_range=(1e7, 1e10), d_range=(1e9, 1e12)):
    """A Chinchilla-like grid with known parameters (E 1.8, A 480, B 2000, alpha .35, beta .37)."""
    rng = np.random.default_rng(seed)
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(*n_range, sizes), np.geomspace(*d_range, datas)))
    loss = (1.8 + 480 * n**-0.35 + 2000 * d**-0.37) * np.exp(rng.normal(0.0, noise, len(n)) if noise else 0.0)
    return {"n": n, "d": d, "loss": loss, "run": [f"r{i}" for i in range(len(n))]}
