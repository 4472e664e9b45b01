"""Compute-optimal solvers are each other's inverses; the minima of budgets agree with them, or say that they do not."""

import numpy as np
import pytest
from tables import grid

from scaling.errors import InputError
from scaling.laws import fit_table, optimal
from scaling.laws.catalogue import make
from scaling.laws.fit import Curve
from scaling.laws.isoflop import disagree

SPAN = {"size": (1e7, 1e10), "data": (1e9, 1e12), "unique_data": (1e9, 1e12)}


def curve(name, params, variables=("size", "data")):
    params = np.array(params)
    draws = np.array([params * np.exp(0.01 * np.sin(np.arange(len(params)) + k)) for k in range(60)])
    return Curve(make(name, variables), params, draws, np.zeros(60), 60, 0.9, SPAN)


CHINCHILLA = curve("chinchilla", [1.8, 480.0, 2000.0, 0.35, 0.37])
GADRE = curve("overtraining", [1.8, 140.0, 190.0, 0.18])
REPEATED = curve("repeated", [1.8, 480.0, 1500.0, 0.35, 0.37, 15.0, 5.0], ("size", "data", "unique_data"))


@pytest.mark.parametrize(
    ("law", "others"), [(CHINCHILLA, {}), (GADRE, {}), (REPEATED, {"unique_data": 1e10})], ids=["chin", "gadre", "rep"]
)
def test_budget_is_the_inverse_of_allocate(law, others):
    best = optimal.allocate(law, 1e21, others=others)
    assert 6 * best.size * best.data == pytest.approx(1e21, rel=1e-12)
    for name in ("size", "data", "loss"):
        back = optimal.budget(law, **{name: getattr(best, name)}, **others)
        assert back == pytest.approx(1e21, rel=1e-5), name
    low, high = best.size_interval
    assert low < best.size < high


@pytest.mark.parametrize("law", [CHINCHILLA, GADRE], ids=["chin", "gadre"])
def test_closed_solution_is_the_minimum(law, monkeypatch):
    """The formula against a search that knows nothing of it, and no size near it does better."""
    best = optimal.allocate(law, 3e22)
    for factor in (0.9, 1.1):
        x = np.array([[best.size * factor, best.data / factor]])
        assert law.form.predict(law.params, x)[0] > best.loss
    monkeypatch.setattr(optimal, "closed", lambda *_: None)
    searched = optimal.optimal_size(law, law.params[None], 3e22)[0]
    assert searched == pytest.approx(best.size, rel=1e-5)


def test_what_cannot_be_allocated_is_told():
    with pytest.raises(InputError, match="not a positive"):
        optimal.allocate(CHINCHILLA, -1.0)
    with pytest.raises(InputError, match="has no size against data"):
        optimal.allocate(curve("power", [0.1, 3.0, 0.4], ("data",)), 1e20)
    with pytest.raises(InputError, match="one of size, data and loss"):
        optimal.budget(CHINCHILLA, size=1e9, data=1e9)
    with pytest.raises(InputError, match="no budget within reach"):
        optimal.budget(CHINCHILLA, loss=1.0)
    with pytest.raises(InputError, match="unique_data"):
        optimal.allocate(REPEATED, 1e20)


def budgets(shift=0.0, *, loss=None, width=3.0, noise=0.001, seed=0):
    """Six budgets by nine sizes around the optimum of a symmetric law (true exponent .5), `shift` e-folds off."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in np.geomspace(1e18, 1e21, 6):
        best = np.sqrt(c / 6.0) * 0.05
        for z in np.linspace(-width, width, 9) + shift:
            n = best * np.exp(z)
            d = c / (6.0 * n)
            y = 1.8 + 400 * n**-0.35 + 400 * 0.05**-0.7 * d**-0.35 if loss is None else loss(c, n)
            rows.append((n, c, y * np.exp(rng.normal(0, noise))))
    n, c, y = np.array(rows).T
    return {"n": n, "c": c, "loss": y}


COLUMNS = {"size": "n", "compute": "c", "loss": "loss", "form": "chinchilla", "resamples": 100, "diagnostics": False}


def test_minima_of_the_budgets_agree_with_the_joint_fit():
    law = fit_table(budgets(), **COLUMNS)
    iso = law.record["isoflop"]
    assert [entry["status"] for entry in iso["budgets"]] == ["converged"] * 6
    assert iso["exponent"] == pytest.approx(0.5, abs=0.02)
    assert law.record["derived"]["optimal_size_exponent"]["value"] == pytest.approx(0.5, abs=0.02)
    assert law.status == "converged"


def test_minima_at_an_edge_are_dropped_and_alone_make_no_law():
    table = budgets()
    cut = (table["c"] < 1e20) | (table["n"] < 1.1 * np.sqrt(table["c"] / 6.0) * 0.05)
    some = fit_table({k: v[cut] for k, v in table.items()}, **COLUMNS).record["isoflop"]
    assert [entry["status"] for entry in some["budgets"]].count("edge minimum") == 2
    assert some["exponent"] == pytest.approx(0.5, abs=0.03)
    law = fit_table(budgets(shift=-3.5), **COLUMNS)
    assert law.status == "edge minimum"
    assert law.verdict.startswith("No compute-optimal law")
    assert not law.supported
    assert law.record["validated"] is False


def test_estimators_that_disagree_are_a_status():
    """Budgets whose minima go as C^.8 on a surface that no sum of powers follows."""

    def loss(c, n):
        best = 3e7 * (c / 1e18) ** 0.8
        return 2.0 + 2.0 * (c / 1e18) ** -0.2 + 0.01 * np.log(n / best) ** 2

    law = fit_table(budgets(loss=loss, width=5.0), **COLUMNS, holdout="none")
    low, high = law.record["isoflop"]["interval"]
    assert low < 0.8 < high
    assert law.status == "disagreeing estimators"
    assert any("do not meet" in note for note in law.record["notes"])
    assert law.record["validated"] is False


def test_a_grid_without_budgets_has_no_minima():
    law = fit_table(grid(0.01), size="n", data="d", loss="loss", form="chinchilla", resamples=50, diagnostics=False)
    assert law.record["isoflop"] is None
    assert disagree((0.1, 0.2), (0.3, 0.4))
    assert not disagree((0.1, 0.3), (0.2, 0.4))
