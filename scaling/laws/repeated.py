"""Chinchilla's law where data are repeated (Muennighoff et al. 2023): epochs and excess parameters are worth less."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.laws.curved import Curved, at_limits
from scaling.laws.forms import PowerTerms, grid_of, projected

REPEATS = (1e-2, 1e4)  # range of R_D* and R_N* that is searched
_PAIR = PowerTerms("pair", "", ("size", "data"), ("E", "A", "B", "alpha", "beta"), (), (), (1, 1), 1)


@dataclass(frozen=True)
class Repeated(Curved):
    """`E + A N'^-alpha + B D'^-beta` with effective size and data (arXiv 2305.16264, eq. 5 and 6).

    D' = U + U R_D* (1 - exp(-(D/U - 1) / R_D*)) for U unique data; N' likewise beyond the size that is
    compute-optimal for U. Weakly identified: judge it by its objective and profile, not by its parameters.
    """

    name: str = "repeated"
    formula: str = "E + A N'^-alpha + B D'^-beta, D' = U (1 + R_D* (1 - exp(-(D/U - 1) / R_D*))), N' likewise"
    parameters: tuple[str, ...] = ("E", "A", "B", "alpha", "beta", "R_D", "R_N")
    units: tuple[str, ...] = ("loss", "loss x size^alpha", "loss x data^beta", "1", "1", "epochs", "1")
    variables: tuple[str, ...] = ("size", "data", "unique_data")
    falling: tuple[str, ...] = ("size", "data")
    levels: tuple[int, ...] = (3, 3, 2)
    cells: int = 8
    exponents: tuple[str, ...] = ("alpha", "beta")

    def centre(self, x: Float[np.ndarray, "n 3"], loss: Float[np.ndarray, " n"]) -> tuple[np.ndarray, float]:
        """Data and unique data share a centre, so that epochs are what they are."""
        log_x, y = super().centre(x, loss)
        return np.array([log_x[0], log_x[1], log_x[1]]), y

    def predict(self, params: Float[np.ndarray, "*b 7"], x: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x` for each parameter vector."""
        with np.errstate(divide="ignore"):
            theta = np.log(params)
        theta[..., 3:5] = params[..., 3:5]
        flat = theta.reshape(-1, 7)
        return np.exp(self.evaluate(flat, np.log(x))[0]).reshape(*params.shape[:-1], len(x))

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chinchilla's box and REPEATS."""
        low, high = _PAIR.bounds(top, u)
        return np.append(low, np.log([REPEATS[0]] * 2)), np.append(high, np.log([REPEATS[1]] * 2))

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b s 7"]:
        """Variable projection over the exponents and the worth of epochs, at three worths of excess parameters."""
        grid = grid_of((0.1, 0.2, 0.35, 0.6, 1.0), (0.1, 0.2, 0.35, 0.6, 1.0), tuple(np.log([3.0, 15.0, 100.0])))
        worth = np.exp(grid[:, 2, None])
        unique = np.minimum(u[:, 1], u[:, 2])
        data = unique + np.log1p(worth * -np.expm1(-np.expm1(u[:, 1] - unique) / worth))
        powers = [np.ones_like(data), np.exp(-grid[:, :1] * u[None, :, 0]), np.exp(-grid[:, 1:2] * data)]
        linear, best = projected(np.stack(powers, axis=1), y, weights, -(-count // 3))
        start = np.concatenate([linear, grid[best]], axis=-1)
        excess = np.log([5.0, 50.0, 1.0])
        parts = [np.concatenate([start, np.full((*start.shape[:-1], 1), e)], axis=-1) for e in excess]
        return np.concatenate(parts, axis=1)[:, : max(count, 1)]

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n] and its Jacobian [b n 7]."""
        floor, a, b, alpha, beta, log_rd, log_rn = (theta[:, i, None] for i in range(7))
        n, d = u[None, :, 0], u[None, :, 1]
        q = np.minimum(d, u[None, :, 2])  # log of the unique data
        rd, epochs = np.exp(log_rd), np.expm1(d - q)
        kept = np.exp(-epochs / rd)
        gain = 1.0 + rd * (1.0 - kept)
        data, data_by_rd = q + np.log(gain), (rd * (1.0 - kept) - epochs * kept) / gain
        g = (np.log(alpha) + a - np.log(beta) - b) / (alpha + beta)
        best = g + beta / alpha * (g + q)  # log of the size that is compute-optimal for the unique data
        within = n <= best
        p = np.where(within, n, np.maximum(best, n - 30.0))
        rn, excess = np.exp(log_rn), np.expm1(n - p)
        left = np.exp(-excess / rn)
        grown = 1.0 + rn * (1.0 - left)
        size, size_by_rn = p + np.log(grown), (rn * (1.0 - left) - excess * left) / grown
        by_p = np.where(within | (best < n - 30.0), 0.0, 1.0 - left * (excess + 1.0) / grown)
        ratio = 1.0 + beta / alpha
        by_alpha = (1.0 / (alpha * (alpha + beta)) - g / (alpha + beta)) * ratio - beta / alpha**2 * (g + q)
        by_beta = -(1.0 / (beta * (alpha + beta)) + g / (alpha + beta)) * ratio + (g + q) / alpha
        lines = np.stack(np.broadcast_arrays(floor, a - alpha * size, b - beta * data), axis=-1)
        peak = lines.max(axis=-1, keepdims=True)
        share = np.exp(lines - peak)
        total = share.sum(axis=-1, keepdims=True)
        s0, s1, s2 = np.moveaxis(share / total, -1, 0)
        pull = s1 * alpha * by_p
        parts = [s0, s1 - pull / alpha, s2 + pull / alpha, -s1 * size - pull * by_alpha, -s2 * data - pull * by_beta,
                 -s2 * beta * data_by_rd, -s1 * alpha * size_by_rn]  # fmt: skip
        return (peak + np.log(total))[..., 0], np.stack(parts, axis=-1), theta

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Exponentiate all but the exponents."""
        out = np.exp(theta)
        out[..., 3:5] = theta[..., 3:5]
        return out

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Amplitudes at the mean x become amplitudes at x = 1; counts of epochs have no unit."""
        out = params.copy()
        out[..., :3] *= y
        out[..., 1:3] *= np.exp(out[..., 3:5] * log_x[:2])
        return out

    def edges(self, theta: Float[np.ndarray, " 7"], u: Float[np.ndarray, "n 3"]) -> list[str]:
        """In words, each parameter at an edge."""
        jacobian = self.evaluate(theta[None], u)[1][0]
        found = ["E is zero"] if jacobian[:, 0].max() < 1e-3 else []
        return found + at_limits(self, theta, u, range(3, 7))
