"""Does `scaling sweep suggest` save compute? On planted truth, beside a plain grid, by the same fits and intervals.

    python experiments/suggest_planted.py
    python experiments/suggest_planted.py --bound    # what nobody could better, without a fit: seconds

A Chinchilla law with 2 % of noise; five sizes by five amounts of data over a factor of 64; the target is four times
beyond both. The grid is run in its order, seed after seed, and measured after every size; the design begins with the
nine cheapest cells and spends a twentieth of a pass at a time on what `suggest` proposes of eight seeds of each cell.
For four shares of start-up in the cost of the largest run, since runs that cost little else are what a design feeds on.

Expected: three minutes of one core; the table of experiments/suggest_planted/RESULT.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling.laws.catalogue import chinchilla
from scaling.laws.design import PRIOR, Candidate, design, relative_jacobian
from scaling.laws.fit import Fit, fit_form

TRUTH = np.array([0.1, 6.0, 30.0, 0.35, 0.4])  # E, A, B, alpha, beta
NOISE, LEVELS, SEEDS, RANGE, BEYOND = 0.02, 5, 8, 64.0, 4.0
SIZES, DATA = np.geomspace(5e4, 5e4 * RANGE, LEVELS), np.geomspace(1e4, 1e4 * RANGE, LEVELS)
CELLS = np.array([(n, d) for n in SIZES for d in DATA])
TARGET = np.array([SIZES[-1], DATA[-1]]) * BEYOND
FORM = chinchilla()
START_UPS = (600, 200, 60, 20)  # the largest run takes so many times as long as it takes to start one
ROUND, PASSES = 0.05, 2  # of one pass over the grid


class Trial:
    """One planted table: eight seeds of each cell, and the cost of a run in passes over the grid."""

    def __init__(self, seed: int, start_up: float) -> None:
        self.x = np.tile(CELLS, (SEEDS, 1))
        work = start_up + (1 - start_up) * np.prod(self.x / CELLS[-1], axis=1)
        self.cost = work / work[: len(CELLS)].sum()
        self.loss = FORM.predict(TRUTH, self.x) * np.exp(np.random.default_rng(seed).normal(0, NOISE, len(self.x)))

    def fit(self, rows: Sequence[int]) -> Fit:
        """The law of these runs."""
        return fit_form(FORM, self.x[rows], self.loss[rows], np.arange(len(rows)), resamples=200)

    def measured(self, rows: Sequence[int]) -> tuple[float, float, float]:
        """Cost so far, width of the 95 % prediction interval at the target (log), and the log error there."""
        curve = self.fit(rows).curve
        assert curve is not None
        loss, low, high = (float(value[0]) for value in curve.predict(TARGET[None]))
        truth = float(FORM.predict(TRUTH, TARGET[None])[0])
        return float(self.cost[rows].sum()), float(np.log(high / max(low, 1e-9))), float(np.log(loss / truth))

    def grid(self) -> list[tuple[float, float, float]]:
        """The plain grid, from four sizes on."""
        counts = range(LEVELS * 4, LEVELS * LEVELS * PASSES + 1, LEVELS)
        return [self.measured(list(range(count))) for count in counts]

    def designed(self, until: float) -> list[tuple[float, float, float]]:
        """Rounds of suggestions until the cost is `until`."""
        have = [LEVELS * i + j for i in range(3) for j in range(3)]
        found = [self.measured(have)]
        while found[-1][0] + ROUND <= until:
            fit = self.fit(have)
            assert fit.curve is not None
            left = [i for i in range(len(self.x)) if i not in have]
            candidates = [Candidate(self.x[[i]], {str(i)}) for i in left]
            prices = {str(i): float(self.cost[i]) for i in left}
            picks = design(fit.curve, self.x[have], TARGET, candidates, prices, ROUND, fit.sigma)
            have += [left[pick.index] for pick in picks]
            found.append(self.measured(have))
        return found


def bound(start_up: float) -> tuple[float, float]:
    """Passes after which the best design of all has the grid's interval of 4/5 of a pass' runs and of one pass.

    The law is known, the interval is that of linear theory, and a design may repeat a cell a fraction of a time: the
    multiplicative algorithm for the variance at one point at a given cost.
    """
    cost = Trial(0, start_up).cost[: len(CELLS)]
    goal, *rows = relative_jacobian(FORM, TRUTH[None], np.vstack([TARGET, CELLS]))[0]
    ridge, cells = (NOISE / PRIOR) ** 2 * np.eye(len(goal)), np.array(rows)

    def variance(weight: np.ndarray) -> tuple[float, np.ndarray]:
        toward = np.linalg.solve(ridge + cells.T @ (weight[:, None] * cells), goal)
        return float(goal @ toward), (cells @ toward) ** 2 / cost

    def best(budget: float) -> float:
        weight = np.full(len(cost), budget / cost.sum())
        for _ in range(3000):
            weight = weight * np.sqrt(variance(weight)[1])
            weight *= budget / (weight @ cost)
        return variance(weight)[0]

    def needed(count: int) -> float:
        asked, low, high = variance(1.0 * (np.arange(len(cost)) < count))[0], 0.01, 2.0
        for _ in range(20):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if best(middle) <= asked else (middle, high)
        return high / float(cost[:count].sum())

    return needed(LEVELS * (LEVELS - 1)), needed(LEVELS * LEVELS)


def reached(found: Sequence[tuple[float, float, float]], width: float) -> float:
    """The cost at which the interval is first that narrow; infinite where it never is."""
    return next((cost for cost, wide, _ in found if wide <= width), np.inf)


def compare(start_up: float, trials: int, widths: Sequence[float]) -> list[str]:
    """A row of the table for each width: medians over trials, and how many reached it at half the grid's cost."""
    grids, designs = [], []
    for seed in range(trials):
        trial = Trial(seed, start_up)
        grids.append(trial.grid())
        designs.append(trial.designed(1.0))
    lines = []
    for width in widths:
        plain = np.array([reached(one, width) for one in grids])
        ours = np.array([reached(one, width) for one in designs])
        within = int(np.sum(ours <= 0.5 * plain))
        spent, needed = np.median(ours), np.median(plain)
        told = [f"{value:.2f}" if np.isfinite(value) else "not reached" for value in (needed, spent)]
        ratio = f"{spent / needed:.2f}" if np.isfinite(spent) and np.isfinite(needed) else "-"
        lines.append(f"| 1/{1 / start_up:.0f} | {width:g} | {told[0]} | {told[1]} | {ratio} | {within} of {trials} |")
    errors = [np.abs([one[-1][2] for one in found]) for found in (grids, designs)]
    costs = [np.median([one[-1][0] for one in found]) for found in (grids, designs)]
    print(f"start-up 1/{1 / start_up:.0f}: mean error of the prediction {errors[0].mean():.3f} after {costs[0]:.2f} "
          f"passes of the grid, {errors[1].mean():.3f} after {costs[1]:.2f} of the design")  # fmt: skip
    return lines


def main() -> None:
    """The table, printed and kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("experiments/suggest_planted"))
    parser.add_argument("--bound", action="store_true", help="the best that any design could do, and nothing else")
    parser.add_argument("--start-ups", type=float, nargs="+", default=START_UPS, help="1 over the share (600 ...)")
    arguments = parser.parse_args()
    if arguments.bound:
        for start_up in 1 / np.array(arguments.start_ups):
            told = " and ".join(f"{ratio:.2f}" for ratio in bound(start_up))
            print(f"start-up 1/{1 / start_up:.0f}: {told} of what the grid costs up to its fourth size and whole")
        return
    lines = [
        "| start-up, of the largest run | interval (log width) | passes: grid | suggest | ratio | half or less |",
        "|---|---|---|---|---|---|",
    ]
    for start_up in 1 / np.array(arguments.start_ups):
        lines += compare(start_up, arguments.trials, (0.35, 0.3, 0.25))
    print("\n".join(lines))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
