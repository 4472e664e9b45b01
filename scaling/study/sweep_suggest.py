"""Which unfinished runs of a sweep are worth their cost: those that most narrow one prediction of the law so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.laws import Law, fit_table
from scaling.laws.design import Candidate, design
from scaling.laws.table import from_rows, to_number
from scaling.record.ledger import Ledger
from scaling.study.sweep import closure
from scaling.study.sweep_bill import prices
from scaling.study.sweep_rows import rows
from scaling.study.sweep_state import FINISHED, NEW, RUNNING, WAITING, Standing


@dataclass(frozen=True)
class Question:
    """What is to be predicted: `target` and `columns` by role (size, data, ...), the rows that count, and the means."""

    target: Mapping[str, float]
    columns: Mapping[str, str]
    budget_hours: float
    loss: str = "val_loss"
    form: str = "auto"
    where: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.budget_hours > 0:
            raise InputError(f"--budget {self.budget_hours:g}: give device-hours above 0")
        unknown = [role for role in self.target if role not in self.columns]
        if unknown or not self.target:
            example = ",".join(f"{role}=1e6" for role in self.columns)
            raise InputError(f"--target takes figures for {', '.join(self.columns)}: {example}, or fewer")

    def counts(self, row: Mapping[str, Any]) -> bool:
        """Whether a row, found or expected, is one of those that `where` names."""
        return row.get("status", "finished") == "finished" and all(
            str(row.get(name)) == value for name, value in self.where.items()
        )


def suggest(standings: Sequence[Standing], ledger: Ledger, question: Question, devices: int = 1) -> dict[str, Any]:
    """The law so far, its prediction at the target, and the runs to add within the budget, best first.

    Raises InputError where the rows carry no law, and where no run is left whose point is known beforehand.
    """
    found = [row for row in rows(standings, ledger, devices) if question.counts(row)]
    law = _law(found, question)
    variables = law.curve.form.variables
    missing = [role for role in variables if role not in question.target]
    if missing:
        raise InputError(f"the {law.form} law also reads {missing[0]}: name it in --target, or another --form")
    point = np.array([question.target[role] for role in variables])
    loss, low, high = law.predict(**{role: question.target[role] for role in variables})
    left = [one for one in standings if one.state in (NEW, WAITING) and one.job.rows]
    points = {one.hash: _points(one, found, variables, question) for one in left}
    ready = [one for one in left if len(points[one.hash])]
    if not ready:
        raise InputError("no unfinished run of this sweep has a point that is known beforehand: state a larger sweep")
    jobs = {one.hash: one.job for one in standings}
    begun = {one.hash for one in standings if one.state in (FINISHED, RUNNING)}
    candidates = [Candidate(points[one.hash], closure(jobs, [one.hash]) - begun) for one in ready]
    hours = {key: seconds * devices / 3600 for key, seconds in prices(standings).items()}
    names = [question.columns[role] for role in variables]
    have = np.array([[float(row[name]) for name in names] for row in _fitted(found, law)])
    noise = float(law.record["residual_noise"])
    picks = design(law.curve, have, point, candidates, hours, question.budget_hours, noise)
    return {
        "form": law.form,
        "verdict": law.verdict,
        "rows": len(have),
        "target": dict(question.target),
        "prediction": {"loss": loss, "interval": [low, high], "level": law.record["level"]},
        "width": (high - low) / loss,
        "expected_width": (high - low) / loss * (picks[-1].left if picks else 1.0),
        "budget_hours": question.budget_hours,
        "device_hours": sum(pick.cost for pick in picks),
        "candidates": len(ready),
        "runs": [
            {
                "hash": ready[pick.index].hash,
                "name": ready[pick.index].job.name,
                "device_hours": pick.cost,
                "width_after": (high - low) / loss * pick.left,
            }
            for pick in picks
        ],
    }


def _law(found: Sequence[dict[str, Any]], question: Question) -> Law:
    if not found:
        raise InputError("no finished row to learn from: scaling sweep work SWEEP --max-runs N first")
    run = "sweep_row"
    table = from_rows([{**row, run: str(index)} for index, row in enumerate(found)], "the sweep's finished rows")
    options: dict[str, Any] = {role: name for role, name in question.columns.items() if role in question.target}
    try:
        return fit_table(table, loss=question.loss, run=run, form=question.form, diagnostics=False, **options)
    except InputError as error:
        raise InputError(f"{error}; a suggestion needs a law: run some more first, spread over the sweep") from None


def _fitted(found: Sequence[dict[str, Any]], law: Law) -> list[dict[str, Any]]:
    """The rows that the law was fitted to."""
    left_out = {one["row"] for one in law.record["excluded"]}
    return [row for index, row in enumerate(found) if index not in left_out]


def _points(one: Standing, found: Sequence[dict[str, Any]], variables: Sequence[str], question: Question) -> np.ndarray:
    """Where the rows of a job will lie [m v]; those whose place cannot be said are left out."""
    names = [question.columns[role] for role in variables]
    places = []
    for row in one.job.expects:
        if question.counts(row):
            place = [_figure(row, name, found) for name in names]
            if all(value is not None and value > 0 for value in place):
                places.append(place)
    return np.array(places, float).reshape(len(places), len(names))


def _figure(row: Mapping[str, Any], name: str, found: Sequence[dict[str, Any]]) -> float | None:
    """A column of an expected row; what only the corpus will tell is that of the same arm, else in proportion to it."""
    value = to_number(row.get(name))
    if isinstance(value, float):
        return value
    arm = row.get("arm")
    known = [(float(other["arm"]), other[name]) for other in found if name in other and other.get("arm")]
    if not arm or not known or not all(isinstance(figure, int | float) for _, figure in known):
        return None
    same = [float(figure) for fraction, figure in known if fraction == arm]
    return median(same) if same else arm * median(figure / fraction for fraction, figure in known)
