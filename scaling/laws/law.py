"""From a table to a law: the few functions that everything outside this room calls."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.laws import holdout as hold
from scaling.laws.catalogue import NAMES, make
from scaling.laws.fit import DELTA, STARTS, Curve, Fit, fit_form, refusal
from scaling.laws.forms import Form
from scaling.laws.observations import Observations, levels, observe
from scaling.laws.support import assess
from scaling.laws.table import Table, from_columns, read_table

Tabular = Table | Mapping[str, Any] | str | Path


@dataclass(frozen=True)
class Law:
    """A fitted law: `record` has the documented JSON keys, `curve` predicts, `tested` met the hold-out."""

    record: Mapping[str, Any]
    curve: Curve
    tested: Curve | None

    @property
    def form(self) -> str:
        """Name of the form."""
        return self.record["form"]

    @property
    def status(self) -> str:
        """converged, at a bound, flat, inverted, too few points or not converged."""
        return self.record["status"]

    @property
    def params(self) -> dict[str, float]:
        """Parameters by name, in the units of the table."""
        return dict(self.record["params"])

    @property
    def label(self) -> str:
        """validated, not validated, or refuted at N x."""
        return self.record["label"]

    @property
    def verdict(self) -> str:
        """The sentence that says whether the table supports a law."""
        return self.record["verdict"]

    @property
    def supported(self) -> bool:
        """Whether the table supports a law at all."""
        return self.record["supported"]

    def predict(
        self, *, size: float | None = None, data: float | None = None, compute: float | None = None
    ) -> tuple[float, float, float]:
        """(loss, low, high) of a new run at that point, residual noise included; give the variables of the form."""
        given = {"size": size, "data": data, "compute": compute}
        wanted = self.curve.form.variables
        for name, value in given.items():
            if (value is not None) != (name in wanted):
                fix = f"give {name}" if value is None else f"leave {name} out"
                raise InputError(f"this {self.form} law is one in {' and '.join(wanted)}: {fix}")
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value} is not a positive number")
        loss, low, high = self.curve.predict(np.array([[given[name] for name in wanted]], float))
        if not np.isfinite(loss[0]):
            raise InputError(f"this {self.form} law has fallen to zero before that point: it says nothing there")
        return float(loss[0]), float(low[0]), float(high[0])

    def to_json(self) -> dict[str, Any]:
        """JSON-ready dict with everything that `from_json` needs."""
        tested = None if self.tested is None else self.tested.to_json()
        return {**self.record, "curve": self.curve.to_json(), "tested": tested}

    @staticmethod
    def from_json(record: Mapping[str, Any] | str | Path) -> "Law":
        """Inverse of `to_json`, from the dict or from a file that holds it."""
        if isinstance(record, (str, Path)):
            path = Path(record)
            try:
                record = json.loads(path.read_text())
            except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
                raise InputError(f"{path} is no fit ({error}): make one with scaling fit --json") from error
        if not isinstance(record, Mapping) or "curve" not in record:
            raise InputError("the JSON is no fit (no 'curve' in it): make one with scaling fit --json")
        rest = {key: value for key, value in record.items() if key not in ("curve", "tested")}
        tested = None if record.get("tested") is None else Curve.from_json(record["tested"])
        return Law(rest, Curve.from_json(record["curve"]), tested)

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file."""
        Path(path).write_text(json.dumps(self.to_json(), allow_nan=False) + "\n")


