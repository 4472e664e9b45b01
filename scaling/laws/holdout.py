"""Hold-out: which rows a law must predict without having seen them, and whether it did."""

import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from scipy.stats import binom

from scaling.errors import InputError
from scaling.laws.fit import Curve, optimum, refusal, scaled
from scaling.laws.forms import Form
from scaling.laws.observations import BUDGETS, Observations, levels

COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
LEAST_SHARE = 0.1  # a default hold-out takes whole levels until it has this share of the rows


@dataclass(frozen=True)
class Holdout:
    """Held-out rows with the prediction of the law fitted on the rest; `reach` = largest held-out / fitted x."""

    rows: tuple[dict[str, Any], ...]
    rule: str
    reach: float
    coverage: float
    p_value: float
    mean_error: float
    worst_error: float
    log_error: float
    constant_log_error: float


def budget(found: Observations) -> str:
    """The axis whose largest levels are held out by default: named compute, else data, else size."""
    for role in ("compute", "data", "size"):
        if (role in found.columns or role == "data") and role in found.values and len(levels(found.values[role])) > 1:
            return role
    names = ", ".join(found.columns[role] for role in BUDGETS if role in found.columns)
    raise InputError(f"{found.table.source} has a single level of {names}: a law needs several")


def choose(found: Observations, expression: str | None) -> tuple[Bool[np.ndarray, " n"], str]:
    """Mask of the held-out rows and the rule in words; `expression` like `data>1e6` or `compute>1e21 and size<1e9`."""
    if expression is None or expression == "auto":
        role = budget(found)
        x = np.round(np.log(found.values[role]), 9)
        top = levels(found.values[role])[::-1]
        taken = next(k for k in range(1, len(top) + 1) if np.sum(x >= top[k - 1]) >= LEAST_SHARE * len(x))
        return x >= top[taken - 1], f"the largest {'level' if taken == 1 else f'{taken} levels'} of {role}"
    if expression == "none":
        return np.zeros(len(found), bool), "none"
    mask = np.ones(len(found), bool)
    for part in re.split(r"\s+and\s+|&+", expression):
        match = re.fullmatch(r"\s*(.+?)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*", part)
        if not match:
            raise InputError(f"hold-out '{expression}' is not understood: write it like data>1e6, or none")
        name, sign, wanted = match.groups()
        mask &= COMPARE[sign](*operands(found, name, sign, wanted.strip("'\"")))
    if not mask.any():
        raise InputError(f"hold-out '{expression}' holds out no row: lower its threshold, or say none")
    return mask, expression


def operands(found: Observations, name: str, sign: str, wanted: str) -> tuple[np.ndarray, Any]:
    """Cells of a role or column and the value to compare with, both numbers, or both text for == and !=."""
    if name in found.values:
        cells = found.values[name]
    elif name == "loss":
        cells = found.loss
    else:
        cells = found.table.column(name)[found.row]
    try:
        return cells.astype(float), float(wanted)
    except (TypeError, ValueError) as error:
        if sign in ("==", "!="):
            return cells.astype(str), wanted
        raise InputError(f"hold-out '{name}{sign}{wanted}' compares text: use a number, or == and !=") from error


def score(curve: Curve, train: Observations, held: Observations, rule: str) -> Holdout:
    """Predict the held-out rows by the curve of the others: signed errors, coverage, error of the flat model."""
    x, variables = held.x(curve.form.variables), curve.form.variables
    value, low, high = curve.predict(x)
    inside = (held.loss >= low) & (held.loss <= high)
    relative = value / held.loss - 1.0
    rows = tuple(
        {"row": int(held.row[i]), "predicted": float(value[i]), "actual": float(held.loss[i]),
         "relative_error": float(relative[i]), "interval": [float(low[i]), float(high[i])],
         "x": x[i].tolist()}
        for i in range(len(held))
    )  # fmt: skip
    axis = "compute" if "compute" in held.values and len(variables) > 1 else variables[0]
    reach = float(held.values[axis].max() / train.values[axis].max())
    with np.errstate(divide="ignore", invalid="ignore"):
        log_error = float(np.sqrt(np.mean(np.log(value / held.loss) ** 2)))
    flat = float(np.sqrt(np.mean((np.mean(np.log(train.loss)) - np.log(held.loss)) ** 2)))
    p_value = float(binom.cdf(int(inside.sum()), len(held), curve.level))
    errors = np.abs(relative)
    return Holdout(rows, rule, reach, float(inside.mean()), p_value, float(errors.mean()), float(errors.max()),
                   log_error, flat)  # fmt: skip


def label(result: Holdout | None, obstacle: str = "") -> tuple[str, str]:
    """`validated`, `not validated` or `refuted at N x`, and why."""
    if result is None:
        return "not validated", obstacle or "no rows were held out"
    count = len(result.rows)
    told = f"{result.coverage * count:.0f} of {count} held-out rows within their interval"
    if result.p_value < 0.05 and not np.isclose(result.p_value, 0.05):
        return f"refuted at {result.reach:.2g} x", f"{told} (binomial p = {result.p_value:.2g})"
    if obstacle:
        return "not validated", obstacle
    if result.coverage < 0.5:
        return "not validated", f"{told}, too few rows to refute it"
    return "validated", told


def rolling_error(form: Form, found: Observations, delta: float) -> float | None:
    """Root mean square log error one level ahead, from every origin that can carry the form; None where none can."""
    x, axis = found.x(form.variables), np.round(np.log(found.values[budget(found)]), 9)
    steps = np.unique(axis)
    origins = [k for k in range(1, len(steps)) if refusal(form, x[axis < steps[k]]) is None]
    if not origins:
        return None
    origins = origins[-8:]
    weights = np.stack([(axis < steps[k]).astype(float) for k in origins])
    u, y, log_x, mean = scaled(form, x, found.loss)  # a change of units only: nothing of the rows ahead enters
    theta = optimum(form, u, y, weights, delta, starts=4)[0]
    params = form.unscale(form.natural(theta), log_x, mean)
    predicted = np.array(form.predict(params, x))
    ahead = np.stack([axis == steps[k] for k in origins])
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = (np.log(predicted / found.loss) ** 2)[ahead]
    return float(np.sqrt(np.mean(errors))) if np.all(np.isfinite(errors)) else None
