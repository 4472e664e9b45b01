"""A power law with floor and one smooth break (Caballero et al. 2023, BNSL with n = 1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.laws.curved import Curved, at_limits, softplus
from scaling.laws.forms import EXPONENTS, TINY, OneVariable, grid_of, projected

WIDTHS = (0.02, 3.0)  # of the break, in e-folds of x


@dataclass(frozen=True)
class Broken(OneVariable, Curved):
    """`E + A z^-alpha (1 + z^(1/w))^(-w (beta - alpha))`, z = x / x0: slope alpha before the break, beta after it."""

    variable: str = "data"
    name: str = "broken"
    formula: str = "E + A z^-alpha (1 + z^(1/w))^(-w (beta - alpha)), z = x / x0"
    parameters: tuple[str, ...] = ("E", "A", "alpha", "beta", "x0", "w")
    units: tuple[str, ...] = ("loss", "loss", "1", "1", "unit of x", "e-folds of x")
    levels: tuple[int, ...] = (7,)
    cells: int = 7
    exponents: tuple[str, ...] = ("alpha", "beta")

    def predict(self, params: Float[np.ndarray, "*b 6"], x: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x` for each parameter vector."""
        floor, a, alpha, beta, x0, w = (params[..., i, None] for i in range(6))
        z = np.log(x[:, 0]) - np.log(x0)
        return floor + a * np.exp(-alpha * z - w * (beta - alpha) * softplus(z / w)[0])

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The break lies within the data."""
        low = [np.log(TINY), np.log(TINY), EXPONENTS[0], EXPONENTS[0], float(u.min()), np.log(WIDTHS[0])]
        high = [np.log(10.0 * top)] * 2 + [EXPONENTS[1]] * 2 + [float(u.max()), np.log(WIDTHS[1])]
        return np.array(low), np.array(high)

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b s 6"]:
        """Variable projection over slopes, place and width of the break."""
        slopes = (0.05, 0.15, 0.4, 1.0, 2.0)
        places = tuple(np.quantile(u[:, 0], [0.2, 0.35, 0.5, 0.65, 0.8]))
        grid = grid_of(slopes, slopes, places, (np.log(0.1), np.log(0.5)))
        alpha, beta, place, w = (grid[:, i, None] for i in range(4))
        z, w = u[None, :, 0] - place, np.exp(w)
        curve = np.exp(-alpha * z - w * (beta - alpha) * softplus(z / w)[0])
        linear, best = projected(np.stack([np.ones_like(curve), curve], axis=1), y, weights, count)
        return np.concatenate([linear, grid[best]], axis=-1)

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n] and its Jacobian [b n 6]."""
        floor, a, alpha, beta, place, log_w = (theta[:, i, None] for i in range(6))
        w = np.exp(log_w)
        s = (u[None, :, 0] - place) / w
        soft, slope = softplus(s)
        line = a - w * (alpha * s + (beta - alpha) * soft)
        f = np.logaddexp(floor, line)
        share = np.exp(line - f)
        parts = [np.ones_like(line), w * (soft - s), -w * soft, alpha + (beta - alpha) * slope,
                 -(beta - alpha) * w * (soft - s * slope)]  # fmt: skip
        return f, np.stack([1.0 - share, *(share * part for part in parts)], axis=-1), theta

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Exponentiate all but the slopes."""
        out = np.exp(theta)
        out[..., 2:4] = theta[..., 2:4]
        return out

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Losses by their scale, the break by that of x."""
        return params * np.array([y, y, 1.0, 1.0, np.exp(log_x[0]), 1.0])

    def edges(self, theta: Float[np.ndarray, " 6"], u: Float[np.ndarray, "n 1"]) -> list[str]:
        """In words, each parameter at an edge, and a break that changes nothing."""
        floor = 1.0 - self.evaluate(theta[None], u)[1][0, :, 1].max()
        found = ["E is zero"] if floor < 1e-3 and np.exp(theta[0]) < 2 * TINY else []
        if abs(theta[3] - theta[2]) < 1e-3:
            found.append("the two slopes are one: there is no break")
        return found + at_limits(self, theta, u, range(2, 6))
