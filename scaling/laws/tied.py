"""Forms that are a power law with something held together: one exponent for both axes, or no floor."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.laws.forms import EXPONENTS, TINY, OneVariable, Plain, PowerTerms, projected

_PAIR = PowerTerms("pair", "", ("size", "data"), ("E", "A", "B", "alpha", "beta"), (), (), (1, 1), 1)


@dataclass(frozen=True)
class Overtraining(Plain):
    """Gadre et al. 2024, eq. 4: `E + (a M^eta + b M^-eta) C^-eta`, with M = D/N tokens a parameter and C = 6 N D.

    The same as a Chinchilla law whose two exponents are one: `E + a 6^-eta N^-2eta + b 6^-eta D^-2eta`.
    """

    name: str = "overtraining"
    formula: str = "E + (a M^eta + b M^-eta) C^-eta, M = D/N, C = 6 N D"
    parameters: tuple[str, ...] = ("E", "a", "b", "eta")
    units: tuple[str, ...] = ("loss", "loss x (6 size^2)^eta", "loss x (6 data^2)^eta", "1")
    variables: tuple[str, ...] = ("size", "data")
    falling: tuple[str, ...] = ("size", "data")
    levels: tuple[int, ...] = (3, 3)
    cells: int = 5
    exponents: tuple[str, ...] = ("eta",)

    @property
    def spread(self) -> Float[np.ndarray, "5 4"]:
        """The linear map from (log E, log A, log B, tied exponent) to the coordinates of the untied form."""
        return np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1.0]])

    def predict(self, params: Float[np.ndarray, "*b 4"], x: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x` for each parameter vector."""
        floor, a, b, eta = (params[..., i, None] for i in range(4))
        return floor + 6.0**-eta * (a * np.exp(-2 * eta * np.log(x[:, 0])) + b * np.exp(-2 * eta * np.log(x[:, 1])))

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As the untied form."""
        low, high = _PAIR.bounds(top, u)
        return low[:4], high[:4]

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b s 4"]:
        """Variable projection over the one exponent."""
        axis = np.geomspace(0.02, 3.0, 24)
        powers = np.exp(-axis[:, None, None] * u.T[None])
        linear, best = projected(np.concatenate([np.ones((24, 1, len(y))), powers], axis=1), y, weights, count)
        return np.concatenate([linear, axis[best][..., None]], axis=-1)

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n], Jacobian [b n 4], and the untied form's own answers."""
        f, jacobian, share = _PAIR.evaluate(theta @ self.spread.T, u)
        return f, jacobian @ self.spread, (share, jacobian)

    def curvature(self, aux: Any, jacobian: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
        """That of the untied form, seen through the map."""
        share, whole = aux
        return self.spread.T @ _PAIR.curvature(share, whole, psi, u) @ self.spread

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Exponentiate floor and amplitudes; eta is half the exponent, and 6^eta moves into the amplitudes."""
        eta = 0.5 * theta[..., 3:]
        return np.concatenate([np.exp(theta[..., :1]), np.exp(theta[..., 1:3]) * 6.0**eta, eta], axis=-1)

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Amplitudes at the mean x become amplitudes at x = 1."""
        out = params.copy()
        out[..., :3] *= y
        out[..., 1:3] *= np.exp(2 * out[..., 3:] * log_x)
        return out

    def edges(self, theta: Float[np.ndarray, " 4"], u: Float[np.ndarray, "n 2"]) -> list[str]:
        """As the untied form, in the names of this one."""
        names = dict(zip(("E", "A", "B", "alpha", "beta"), ("E", "a", "b", "2 eta", "2 eta"), strict=True))
        said = [entry.split(" ", 1) for entry in _PAIR.edges(self.spread @ theta, u)]
        return list(dict.fromkeys(f"{names[name]} {rest}" for name, rest in said))


@dataclass(frozen=True)
class Straight(OneVariable, Plain):
    """`A x^-alpha`: a power law without floor, a straight line in logarithms; honest only within sight of the data."""

    variable: str = "data"
    name: str = "straight"
    formula: str = "A x^-alpha"
    parameters: tuple[str, ...] = ("A", "alpha")
    units: tuple[str, ...] = ("loss x unit^alpha", "1")
    levels: tuple[int, ...] = (3,)
    cells: int = 3
    exponents: tuple[str, ...] = ("alpha",)

    def predict(self, params: Float[np.ndarray, "*b 2"], x: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "*b n"]:
        """Loss at `x` for each parameter vector."""
        with np.errstate(divide="ignore"):
            return np.exp(np.log(params[..., :1]) - params[..., 1:] * np.log(x[:, 0]))

    def bounds(self, top: float, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Amplitude between TINY and ten times the largest loss, exponent in EXPONENTS."""
        return np.array([np.log(TINY), EXPONENTS[0]]), np.array([np.log(10.0 * top), EXPONENTS[1]])

    def starts(self, u: np.ndarray, y: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "b 1 2"]:
        """The least-squares line in logarithms."""
        z = np.stack([np.ones(len(y)), -u[:, 0]], axis=1)
        gram = np.einsum("bn,ni,nj->bij", weights, z, z) + 1e-12 * weights.sum(axis=1)[:, None, None] * np.eye(2)
        return np.linalg.solve(gram, ((weights * np.log(y)) @ z)[..., None])[..., 0][:, None]

    def evaluate(self, theta: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """Log prediction [b n] and its Jacobian [b n 2]."""
        f = theta[:, :1] - theta[:, 1:] * u[None, :, 0]
        row = np.stack([np.ones(len(u)), -u[:, 0]], axis=1)
        return f, np.broadcast_to(row, (*f.shape, 2)), None

    def curvature(self, aux: Any, jacobian: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
        """A line has none."""
        return np.zeros((len(psi), 2, 2))

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Exponentiate the amplitude."""
        return np.concatenate([np.exp(theta[..., :1]), theta[..., 1:]], axis=-1)

    def unscale(self, params: np.ndarray, log_x: np.ndarray, y: float) -> np.ndarray:
        """Amplitude at the mean x becomes that at x = 1."""
        out = params.copy()
        out[..., 0] *= y * np.exp(out[..., 1] * log_x[0])
        return out

    def edges(self, theta: Float[np.ndarray, " 2"], u: np.ndarray) -> list[str]:
        """In words, an exponent at its limit."""
        if EXPONENTS[0] * 1.001 < theta[1] < EXPONENTS[1] * 0.999:
            return []
        return [f"alpha is at the limit {theta[1]:.4g} of its search range"]
