"""Reference vectors: raw observations and the actions of the training-time forward, saved where no training code is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.policy.loop import Act, closed_loop

VECTORS = "vectors.npz"
CLOSED_LOOP = "closed_loop"
EXTREME = 1e4
STEPS = 160
RESET_AT = 120

Vectors = dict[str, dict[str, np.ndarray]]
"""By name of the case: `obs` [T, obs], `first` [T], `action` [T, act]."""


def make_cases(mean: Float[np.ndarray, "obs"], std: Float[np.ndarray, "obs"], seed: int = 0) -> Vectors:
    """Observations of every case: random with a reset, zero, extreme (+-1e4, denormal, huge steps between them)."""
    rng = np.random.default_rng(seed)
    shape = (STEPS, len(mean))
    sign = np.where(rng.random(shape) < 0.5, -EXTREME, EXTREME)
    tiny = np.float32(1e-40) * rng.choice([-1.0, 1.0], shape)
    mixed = np.where(rng.random(shape) < 1 / 3, sign, np.where(rng.random(shape) < 0.5, tiny, rng.normal(size=shape)))
    # Half of the frames all-extreme or all-denormal, the rest a mixture, so that no kind hides another.
    kind = np.arange(STEPS)[:, None] % 4
    extreme = np.where(kind == 0, sign, np.where(kind == 1, tiny, mixed))
    first = np.zeros(STEPS, bool)
    first[0] = True
    reset = first.copy()
    reset[RESET_AT] = True
    observations: dict[str, tuple[Any, Any]] = {
        "random": (mean + std * rng.normal(size=shape), reset),
        "zero": (np.zeros(shape), first),
        "extreme": (extreme, first),
    }
    return {name: {"obs": obs.astype(np.float32), "first": start} for name, (obs, start) in observations.items()}


def make_vectors(weights: dict[str, Any], forward: Callable[..., Any], step: Act) -> Vectors:
    """The cases with their actions by `forward(weights, obs [B,T,obs], start [B,T])`.

    `step(obs, first)` is the student one control step at a time: it closes the loop of the case `CLOSED_LOOP`.
    """
    cases = make_cases(weights["normaliser/mean"], weights["normaliser/std"])
    obs, _ = closed_loop(step)
    cases[CLOSED_LOOP] = {"obs": obs, "first": np.arange(len(obs)) == 0}
    return {name: case | {"action": act(weights, forward, case)} for name, case in cases.items()}


def act(weights: dict[str, Any], forward: Callable[..., Any], case: dict[str, np.ndarray]) -> np.ndarray:
    """Actions [T, act] of one case by the whole-sequence forward."""
    return np.asarray(forward(weights, case["obs"][None], case["first"][None])[0])


def save_vectors(path: Path, vectors: Vectors) -> None:
    """One npz with `case/array` entries."""
    arrays: dict[str, Any] = {f"{name}/{key}": value for name, case in vectors.items() for key, value in case.items()}
    np.savez(path, **arrays)


def load_vectors(path: Path) -> Vectors:
    """What `save_vectors` wrote."""
    vectors: Vectors = {}
    with np.load(path) as data:
        for entry in data.files:
            name, key = entry.split("/")
            vectors.setdefault(name, {})[key] = data[entry]
    return vectors
