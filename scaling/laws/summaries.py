"""What a fit says of itself, as JSON-ready dicts: parameters, hold-out, alternatives, ranges."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.laws import holdout as hold
from scaling.laws.fit import Fit
from scaling.laws.forms import Form
from scaling.laws.observations import Observations, levels


def parameters(fit: Fit) -> dict[str, Any]:
    """Parameters, standard errors and intervals by name, with the compute-optimal exponent where the form has one."""
    assert fit.curve is not None
    names, draws = fit.form.parameters, fit.curve.draws
    values = dict(zip(names, fit.params.tolist(), strict=True))
    columns = dict(zip(names, draws.T, strict=True))
    derived = {}
    if {"alpha", "beta"} <= set(names) and fit.form.name in ("chinchilla", "clusters"):
        share = columns["beta"] / (columns["alpha"] + columns["beta"])
        derived["optimal_size_exponent"] = {
            "value": values["beta"] / (values["alpha"] + values["beta"]),
            "standard_error": float(np.std(share, ddof=1)),
            "interval": fit.curve.interval(share).tolist(),
        }
    return {
        "params": values,
        "units": dict(zip(names, fit.form.units, strict=True)),
        "standard_errors": {name: float(np.std(column, ddof=1)) for name, column in columns.items()},
        "intervals": {name: fit.curve.interval(column).tolist() for name, column in columns.items()},
        "derived": derived,
    }


def summary(result: hold.Holdout | None, part: Fit | None) -> dict[str, Any] | None:
    """Figures of the hold-out and the parameters that were tested on it."""
    if result is None or part is None:
        return None
    return {"rule": result.rule, "reach": result.reach, "n": len(result.rows), "coverage": result.coverage,
            "coverage_p_value": result.p_value, "mean_relative_error": result.mean_error, "worst_relative_error":
            result.worst_error, "log_error": result.log_error, "constant_log_error": result.constant_log_error,
            "params": dict(zip(part.form.parameters, part.params.tolist(), strict=True))}  # fmt: skip


def alternatives(
    found: Observations,
    candidates: list[Form],
    refused: Mapping[str, str | None],
    plain: Mapping[str, Fit],
    tested: Mapping[str, tuple[Fit, hold.Holdout]],
    best: str,
    constant: Fit,
    result: hold.Holdout | None,
    delta: float,
) -> list[dict[str, Any]]:
    """Every form considered, with its out-of-sample errors and AICc, or why it was refused; the constant comes last."""
    rows: list[dict[str, Any]] = []
    for form in candidates:
        row: dict[str, Any] = {"form": form.name, "chosen": form.name == best, "refused": refused[form.name]}
        if form.name in plain:
            fit = plain[form.name]
            ahead = tested[form.name][1] if form.name in tested else None
            row |= {"status": fit.status, "objective": fit.objective, "aicc": fit.aicc,
                    "params": dict(zip(form.parameters, fit.params.tolist(), strict=True)),
                    "holdout_error": None if ahead is None else ahead.log_error,
                    "rolling_error": hold.rolling_error(form, found, delta)}  # fmt: skip
        rows.append(row)
    error = None if result is None else result.constant_log_error
    rows.append({"form": "constant", "chosen": False, "refused": None, "status": constant.status, "objective":
                 constant.objective, "aicc": constant.aicc, "params": {"E": float(constant.params[0])},
                 "holdout_error": error, "rolling_error": hold.rolling_error(constant.form, found, delta)})  # fmt: skip
    return rows


def ranges(found: Observations) -> dict[str, Any]:
    """Smallest, largest and number of distinct levels of each axis, and of the loss."""
    axes = {**found.values, "loss": found.loss}
    return {k: {"min": float(v.min()), "max": float(v.max()), "levels": len(levels(v))} for k, v in axes.items()}


def cleaned(value: Any) -> Any:
    """The same with every non-finite number as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: cleaned(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
