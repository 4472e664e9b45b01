"""Which form: the candidates of a table, each tested on the held-out rows, and the one that errs least there."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.laws import holdout as hold
from scaling.laws.catalogue import make
from scaling.laws.fit import Fit, fit_form, refusal
from scaling.laws.forms import Form
from scaling.laws.observations import BUDGETS, ROLES, Observations, levels


@dataclass(frozen=True)
class Choice:
    """Every candidate's fit to all rows (`plain`) and test on the held-out ones (`tested`), and which is `best`."""

    best: str
    by: str
    candidates: list[Form]
    refused: dict[str, str | None]
    plain: dict[str, Fit]
    tested: dict[str, tuple[Fit, hold.Holdout]]
    obstacle: str
    notes: list[str]

    @property
    def form(self) -> Form:
        """The form that was chosen."""
        return self.plain[self.best].form

    @property
    def result(self) -> hold.Holdout | None:
        """How the chosen form did on the held-out rows."""
        return self.tested[self.best][1] if self.best in self.tested else None


def choose(found: Observations, form: str, holdout: str | None, options: dict[str, Any]) -> Choice:
    """Test the candidates that the rows can carry; with nothing held out AICc decides."""
    mask, rule = hold.choose(found, holdout)
    candidates = forms_for(found, form)
    refused = {c.name: refusal(c, found.x(c.variables)) for c in candidates}
    able = [c for c in candidates if refused[c.name] is None]
    if not able:
        raise InputError(f"{found.table.source}: " + "; ".join(filter(None, refused.values())))
    bare = {**options, "resamples": 0}
    plain = {c.name: fit_form(c, found.x(c.variables), found.loss, found.run, **bare) for c in able}
    if form == "auto" and "power" in plain and "E is zero" in plain["power"].notes:
        straight = make("straight", plain["power"].form.variables)
        candidates, able = [*candidates, straight], [*able, straight]
        refused["straight"] = None
        plain["straight"] = fit_form(straight, found.x(straight.variables), found.loss, found.run, **bare)
    tested: dict[str, tuple[Fit, hold.Holdout]] = {}
    obstacle, notes = "no rows were held out", []
    train, held = found.keep(~mask), found.keep(mask)
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
    if tested:
        best = min(tested, key=lambda name: finite(tested[name][1].log_error))
        by = f"error on {rule}" if len(tested) > 1 else "the only form that could be tested"
    else:
        best = min(plain, key=lambda name: finite(plain[name].aicc))
        by = "AICc, nothing being held out" if len(plain) > 1 else "the only form that the table carries"
    if best == "power" and "straight" in (tested or plain):
        best, by = "straight", f"{by}; the power law with floor has its floor at zero"
    by = "asked for" if form != "auto" else by
    return Choice(best, by, candidates, refused, plain, tested, obstacle, notes)


def forms_for(found: Observations, form: str) -> list[Form]:
    """Candidates of `auto`, or the one form asked for; a one-variable form takes data, else size, else compute.

    A column of clusters adds its term to the power law or to Chinchilla's; a named column that no form reads is told.
    """
    varied = [r for r in BUDGETS if r in found.values and len(levels(found.values[r])) > 1]
    if not varied:
        hold.budget(found)
    varied = [r for r in ("data", "size", "compute") if r in varied]
    both = {"size", "data"} <= set(found.values)
    named = [role for role in ROLES if role in found.columns and role not in BUDGETS]
    if form == "auto":
        candidates = [make("chinchilla")] if both else []
        if "unique_data" in named:
            candidates.append(make("repeated"))
        if "clusters" in named:
            candidates.append(make("clusters", ["size", "data"] if both else varied[:1]))
        if "teacher" in named:
            candidates.append(make("distillation", named))
        candidates += [make("power", varied[0]), make("log", varied[0])]
    elif "clusters" in named and form in ("power", "chinchilla", "clusters"):
        two = form == "chinchilla" or (form == "clusters" and both)
        candidates = [make("clusters", ["size", "data"] if two else varied[:1])]
    else:
        given = named if form == "distillation" else ["size", "data"] if form == "clusters" and both else varied
        candidates = [make(form, given)]
    idle = [role for role in named if not any(role in c.variables for c in candidates)]
    if idle:
        flag = idle[0].replace("_", "-")
        raise InputError(f"form {form} does not read --{flag}: leave it out, or use a form that does")
    return candidates


def finite(value: float | None) -> float:
    """A key for min() that puts what is unknown last."""
    return float(value) if value is not None and np.isfinite(value) else float("inf")
