"""From validation loss to success rate: a falling sigmoid in the logarithm of the loss, with its own bootstrap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.laws.curved import Curved, at_limits
from scaling.laws.fit import rounded, widened
from scaling.laws.forms import grid_of
from scaling.laws.observations import levels
from scaling.laws.solve import solve
from scaling.laws.table import Table, is_missing

WIDTH = 0.05  # of the Huber loss on the success rate
STEEPNESS = (0.05, 200.0)
PARAMETERS = ("top", "midpoint", "steepness")


@dataclass(frozen=True)
class Sigmoid(Curved):
    """`top / (1 + (L / midpoint)^steepness)`; its coordinates are (top, log midpoint, log steepness)."""

    name: str = "sigmoid"
    formula: str = "top / (1 + (L / midpoint)^steepness)"
    parameters: tuple[str, ...] = PARAMETERS
    units: tuple[str, ...] = ("1", "loss", "1")
    variables: tuple[str, ...] = ("loss",)
    falling: tuple[str, ...] = ("loss",)
    levels: tuple[int, ...] = (4,)
    cells: int = 4
    exponents: tuple[str, ...] = ("steepness",)

    def predict(self, params: Float[np.ndarray, "*b 3"], x: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "*b n"]:
        """Success rate at each loss."""
        top, middle, steep = (params[..., i, None] for i in range(3))
        with np.errstate(over="ignore"):
            return top / (1.0 + np.exp(steep * (np.log(x[:, 0]) - np.log(middle))))

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The midpoint within an e-fold of the data, the top at most 1."""
        low = [0.01, float(u.min()) - 1.0, np.log(STEEPNESS[0])]
        return np.array(low), np.array([1.0, float(u.max()) + 1.0, np.log(STEEPNESS[1])])

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b s 3"]:
        """Variable projection: the top is linear once place and steepness are given."""
        grid = grid_of(tuple(np.linspace(u.min(), u.max(), 9)), tuple(np.log(np.geomspace(0.5, 64.0, 8))))
        shape = self.predict(np.column_stack([np.ones(len(grid)), np.exp(grid)]), np.exp(u))
        top = np.clip((weights * y) @ shape.T / np.maximum(weights @ (shape**2).T, 1e-12), 0.01, 1.0)
        miss = np.stack([np.sum(w * (t[:, None] * shape - y) ** 2, axis=1) for w, t in zip(weights, top, strict=True)])
        best = np.argsort(miss, axis=1, kind="stable")[:, :count]
        return np.concatenate([np.take_along_axis(top, best, axis=1)[..., None], grid[best]], axis=-1)

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Success rate [b n] (itself, not its logarithm) and its Jacobian [b n 3]."""
        top, middle, steep = theta[:, :1], theta[:, 1:2], np.exp(theta[:, 2:])
        away = u[None, :, 0] - middle
        with np.errstate(over="ignore"):
            share = 1.0 / (1.0 + np.exp(steep * away))
        slope = top * share * (1.0 - share) * steep
        return top * share, np.stack([share, slope, -slope * away], axis=-1), theta

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Exponentiate midpoint and steepness."""
        return np.concatenate([theta[..., :1], np.exp(theta[..., 1:])], axis=-1)

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """The midpoint in the units of the loss."""
        return params * np.array([1.0, np.exp(log_x[0]), 1.0])

    def edges(self, theta: np.ndarray, u: np.ndarray) -> list[str]:
        """A midpoint or a steepness at its limit; a top of 1 is a place it may well be at."""
        return at_limits(self, theta, u, range(1, 3))


