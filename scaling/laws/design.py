"""Which runs to add to a table: greedy optimal design on a law's Jacobian, for the interval of one prediction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.laws.fit import Curve
from scaling.laws.forms import Form

DRAWS = 24  # parameter vectors of the bootstrap over which a design is averaged
PRIOR = 3.0  # e-folds: how far a parameter of which the rows say nothing is from what was fitted
STEP = 1e-5  # e-folds of a parameter, of the central difference


@dataclass(frozen=True)
class Candidate:
    """Runs that are done together or not at all: their points `x`, and what has to be paid for, by name."""

    x: Float[np.ndarray, "m v"]
    parts: Collection[str]


@dataclass(frozen=True)
class Pick:
    """A chosen candidate, what it costs beside those before it, and the share of the interval that is left after it."""

    index: int
    cost: float
    left: float


def relative_jacobian(form: Form, params: Float[np.ndarray, "s p"], x: Float[np.ndarray, "n v"]) -> np.ndarray:
    """Derivative of the log prediction by the logarithm of each parameter [s n p]; no scale of units matters to it."""
    columns = []
    for i in range(params.shape[1]):
        factor = np.exp(STEP * (np.arange(params.shape[1]) == i))
        with np.errstate(invalid="ignore"):
            up, down = form.predict(params * factor, x), form.predict(params / factor, x)
            columns.append((np.log(up) - np.log(down)) / (2 * STEP))
    return np.stack(columns, axis=-1)


def design(
    curve: Curve,
    have: Float[np.ndarray, "n v"],
    target: Float[np.ndarray, " v"],
    candidates: Sequence[Candidate],
    prices: Mapping[str, float],
    budget: float,
    noise: float,
) -> list[Pick]:
    """The candidates that most narrow the prediction interval at `target` for what they cost, one after the other.

    The variance of a new run's log loss there is noise^2 (1 + g' M^-1 g), with `g` the Jacobian at the target and M
    the information of the rows (`have` and what was picked); each step takes the candidate with the largest fall of
    its logarithm per unit of cost, on average over the optimum and `DRAWS` resamples, because the law is nonlinear and
    not yet known. Parts that an earlier pick has paid for (a bank that two students share) cost nothing again.
    InputError where the law says nothing at the target.
    """
    params = np.vstack([curve.params, curve.draws[:DRAWS]])
    points = np.concatenate([target[None], have, *(one.x for one in candidates)])
    jacobian = relative_jacobian(curve.form, params, points)
    jacobian = jacobian[np.isfinite(jacobian).all(axis=(1, 2))]
    if not len(jacobian):
        raise InputError(f"this {curve.form.name} law has fallen to zero before the target: it says nothing there")
    goal, rows, rest = np.split(jacobian, [1, 1 + len(have)], axis=1)
    blocks = _padded(rest, [len(one.x) for one in candidates])
    ridge = max((noise / PRIOR) ** 2, 1e-10) * np.eye(params.shape[1])
    covariance = np.linalg.inv(np.einsum("snp,snq->spq", rows, rows) + ridge)
    return _greedy(goal[:, 0], blocks, covariance, [set(one.parts) for one in candidates], prices, budget)


def _padded(rows: Float[np.ndarray, "s n p"], lengths: Sequence[int]) -> Float[np.ndarray, "s c m p"]:
    """The rows of each candidate side by side; a row of zeros informs nobody."""
    blocks = np.zeros((rows.shape[0], len(lengths), max(lengths, default=0), rows.shape[2]))
    begin = 0
    for index, length in enumerate(lengths):
        blocks[:, index, :length] = rows[:, begin : begin + length]
        begin += length
    return blocks


def _greedy(
    goal: Float[np.ndarray, "s p"],
    blocks: Float[np.ndarray, "s c m p"],
    covariance: Float[np.ndarray, "s p p"],
    parts: Sequence[set[str]],
    prices: Mapping[str, float],
    budget: float,
) -> list[Pick]:
    picks: list[Pick] = []
    paid: set[str] = set()
    spent, left = 0.0, 1.0
    while True:
        costs = np.array([sum(prices[part] for part in one - paid) for one in parts])
        open_ = costs <= budget - spent
        open_[[pick.index for pick in picks]] = False
        if not open_.any():
            return picks
        spread = np.einsum("scmp,spq->scmq", blocks, covariance)
        among = np.einsum("scmq,scnq->scmn", spread, blocks) + np.eye(blocks.shape[2])
        toward = np.einsum("scmq,sq->scm", spread, goal)
        solved = np.linalg.solve(among, toward[..., None])[..., 0]
        variance = 1.0 + np.einsum("sp,spq,sq->s", goal, covariance, goal)
        narrower = np.mean(-np.log1p(-np.einsum("scm,scm->sc", toward, solved) / variance[:, None]), axis=0)
        worth = np.where(open_, narrower / np.maximum(costs, 1e-12), -np.inf)
        best = int(np.argmax(worth))
        if narrower[best] <= 0:
            return picks
        gain = np.linalg.solve(among[:, best], spread[:, best])
        covariance = covariance - np.einsum("smp,smq->spq", spread[:, best], gain)
        spent, paid, left = spent + costs[best], paid | parts[best], left * float(np.exp(-0.5 * narrower[best]))
        picks.append(Pick(best, float(costs[best]), left))
