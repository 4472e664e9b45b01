"""The law of a student of a teacher (Busbridge et al. 2025): the teacher's loss is what the student approaches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.laws.curved import Curved, at_limits, softplus
from scaling.laws.forms import EXPONENTS, grid_of


@dataclass(frozen=True)
class Distillation(Curved):
    """`L_T + L_T^-c0 (1 + (L_T / (L_S d1))^(1/f1))^(-c1 f1) (A N^-alpha + B D^-beta)^gamma` (arXiv 2502.08606, eq. 8).

    L_T is the teacher's loss and L_S that of the same student taught without a teacher (column `alone`); without that
    column L_S is 1 and d1 is the teacher's loss at which the capacity gap opens.
    """

    alone: bool = False
    name: str = "distillation"
    parameters: tuple[str, ...] = ("A", "B", "alpha", "beta", "gamma", "c0", "c1", "d1", "f1")
    falling: tuple[str, ...] = ("size", "data")
    cells: int = 10
    exponents: tuple[str, ...] = ("alpha", "beta", "gamma")

    @property
    def formula(self) -> str:
        """With the student's own loss where the table has it."""
        ratio = "L_T / (L_S d1)" if self.alone else "L_T / d1"
        return f"L_T + L_T^-c0 (1 + ({ratio})^(1/f1))^(-c1 f1) (A N^-alpha + B D^-beta)^gamma"

    @property
    def units(self) -> tuple[str, ...]:
        """Of the parameters, in their order."""
        return ("size^alpha", "data^beta", "1", "1", "1", "1", "1", "1" if self.alone else "loss", "1")

    @property
    def variables(self) -> tuple[str, ...]:
        """Roles of the columns of `x`."""
        return ("size", "data", "teacher", *(("alone",) if self.alone else ()))

    @property
    def levels(self) -> tuple[int, ...]:
        """Distinct values each variable needs."""
        return (3, 3, 4, *((4,) if self.alone else ()))

    def centre(self, x: Float[np.ndarray, "n v"], loss: Float[np.ndarray, " n"]) -> tuple[np.ndarray, float]:
        """Losses of teacher and student share the scale of the loss."""
        log_x, y = super().centre(x, loss)
        return np.append(log_x[:2], np.full(x.shape[1] - 2, np.log(y))), y

    def predict(self, params: Float[np.ndarray, "*b 9"], x: Float[np.ndarray, "n v"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x` for each parameter vector."""
        theta = params.copy()
        with np.errstate(divide="ignore"):
            theta[..., [0, 1, 7, 8]] = np.log(params[..., [0, 1, 7, 8]])
        return np.exp(self.evaluate(theta.reshape(-1, 9), np.log(x))[0]).reshape(*params.shape[:-1], len(x))

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box of (log A, log B, alpha, beta, gamma, c0, c1, log d1, log f1)."""
        low, high = EXPONENTS
        return (
            np.array([-30.0, -30.0, low, low, 0.05, -20.0, 0.0, -4.0, -5.0]),
            np.array([30.0, 30.0, high, high, 5.0, 20.0, 1e3, 4.0, 2.0]),
        )

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b s 9"]:
        """Variable projection on the log of the excess over the teacher: gamma, c0, c1 and an amplitude are linear."""
        tau = u[:, 2]
        gap = tau - u[:, 3] if self.alone else tau
        places = tuple(np.quantile(gap, [0.2, 0.5, 0.8]))
        exponents = (0.15, 0.35, 0.7)
        grid = grid_of(exponents, exponents, (-1.5, 0.0, 1.5), places, tuple(np.log([0.05, 0.3])))
        alpha, beta, odds, place, log_f = (grid[:, i, None] for i in range(5))
        width = np.exp(log_f)
        reach = np.logaddexp(-alpha * u[None, :, 0], odds - beta * u[None, :, 1])
        bend = -width * softplus((gap[None] - place) / width)[0]
        excess = np.log(np.maximum(y - np.exp(tau), 1e-3 * y))
        columns = [np.ones_like(reach), reach, np.broadcast_to(-tau, reach.shape), bend]
        z = np.stack(columns, axis=1)  # [g 4 n]
        gram = np.einsum("bn,gin,gjn->bgij", weights, z, z, optimize=True)
        gram += 1e-9 * np.trace(gram, axis1=-2, axis2=-1)[..., None, None] * np.eye(4)
        moment = np.einsum("bn,gin->bgi", weights * excess, z, optimize=True)
        solution = np.linalg.solve(gram, moment[..., None])[..., 0]
        fine = (solution[..., 1] > 0.05) & (solution[..., 3] >= -1e-9)
        gain = np.where(fine, np.sum(solution * moment, axis=-1), -np.inf)
        best = np.argsort(-gain, axis=1, kind="stable")[:, : min(count, len(grid))]
        linear = np.take_along_axis(solution, best[..., None], axis=1)
        gamma = np.clip(linear[..., 1], 0.05, 5.0)
        chosen = grid[best]
        amplitude = linear[..., 0] / gamma
        return np.stack(
            [amplitude, amplitude + chosen[..., 2], chosen[..., 0], chosen[..., 1], gamma, linear[..., 2],
             linear[..., 3], chosen[..., 3], chosen[..., 4]], axis=-1,
        )  # fmt: skip

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n] and its Jacobian [b n 9]."""
        a, b, alpha, beta, gamma, c0, c1, place, log_f = (theta[:, i, None] for i in range(9))
        n, d, tau = u[None, :, 0], u[None, :, 1], u[None, :, 2]
        gap = tau - u[None, :, 3] if self.alone else tau
        width = np.exp(log_f)
        s = (gap - place) / width
        soft, slope = softplus(s)
        size, data = a - alpha * n, b - beta * d
        reach = np.logaddexp(size, data)
        by_size = np.exp(size - reach)
        by_data = 1.0 - by_size
        excess = gamma * reach - c0 * tau - c1 * width * soft
        f = np.logaddexp(tau, excess)
        parts = [gamma * by_size, gamma * by_data, -gamma * by_size * n, -gamma * by_data * d, reach, -tau,
                 -width * soft, c1 * slope, -c1 * width * (soft - s * slope)]  # fmt: skip
        share = np.exp(excess - f)
        return f, np.stack([share * part for part in parts], axis=-1), theta

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Exponentiate amplitudes, place and width of the gap."""
        out = theta.copy()
        out[..., [0, 1, 7, 8]] = np.exp(theta[..., [0, 1, 7, 8]])
        return out

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Amplitudes take up the units of the axes and, through gamma, those of L_T^(1 + c0)."""
        out = params.copy()
        shift = (1.0 + out[..., 5]) * np.log(y) / out[..., 4]
        if not self.alone:
            out[..., 7] *= y
        out[..., 0] *= np.exp(out[..., 2] * log_x[0] + shift)
        out[..., 1] *= np.exp(out[..., 3] * log_x[1] + shift)
        return out

    def edges(self, theta: Float[np.ndarray, " 9"], u: Float[np.ndarray, "n v"]) -> list[str]:
        """In words, each parameter at an edge; without a gap there is nothing to place."""
        if theta[6] < 1e-6:
            return ["c1 is zero: no capacity gap is seen"]
        return at_limits(self, theta, u, range(2, 9))