@dataclass(frozen=True)
class Link:
    """A fitted link: `record` has status, parameters, intervals; `draws` and `noise` make intervals of predictions."""

    record: Mapping[str, Any]
    params: Float[np.ndarray, " 3"]
    draws: Float[np.ndarray, "b 3"]
    noise: Float[np.ndarray, " b"]

    def predict(self, loss: float, losses: Float[np.ndarray, " b"] | None = None) -> tuple[float, float, float]:
        """(success, low, high) at a loss; `losses` are draws of a predicted loss, whose doubt is then added."""
        if not (np.isfinite(loss) and loss > 0):
            raise InputError(f"loss = {loss} is not a positive number")
        form = Sigmoid()
        at = np.full(len(self.draws), loss) if losses is None else np.resize(losses, len(self.draws))
        drawn = np.array([form.predict(row, np.array([[x]]))[0] for row, x in zip(self.draws, at, strict=True)])
        samples = np.clip(drawn + self.noise, 0.0, 1.0)
        low, high = np.quantile(samples, self.record["tails"])
        return float(form.predict(self.params, np.array([[loss]]))[0]), float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready dict."""
        return {**self.record, "draws": np.column_stack([self.draws, self.noise]).tolist()}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> "Link":
        """Inverse of `to_json`."""
        rows = np.array(record["draws"], float)
        rest = {key: value for key, value in record.items() if key != "draws"}
        return Link(rest, np.array([rest["params"][name] for name in PARAMETERS]), rows[:, :3], rows[:, 3])


def fit_link(table: Table, *, loss: str, success: str, run: str | None = None, resamples: int = 1000, seed: int = 0,
             level: float = 0.95) -> Link:  # fmt: skip
    """Fit success (in [0, 1]) against loss; status converged, at a bound, flat, inverted or not converged."""
    x, bad = table.numeric(loss)
    y, worse = table.numeric(success)
    reasons = {**worse, **bad}
    for name, values, wrong in ((loss, x, x <= 0), (success, y, (y < 0) | (y > 1))):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(f"row {row} of {table.source} has {name} = {values[row]:g}: a link needs a loss above 0 "
                             "and a success rate within [0, 1]")  # fmt: skip
    good = np.array([i for i in range(len(table)) if i not in reasons], int)
    x, y = x[good], y[good]
    if len(good) < 5 or len(levels(x)) < 4:
        raise InputError(f"{table.source}: a link needs 5 rows at 4 losses, {len(good)} are usable: add runs")
    cells = table.column(run)[good] if run else np.arange(len(good))
    names = [f"row {i}" if is_missing(c) else str(c) for i, c in zip(good, cells, strict=True)]
    owner = np.unique(names, return_inverse=True)[1]
    form, groups = Sigmoid(), int(owner.max()) + 1
    centre = np.log(x).mean()
    u, ones = (np.log(x) - centre)[:, None], np.ones((1, len(y)))
    first = form.starts(u, y, ones, 8)[0]
    found = solve(form, u, y, np.repeat(ones, len(first), axis=0), first, WIDTH)
    best = int(np.argmin(found.objective))
    theta = found.theta[best : best + 1]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=resamples).astype(float)[:, owner]
    again = solve(form, u, y, weights, np.repeat(theta, resamples, axis=0), WIDTH)
    params = form.unscale(form.natural(theta), np.array([centre]), 1.0)[0]
    draws = form.unscale(form.natural(again.theta), np.array([centre]), 1.0)
    residuals = y - form.predict(params, x[:, None])
    noise = rng.choice(residuals, resamples) * np.sqrt(len(y) / max(1, len(y) - 3))
    slope = float(np.polyfit(np.log(x), y, 1)[0]) if np.ptp(y) > 0 else 0.0
    error = float(np.std(y - np.polyval(np.polyfit(np.log(x), y, 1), np.log(x)))) / (
        float(np.std(np.log(x))) * np.sqrt(max(1, len(y) - 2))
    )
    notes = form.edges(theta[0], u)
    status = "at a bound" if notes else "converged" if found.converged[best] else "not converged"
    if abs(slope) <= 2.0 * error:
        status = "flat"
    elif slope > 0:
        status = "inverted"
    q = widened(level, groups, 3)
    tails = [q, 1.0 - q]
    bounds = np.quantile(draws, tails, axis=0)
    record = {
        "form": form.name, "formula": form.formula, "status": status, "notes": notes, "n": len(good), "runs": groups,
        "params": dict(zip(PARAMETERS, params.tolist(), strict=True)), "level": level, "tails": tails,
        "standard_errors": dict(zip(PARAMETERS, np.std(draws, axis=0, ddof=1).tolist(), strict=True)),
        "intervals": {name: bounds[:, i].tolist() for i, name in enumerate(PARAMETERS)},
        "objective": float(found.objective[best]), "residual_noise": float(np.std(residuals)),
        "columns": {"loss": loss, "success": success, **({"run": run} if run else {})},
        "excluded": [{"row": row, "reason": why} for row, why in sorted(reasons.items())],
    }  # fmt: skip
    return Link(record, params, rounded(draws), rounded(noise))
