"""From a table to a law: the few functions that everything outside this room calls."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.laws import diagnose, summaries
from scaling.laws import holdout as hold
from scaling.laws.catalogue import NAMES, make
from scaling.laws.choice import choose
from scaling.laws.fit import DELTA, STARTS, Curve, Fit, bootstrap_weights, fit_form
from scaling.laws.isoflop import IsoFlop, disagree, isoflop
from scaling.laws.link import Link
from scaling.laws.observations import ROLES, Observations, observe
from scaling.laws.optimal import FLOPS, Allocation, allocate, budget
from scaling.laws.support import Support, assess
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
        """How the fit ended; only a law that is `converged` can be validated.

        Else at a bound, flat, inverted, too few points, edge minimum, disagreeing estimators or not converged.
        """
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
        self,
        *,
        size: float | None = None,
        data: float | None = None,
        compute: float | None = None,
        unique_data: float | None = None,
        clusters: float | None = None,
        teacher: float | None = None,
        alone: float | None = None,
    ) -> tuple[float, float, float]:
        """(loss, low, high) of a new run at that point, residual noise included; give the variables of the form."""
        values = (size, data, compute, unique_data, clusters, teacher, alone)
        given = dict(zip(ROLES, values, strict=True))
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

    def success(self, **given: float | None) -> tuple[float, float, float] | None:
        """(success rate, low, high) of a new run at that point, by the link from loss to success; None without one."""
        if self.record.get("link") is None:
            return None
        loss, _, _ = self.predict(**given)
        x = np.array([[given[name] for name in self.curve.form.variables]], float)
        draws = self.curve.form.predict(self.curve.draws, x)[:, 0] * np.exp(self.curve.noise)
        return Link.from_json(self.record["link"]).predict(loss, draws[draws > 0])

    def with_link(self, link: Link) -> "Law":
        """The same law with a link from loss to success in its record."""
        return Law({**self.record, "link": summaries.cleaned(link.to_json())}, self.curve, self.tested)

    def optimal(self, compute: float, flops: float = FLOPS, **others: float) -> Allocation:
        """Size and data of least loss with size x data x `flops` = `compute`; `others` are further variables."""
        return allocate(self.curve, compute, flops, others)

    def budget(self, **wanted: float) -> float:
        """The compute at which that size, data or loss is optimal: the inverse of `optimal`."""
        return budget(self.curve, **wanted)

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
    unique_data: str | None = None,
    clusters: str | None = None,
    teacher: str | None = None,
    alone: str | None = None,
    form: str = "auto",
    holdout: str | None = None,
    drop_highest: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    delta: float = DELTA,
    residuals_in: str = "log",
    diagnostics: bool = True,
    command: str | None = None,
) -> Law:
    """Fit a law to the columns of a table and test it on rows it has not seen.

    The form is chosen by its error on the held-out rows (the largest level of compute, data or size, an expression
    such as `data>1e6`, or `none`); the published parameters then come from all rows, the hold-out figures from a fit
    that has not seen the held-out ones. `residuals_in="loss"` with a wide `delta` is plain least squares of the loss.
    `diagnostics` adds profile likelihood, influence and rolling origin.
    """
    if form != "auto" and form not in NAMES[1:]:
        raise InputError(f"unknown form '{form}': use one of auto, {', '.join(NAMES[1:])}")
    if resamples < 50 or not 0.5 <= level < 1.0:
        raise InputError(f"resamples {resamples} and level {level}: use at least 50 resamples and a level in [.5, 1)")
    if residuals_in not in ("log", "loss") or not delta > 0:
        raise InputError(f"residuals in '{residuals_in}' with delta {delta}: use log or loss, and a delta above 0")
    columns = {"loss": loss, "size": size, "data": data, "compute": compute, "run": run, "unique_data": unique_data,
               "clusters": clusters, "teacher": teacher, "alone": alone}  # fmt: skip
    found = observe(as_table(table), **columns, drop_highest=drop_highest)  # type: ignore[arg-type]
    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "delta": delta, "level": level,
                               "residuals_in": residuals_in}  # fmt: skip
    choice = choose(found, form, holdout, options)
    best, tested, result = choice.best, choice.tested, choice.result
    fit = fit_form(choice.form, found.x(choice.form.variables), found.loss, found.run, **options)
    assert fit.curve is not None
    constant = fit_form(make("constant"), found.x(()), found.loss, found.run, **{**options, "resamples": 0})
    label, why = hold.label(result, "" if result else choice.obstacle)
    support = assess(found, fit, constant, result, label, resamples, seed, level)
    told = summaries.parameters(fit)
    iso = by_budget(found, fit, seed, level)
    status, sentence, notes = verdict(found, fit, support, told, iso)
    if label == "validated" and (support.verdict != "law" or status != "converged"):
        extra = f" ({'; '.join(fit.notes)})" if status == "at a bound" else ""
        label = "not validated"
        why = f"the verdict is '{support.verdict}' and the status '{status}'{extra}; {why}"
    notes = [*found.notes, *choice.notes, *notes]
    if len(tested) > 1 and form == "auto":
        notes.append("the held-out rows also chose the form, so their error flatters it a little")
    more: dict[str, Any] = {"profile": {}, "influence": None, "rolling": [], "cluster_test": None}
    if diagnostics:
        if residuals_in == "log":
            more["profile"] = diagnose.profile(found, fit, delta, level)
            more["influence"] = diagnose.influence(found, fit, told["standard_errors"], delta)
        more["rolling"] = diagnose.rolling(fit.form, found, **{**options, "resamples": min(resamples, 60)})
    if best == "clusters":
        more["cluster_test"] = test = diagnose.cluster_test(found, fit, delta, seed)
        kind = f"descriptive, with {test['levels']} cluster counts" if test["descriptive"] else "tested"
        notes.append(f"the term in the number of clusters is {kind} (p = {test['p_value']:.2g} against none)")
    record = {
        "form": best, "formula": fit.form.formula, "status": status, "verdict": sentence,
        "supported": support.verdict == "law" and status != "edge minimum",
        "support": {"verdict": support.verdict, **support.checks},
        "label": label, "label_reason": why, "validated": label == "validated", **told,
        "objective": fit.objective, "n": len(found), "runs": int(found.run.max()) + 1,
        "excluded": [{"row": row, "reason": reason} for row, reason in found.excluded],
        "holdout": list(result.rows) if result else [],
        "holdout_summary": summaries.summary(result, tested[best][0] if result else None),
        "alternatives": summaries.alternatives(found, choice.candidates, choice.refused, choice.plain, tested, best,
                                               constant, result, delta),
        "chosen_by": choice.by, "notes": notes + list(fit.notes), "residual_noise": fit.sigma, "aicc": fit.aicc,
        "isoflop": None if iso is None else iso.to_json(), **more,
        "columns": dict(found.columns), "ranges": summaries.ranges(found), "level": level, "resamples": resamples,
        "seed": seed,
        "fit": {"loss": f"sum of Huber of residuals in {residuals_in}", "delta": delta, "starts": STARTS, "optimiser":
                "damped Newton, float64, falling Huber width, variable-projection starts", "gradient_tolerance": 1e-9,
                "bootstrap": f"{resamples} resamples of whole runs, percentile widened for few runs (Hesterberg 2015)"},
        "source": found.table.source, "data_hash": found.table.hash(dict.fromkeys(found.columns.values())),
        "command": command,
    }  # fmt: skip
    return Law(summaries.cleaned(record), fit.curve, tested[best][0].curve if result else None)


def by_budget(found: Observations, fit: Fit, seed: int, level: float) -> IsoFlop | None:
    """Approach 2 beside a joint fit in size and data, where the table names its compute."""
    if "compute" not in found.columns or not {"size", "data"} <= set(fit.form.variables):
        return None
    rng = np.random.default_rng(seed + 3)
    weights, _ = bootstrap_weights(fit.form, found.x(fit.form.variables), found.run, 400, rng)
    return isoflop(found, weights, level)


def verdict(
    found: Observations, fit: Fit, support: Support, told: dict[str, Any], iso: IsoFlop | None
) -> tuple[str, str, list[str]]:
    """Status, sentence and notes of a fit beside what the budgets one by one say."""
    status, notes = fit.status, []
    if support.verdict in ("none", "inverted") and status != "too few points":
        status = "inverted" if support.verdict == "inverted" else "flat"
    sentence = support.sentence
    if iso is not None and iso.status == "edge minimum" and status in ("converged", "at a bound"):
        status = "edge minimum"
        sentence = ("No compute-optimal law: at every budget the lowest loss is at an edge of the sizes, so the "
                    f"optimum is outside the table. {sentence}")  # fmt: skip
    joint = told["derived"].get("optimal_size_exponent")
    budgets = None if iso is None else iso.interval
    if iso is not None and budgets is not None and joint is not None and disagree(budgets, joint["interval"]):
        notes.append(f"the optimal size goes as compute^{joint['value']:.3f} by the joint fit, as "
                     f"compute^{iso.exponent:.3f} by the minima of budgets: their intervals do not meet")  # fmt: skip
        status = "disagreeing estimators" if status in ("converged", "at a bound") else status
    if fit.status != status:
        notes.append(f"optimiser: {fit.status}")
    return status, sentence, notes


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