def fit_table(
    table: Tabular,
    *,
    loss: str,
    size: str | None = None,
    data: str | None = None,
    compute: str | None = None,
    run: str | None = None,
    form: str = "auto",
    holdout: str | None = None,
    drop_highest: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    delta: float = DELTA,
    command: str | None = None,
) -> Law:
    """Fit a law to the columns of a table and test it on rows it has not seen.

    The form is chosen by its error on the held-out rows (the largest level of compute, data or size, an expression
    such as `data>1e6`, or `none`); the published parameters then come from all rows, the hold-out figures from a fit
    that has not seen the held-out ones.
    """
    if form != "auto" and form not in NAMES[1:]:
        raise InputError(f"unknown form '{form}': use one of auto, {', '.join(NAMES[1:])}")
    if resamples < 50 or not 0.5 <= level < 1.0:
        raise InputError(f"resamples {resamples} and level {level}: use at least 50 resamples and a level in [.5, 1)")
    roles = {"loss": loss, "size": size, "data": data, "compute": compute, "run": run}
    found = observe(as_table(table), **roles, drop_highest=drop_highest)  # type: ignore[arg-type]
    candidates = forms_for(found, form)
    mask, rule = hold.choose(found, holdout)
    notes = list(found.notes)
    refused = {c.name: refusal(c, found.x(c.variables)) for c in candidates}
    able = [c for c in candidates if refused[c.name] is None]
    if not able:
        raise InputError(f"{found.table.source}: " + "; ".join(filter(None, refused.values())))
    train, held = found.keep(~mask), found.keep(mask)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "delta": delta, "level": level}
    tested: dict[str, tuple[Fit, hold.Holdout]] = {}
    obstacle = "no rows were held out"
    if mask.any():
        short = {c.name: refusal(c, train.x(c.variables)) for c in able}
        for candidate in [c for c in able if short[c.name] is None]:
            part = fit_form(candidate, train.x(candidate.variables), train.loss, train.run, **options)
            assert part.curve is not None
            tested[candidate.name] = (part, hold.score(part.curve, train, held, rule))
        if not tested:
            obstacle = "without the hold-out " + "; ".join(filter(None, short.values()))
            if holdout not in (None, "auto"):
                raise InputError(f"{found.table.source}: {obstacle}; hold out less")
        left = {name: why for name, why in short.items() if why and tested}
        notes += [f"{name} left out of the choice: without the hold-out {why}" for name, why in left.items()]
    plain = {c.name: fit_form(c, found.x(c.variables), found.loss, found.run, delta=delta) for c in able}
    if tested:
        best = min(tested, key=lambda name: finite(tested[name][1].log_error))
        chosen_by = f"error on {rule}" if len(tested) > 1 else "the only form that could be tested"
    else:
        best = min(plain, key=lambda name: finite(plain[name].aicc))
        chosen_by = "AICc, nothing being held out" if len(plain) > 1 else "the only form that the table carries"
    chosen_by = "asked for" if form != "auto" else chosen_by
    form_best = plain[best].form
    fit = fit_form(form_best, found.x(form_best.variables), found.loss, found.run, **options)
    constant = fit_form(make("constant"), found.x(()), found.loss, found.run, delta=delta)
    result = tested[best][1] if tested else None
    label, why = hold.label(result, "" if result else obstacle)
    support = assess(found, fit, constant, result, label, resamples, seed, level)
    status = fit.status
    if support.verdict in ("none", "inverted") and status != "too few points":
        status = "inverted" if support.verdict == "inverted" else "flat"
    if label == "validated" and (support.verdict != "law" or status not in ("converged", "at a bound")):
        label, why = "not validated", f"the verdict is '{support.verdict}' and the status '{status}'; {why}"
    if tested and len(tested) > 1 and form == "auto":
        notes.append("the held-out rows also chose the form, so their error flatters it a little")
    if fit.status != status:
        notes.append(f"optimiser: {fit.status}")
    record = {
        "form": best, "formula": fit.form.formula, "status": status, "verdict": support.sentence,
        "supported": support.verdict == "law", "support": {"verdict": support.verdict, **support.checks},
        "label": label, "label_reason": why, "validated": label == "validated", **parameters(fit),
        "objective": fit.objective, "n": len(found), "runs": int(found.run.max()) + 1,
        "excluded": [{"row": row, "reason": reason} for row, reason in found.excluded],
        "holdout": list(result.rows) if result else [],
        "holdout_summary": summary(result, tested[best][0] if tested else None),
        "alternatives": alternatives(found, candidates, refused, plain, tested, best, constant, result, delta),
        "chosen_by": chosen_by, "notes": notes + list(fit.notes), "residual_noise": fit.sigma, "aicc": fit.aicc,
        "columns": dict(found.columns), "ranges": ranges(found), "level": level, "resamples": resamples, "seed": seed,
        "fit": {"loss": "sum of Huber of log residuals", "delta": delta, "starts": STARTS, "optimiser":
                "damped Newton, float64, falling Huber width, variable-projection starts", "gradient_tolerance": 1e-9,
                "bootstrap": f"{resamples} resamples of whole runs, percentile widened for few runs (Hesterberg 2015)"},
        "source": found.table.source, "data_hash": found.table.hash(dict.fromkeys(found.columns.values())),
        "command": command,
    }  # fmt: skip
    assert fit.curve is not None
    return Law(cleaned(record), fit.curve, tested[best][0].curve if tested else None)


def fit_groups(table: Tabular, by: Sequence[str], **options: Any) -> tuple[dict[tuple, Law], dict[tuple, str]]:
    """A law for each value of the `by` columns: (group -> law, group -> why there is none)."""
    source = as_table(table)
    keys = list(zip(*(source.column(name) for name in by), strict=True))
    laws: dict[tuple, Law] = {}
    refused: dict[tuple, str] = {}
    for key in sorted(set(keys), key=ordered):
        try:
            laws[key] = fit_table(source.select(np.array([k == key for k in keys])), **options)
        except InputError as error:
            refused[key] = str(error)
    return laws, refused


def ordered(key: tuple) -> tuple:
    """Sort key of a group: numbers before text before what is missing."""
    return tuple((2, 0) if v is None else (1, v) if isinstance(v, str) else (0, v) for v in key)


def as_table(table: Tabular) -> Table:
    """A `Table` of a path, a mapping of columns or a `Table`."""
    if isinstance(table, Table):
        return table
    return read_table(table) if isinstance(table, (str, Path)) else from_columns(table)


def forms_for(found: Observations, form: str) -> list[Form]:
    """Candidates of `auto`, or the one form asked for; a one-variable form takes data, else size, else compute."""
    varied = [r for r in ("data", "size", "compute") if r in found.values and len(levels(found.values[r])) > 1]
    if not varied:
        hold.budget(found)
    if form != "auto":
        return [make(form, varied[0])]
    two = [make("chinchilla")] if "size" in found.values and "data" in found.values else []
    return [*two, make("power", varied[0]), make("log", varied[0])]


def finite(value: float | None) -> float:
    """A key for min() that puts what is unknown last."""
    return float(value) if value is not None and np.isfinite(value) else float("inf")


def parameters(fit: Fit) -> dict[str, Any]:
    """Parameters, standard errors and intervals by name, with the compute-optimal exponent where the form has one."""
    assert fit.curve is not None
    names, draws = fit.form.parameters, fit.curve.draws
    values = dict(zip(names, fit.params.tolist(), strict=True))
    columns = dict(zip(names, draws.T, strict=True))
    derived = {}
    if fit.form.name == "chinchilla":
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
