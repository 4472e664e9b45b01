"""What forms share that are no plain sum of powers: numerical second derivatives, and limits said in words."""

from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.laws.forms import Form, Plain

STEP = 1e-5  # of a coordinate of order one: rounding and truncation of the central difference are then alike


class Curved(Plain):
    """A form whose `evaluate` hands back `theta` as `aux`; its curvature is the difference of its own Jacobian."""

    def curvature(
        self: Any,  # a Form
        aux: Float[np.ndarray, "b p"],
        jacobian: Float[np.ndarray, "b n p"],
        psi: Float[np.ndarray, "b n"],
        u: Float[np.ndarray, "n v"],
    ) -> Float[np.ndarray, "b p p"]:
        """Sum over points of `psi` times the second derivative of the log prediction, by central differences."""
        out = np.empty((len(aux), aux.shape[1], aux.shape[1]))
        for i in range(aux.shape[1]):
            shift = np.zeros(aux.shape[1])
            shift[i] = STEP
            change = self.evaluate(aux + shift, u)[1] - self.evaluate(aux - shift, u)[1]
            out[:, i] = (psi[:, None, :] @ change)[:, 0] / (2.0 * STEP)
        return 0.5 * (out + out.swapaxes(1, 2))


def at_limits(form: Form, theta: Float[np.ndarray, " p"], u: Float[np.ndarray, "n v"], shown: range) -> list[str]:
    """In words, each of the coordinates `shown` that sits at a limit of its search range."""
    low, high = form.bounds(1.0, u)
    value = form.natural(theta[None])[0]
    found = []
    for i in shown:
        margin = 1e-3 * (high[i] - low[i])
        if theta[i] <= low[i] + margin or theta[i] >= high[i] - margin:
            found.append(f"{form.parameters[i]} is at the limit {value[i]:.4g} of its search range")
    return found


def softplus(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log(1 + exp(z)) and its slope."""
    with np.errstate(over="ignore"):
        return np.logaddexp(0.0, z), 1.0 / (1.0 + np.exp(-z))
