"""Functional forms of scaling laws: small frozen objects with parameters, units, prediction, derivatives and starts.

Inside the solver every form works on scaled data, `u` = log(x / geometric mean of x) and loss / geometric mean of loss,
in its own coordinates `theta` (logarithms of floors and amplitudes); `natural` and `unscale` lead back.
"""

from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

TINY = 1e-6  # smallest floor or amplitude that is searched, relative to the mean loss
EXPONENTS = (1e-3, 4.0)  # range of exponents that is searched


class Form(Protocol):
    """What every form offers; `levels` are the distinct values each variable needs, `cells` the distinct points.

    The loss of a law has to fall with each of `falling`; the other variables are conditions, not budgets.
    """

    @property
    def name(self) -> str: ...
    @property
    def formula(self) -> str: ...
    @property
    def parameters(self) -> tuple[str, ...]: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def variables(self) -> tuple[str, ...]: ...
    @property
    def falling(self) -> tuple[str, ...]: ...
    @property
    def levels(self) -> tuple[int, ...]: ...
    @property
    def cells(self) -> int: ...
    @property
    def exponents(self) -> tuple[str, ...]: ...

    def predict(self, params: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Loss at `x` [n v] for each parameter vector [*b p]."""

    def centre(self, x: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, float]:
        """Scales of the data: a centre of log x for each variable, and of the loss."""

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box of `theta`; `top` is the largest scaled loss."""

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
        """Starting points [b s p] for each row of `weights`, best first."""

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n], its Jacobian [b n p] and what `curvature` needs."""

    def curvature(self, aux: Any, jacobian: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Sum over points of `psi` times the second derivative of the log prediction [b p p]."""

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """`theta` to parameters of the scaled data."""

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Parameters of the scaled data to those of the data; `log_x` and `y` are the scales."""

    def edges(self, theta: np.ndarray, u: np.ndarray) -> list[str]:
        """In words, each parameter that sits at an edge of its range."""


class Plain:
    """What most forms share: every axis centred on its geometric mean, no edge to speak of."""

    def centre(self, x: Float[np.ndarray, "n v"], loss: Float[np.ndarray, " n"]) -> tuple[np.ndarray, float]:
        """Mean of log x for each variable, geometric mean of the loss."""
        return np.log(x).mean(axis=0), float(np.exp(np.log(loss).mean()))

    def edges(self, theta: np.ndarray, u: np.ndarray) -> list[str]:
        """No parameter has an edge."""
        return []


class OneVariable:
    """A form of one variable, whatever its role."""

    variable: str

    @property
    def variables(self) -> tuple[str, ...]:
        """Roles of the columns of `x`."""
        return (self.variable,)

    @property
    def falling(self) -> tuple[str, ...]:
        """The only variable."""
        return self.variables


@dataclass(frozen=True)
class Constant(Plain):
    """The flat model `E`: what every law has to beat."""

    name: str = "constant"
    formula: str = "E"
    parameters: tuple[str, ...] = ("E",)
    units: tuple[str, ...] = ("loss",)
    variables: tuple[str, ...] = ()
    falling: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    cells: int = 1
    exponents: tuple[str, ...] = ()

    def predict(self, params: Float[np.ndarray, "*b 1"], x: Float[np.ndarray, "n v"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x` for each parameter vector."""
        return np.broadcast_to(params[..., :1], (*params.shape[:-1], len(x))).copy()

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box of `theta`; `top` is the largest scaled loss."""
        return np.array([-np.inf]), np.array([np.inf])

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b 1 1"]:
        """Weighted mean of the log loss."""
        return ((weights @ np.log(y)) / weights.sum(axis=1))[:, None, None]

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n], its Jacobian [b n p] and what `curvature` needs."""
        f = np.broadcast_to(theta[:, :1], (len(theta), len(u)))
        return f, np.ones((*f.shape, 1)), None

    def curvature(self, aux: Any, jacobian: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Sum over points of `psi` times the second derivative of the log prediction [b p p]."""
        return np.zeros((len(psi), 1, 1))

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """`theta` to parameters of the scaled data."""
        return np.exp(theta)

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Parameters of the scaled data to those of the data; `log_x` and `y` are the scales."""
        return params * y


@dataclass(frozen=True)
class LogLinear(OneVariable, Plain):
    """`E - B ln x`: no floor, so never for long extrapolation; the form EgoScale reports."""

    variable: str = "data"
    name: str = "log"
    formula: str = "E - B ln x"
    parameters: tuple[str, ...] = ("E", "B")
    units: tuple[str, ...] = ("loss", "loss per e-fold")
    levels: tuple[int, ...] = (3,)
    cells: int = 3
    exponents: tuple[str, ...] = ()

    def predict(self, params: Float[np.ndarray, "*b 2"], x: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x`; NaN where the line has fallen to zero or below."""
        value = params[..., :1] - params[..., 1:] * np.log(x[:, 0])
        return np.where(value > 0, value, np.nan)

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unbounded: the slope may take either sign."""
        return np.full(2, -np.inf), np.full(2, np.inf)

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b s 2"]:
        """The line of least relative squares (first), and the flat line, which is always positive."""
        z = np.stack([np.ones(len(y)), -u[:, 0]], axis=1) / y[:, None]
        gram = np.einsum("bn,ni,nj->bij", weights, z, z) + 1e-12 * weights.sum(axis=1)[:, None, None] * np.eye(2)
        line = np.linalg.solve(gram, (weights @ z)[..., None])[..., 0]
        lowest = np.min(line[:, :1] - line[:, 1:] * u[None, :, 0], axis=1)
        flat = np.stack([(weights @ y) / weights.sum(axis=1), np.zeros(len(weights))], axis=1)
        line = np.where((lowest > 1e-3)[:, None], line, flat)
        return np.stack([line, flat], axis=1)

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n] (NaN where not positive) and its Jacobian [b n 2]."""
        value = theta[:, :1] - theta[:, 1:] * u[None, :, 0]
        value = np.where(value > 1e-9, value, np.nan)
        return np.log(value), np.stack([1.0 / value, -u[None, :, 0] / value], axis=-1), None

    def curvature(self, aux: Any, jacobian: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Second derivative of log(E - B u) is minus the outer product of its gradient."""
        return -(jacobian * psi[..., None]).swapaxes(1, 2) @ jacobian

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """The coordinates are the parameters."""
        return theta

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Shift of ln x moves into E."""
        return np.stack([y * (params[..., 0] + params[..., 1] * log_x[0]), y * params[..., 1]], axis=-1)


@dataclass(frozen=True)
class PowerTerms(Plain):
    """Floor plus one falling power of each variable; log of the prediction is a log-sum-exp of lines in `theta`.

    Parameters are (E, amplitudes, exponents); `theta` = (log E, log amplitudes at the mean x, exponents).
    """

    name: str
    formula: str
    variables: tuple[str, ...]
    parameters: tuple[str, ...]
    units: tuple[str, ...]
    falling: tuple[str, ...]
    levels: tuple[int, ...]
    cells: int

    @property
    def exponents(self) -> tuple[str, ...]:
        """Names of the exponents."""
        return self.parameters[1 + len(self.variables) :]

    def predict(self, params: Float[np.ndarray, "*b p"], x: Float[np.ndarray, "n v"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x` for each parameter vector."""
        k = len(self.variables)
        total = np.broadcast_to(params[..., :1], (*params.shape[:-1], len(x))).copy()
        for i in range(k):
            with np.errstate(divide="ignore", over="ignore"):
                power = np.log(params[..., 1 + i, None]) - params[..., 1 + k + i, None] * np.log(x[:, i])
                total += np.exp(power)
        return total

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Floor and amplitudes between TINY and ten times the largest loss, exponents in EXPONENTS."""
        k = len(self.variables)
        low = np.concatenate([np.full(1 + k, np.log(TINY)), np.full(k, EXPONENTS[0])])
        return low, np.concatenate([np.full(1 + k, np.log(10.0 * top)), np.full(k, EXPONENTS[1])])

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b s p"]:
        """Variable projection: search the exponents, solve the linear part non-negatively in relative least squares.

        Returns the `count` best exponents of the grid for each row of `weights`, best first.
        """
        k = len(self.variables)
        axis = np.geomspace(0.02, 3.0, {1: 24, 2: 9}.get(k, 6))
        grid = np.array(list(product(axis, repeat=k)))  # [g k]
        powers = np.exp(-grid[:, :, None] * u.T[None])  # [g k n]
        linear, best = projected(np.concatenate([np.ones((len(grid), 1, len(y))), powers], axis=1), y, weights, count)
        return np.concatenate([linear, grid[best]], axis=-1)

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n], Jacobian [b n p], and the share of each term in the prediction [b n 1+k]."""
        k = len(self.variables)
        lines = [theta[:, 1 + i, None] - theta[:, 1 + k + i, None] * u[None, :, i] for i in range(k)]
        peak = np.broadcast_to(theta[:, :1], (len(theta), len(u)))
        for line in lines:  # an axis of three is slow to reduce over: term by term instead
            peak = np.maximum(peak, line)
        parts = [np.exp(theta[:, :1] - peak), *(np.exp(line - peak) for line in lines)]
        total = sum(parts[1:], parts[0])
        jacobian = np.empty((*peak.shape, 1 + 2 * k))
        for i, part in enumerate(parts):
            np.divide(part, total, out=jacobian[..., i])
        for i in range(k):
            np.multiply(jacobian[..., 1 + i], -u[:, i], out=jacobian[..., 1 + k + i])
        return peak + np.log(total), jacobian, jacobian[..., : 1 + k]

    def curvature(self, aux: Any, jacobian: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Hessian of a log-sum-exp of linear functions: mean of outer products minus outer product of the mean."""
        k = len(self.variables)
        weighted = aux * psi[..., None]  # [b n 1+k]
        total = -(jacobian * psi[..., None]).swapaxes(1, 2) @ jacobian
        total[:, 0, 0] += weighted[..., 0].sum(axis=1)
        for i in range(k):
            a, e, s, v = 1 + i, 1 + k + i, weighted[..., 1 + i], u[:, i]
            cross = -(s @ v)
            total[:, a, a] += s.sum(axis=1)
            total[:, a, e] += cross
            total[:, e, a] += cross
            total[:, e, e] += s @ (v * v)
        return total

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Exponentiate the floor and the amplitudes."""
        k = len(self.variables)
        return np.concatenate([np.exp(theta[..., : 1 + k]), theta[..., 1 + k :]], axis=-1)

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Amplitudes at the mean x become amplitudes at x = 1."""
        k = len(self.variables)
        out = params.copy()
        out[..., : 1 + k] *= y
        out[..., 1 : 1 + k] *= np.exp(out[..., 1 + k :] * log_x)
        return out

    def edges(self, theta: Float[np.ndarray, " p"], u: Float[np.ndarray, "n v"]) -> list[str]:
        """In words, each parameter at an edge: a term that is nowhere .1 % of the loss, an exponent at its limit."""
        k = len(self.variables)
        share = self.evaluate(theta[None], u)[2][0].max(axis=0)
        found = [f"{name} is zero" for name, s in zip(self.parameters[: 1 + k], share, strict=True) if s < 1e-3]
        for name, value in zip(self.exponents, theta[1 + k :], strict=True):
            if value <= EXPONENTS[0] * 1.001 or value >= EXPONENTS[1] * 0.999:
                found.append(f"{name} is at the limit {value:.4g} of its search range")
        return found


@dataclass(frozen=True)
class InLoss:
    """A form seen by the solver in the loss itself, not its logarithm: for least squares as some papers fit."""

    form: Form

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As in logarithms."""
        return self.form.bounds(top, u)

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
        """As in logarithms."""
        return self.form.starts(u, y, weights, count)

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Prediction [b n], its Jacobian [b n p], and those of the logarithm."""
        f, jacobian, aux = self.form.evaluate(theta, u)
        value = np.exp(f)
        return value, value[..., None] * jacobian, (value, jacobian, aux)

    def curvature(self, aux: Any, jacobian: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Product rule: that of the logarithm, and the outer product of its gradient."""
        value, inner, rest = aux
        weighted = psi * value
        outer = (inner * weighted[..., None]).swapaxes(1, 2) @ inner
        return outer + self.form.curvature(rest, inner, weighted, u)


def nonnegative(gram: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Batched non-negative least squares of a few columns by trying every support; returns (coefficients, gain)."""
    size = moment.shape[-1]
    best, gain = np.zeros_like(moment), np.full(moment.shape[:-1], -np.inf)
    for count in range(1, size + 1):
        for support in combinations(range(size), count):
            index = np.array(support)
            sub = gram[..., index[:, None], index[None, :]]
            sub = sub + 1e-12 * np.trace(sub, axis1=-2, axis2=-1)[..., None, None] * np.eye(count)
            solution = np.linalg.solve(sub, moment[..., index, None])[..., 0]
            value = np.sum(solution * moment[..., index], axis=-1)
            better = np.all(solution >= 0, axis=-1) & (value > gain)
            full = np.zeros_like(moment)
            full[..., index] = solution
            best, gain = np.where(better[..., None], full, best), np.where(better, value, gain)
    return best, gain


def projected(
    basis: Float[np.ndarray, "g m n"], y: Float[np.ndarray, " n"], weights: Float[np.ndarray, "b n"], count: int
) -> tuple[Float[np.ndarray, "b s m"], Int[np.ndarray, "b s"]]:
    """Variable projection (Golub and Pereyra 1973): for each choice of the nonlinear part, the best linear one.

    Amplitudes are non-negative and of least relative squares; returns the logarithms of those of the `count` best
    choices for each row of `weights`, and which choices they are.
    """
    z = basis / y
    terms = z.shape[1]
    pairs = np.einsum("gin,gjn->gijn", z, z).reshape(-1, len(y))
    gram = (weights @ pairs.T).reshape(len(weights), len(z), terms, terms)
    moment = (weights @ z.reshape(-1, len(y)).T).reshape(len(weights), len(z), terms)
    coefficients, gain = nonnegative(gram, moment)
    best = np.argsort(-gain, axis=1, kind="stable")[:, : min(count, len(z))]
    return np.log(np.maximum(np.take_along_axis(coefficients, best[..., None], axis=1), 1e-3)), best


def grid_of(*axes: tuple[float, ...]) -> Float[np.ndarray, "g k"]:
    """Every combination of the axes."""
    return np.array(list(product(*axes)), float)
