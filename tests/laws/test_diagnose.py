"""Profiles, outliers, influence, the term in clusters and one level ahead at a time."""

import numpy as np
import pytest
from tables import falling, grid, planted

from scaling.laws import fit_table
from scaling.laws.diagnose import sandwich

COLUMNS = {"data": "frames", "loss": "val_loss", "run": "run", "form": "power"}


def test_profile_holds_the_truth_and_looks_like_the_bootstrap():
    law = fit_table(grid(0.005, seed=1), size="n", data="d", loss="loss", run="run", form="chinchilla",
                    holdout="none", resamples=400)  # fmt: skip
    for name, truth in (("E", 1.8), ("alpha", 0.35), ("beta", 0.37)):
        low, high = law.record["profile"][name]["interval"]
        boot = np.diff(law.record["intervals"][name])[0]
        assert low < truth < high
        assert 0.5 < (high - low) / boot < 2.0
        assert not law.record["profile"][name]["weak"]


def test_what_the_rows_do_not_pin_down_is_called_weak():
    """Half a decade of a gentle power law: its floor may be anything down to nothing."""
    table = planted(lambda x: 0.05 + 0.5 * x**-0.15, 0.01, levels=6, ratio=1.3, seed=2)
    record = fit_table(table, **COLUMNS, holdout="none", resamples=60).record
    assert record["profile"]["E"]["weak"]


@pytest.mark.parametrize("delta", [1e-3, 1.0])
def test_the_factor_of_the_profile_is_that_of_the_normal_and_of_the_median(delta):
    """Wide: 1 / sigma^2; narrow: the median's, delta times 2 phi(0) / sigma over delta squared."""
    r = np.random.default_rng(0).normal(0.0, 0.05, 200_000)
    wanted = 1 / 0.05**2 if delta == 1.0 else 2 / np.sqrt(2 * np.pi) / 0.05 / delta
    assert sandwich(r, delta) == pytest.approx(wanted, rel=0.02)


def test_an_outlier_is_found_and_the_fit_without_it_told():
    table = planted(falling, 0.004, levels=8, seeds=3, seed=3)
    table["val_loss"][4] *= 1.3
    report = fit_table(table, **COLUMNS, holdout="none", resamples=60).record["influence"]
    assert [entry["row"] for entry in report["outliers"]] == [4]
    assert report["without_outliers"]["n"] == 23
    assert report["without_outliers"]["params"]["alpha"] == pytest.approx(0.4, abs=0.03)
    assert len(report["runs"]) == 5


def test_one_run_with_leverage_is_named():
    """The only run at the largest budget pulls the exponent more than any other."""
    table = planted(falling, 0.01, levels=5, seeds=4, seed=4)
    table = {k: [*v, extra] for (k, v), extra in zip(table.items(), [3e4 * 2.0**9, 0.05, "far"], strict=True)}
    runs = fit_table(table, **COLUMNS, holdout="none", resamples=60).record["influence"]["runs"]
    assert runs[0]["rows"] == [20]
    assert abs(runs[0]["change_in_standard_errors"]) > abs(runs[1]["change_in_standard_errors"])


def clustered(effect, counts, noise=0.004, seed=0):
    rng = np.random.default_rng(seed)
    x, k = (a.ravel() for a in np.meshgrid(3e4 * 2.0 ** np.arange(6), counts))
    loss = (0.02 + 3.0 * x**-0.4 + effect * k**-0.5) * np.exp(rng.normal(0, noise, len(x)))
    return {"frames": x, "k": k, "val_loss": loss}


def test_a_term_in_clusters_is_tested_against_none():
    given = {"data": "frames", "loss": "val_loss", "clusters": "k", "form": "power", "resamples": 60}
    counts = np.array([16.0, 64, 128, 384, 1024])
    there = fit_table(clustered(0.05, counts), **given, diagnostics=False)
    assert there.form == "clusters"
    assert there.record["cluster_test"]["p_value"] < 0.02
    assert not there.record["cluster_test"]["descriptive"]
    none = fit_table(clustered(0.0, counts), **given, diagnostics=False)
    assert none.record["cluster_test"]["p_value"] > 0.05
    three = fit_table(clustered(0.05, counts[-3:]), **given, diagnostics=False)
    assert three.record["cluster_test"]["descriptive"]
    assert any("descriptive" in note for note in three.record["notes"])


def test_auto_weighs_the_law_with_clusters_against_those_without():
    table = clustered(0.05, np.array([16.0, 64, 128, 384, 1024]), seed=1)
    law = fit_table(table, data="frames", loss="val_loss", clusters="k", resamples=60, diagnostics=False)
    assert {a["form"] for a in law.record["alternatives"]} >= {"clusters", "power", "log", "constant"}
    assert law.form == "clusters"


def test_one_level_ahead_at_a_time():
    rolling = fit_table(planted(falling, 0.01, levels=9), **COLUMNS, resamples=60).record["rolling"]
    assert [entry["n"] for entry in rolling] == [2, 2, 2]
    assert [entry["trained_on"] for entry in rolling] == [12, 14, 16]
    assert all(abs(entry["relative_error"]) < 0.05 for entry in rolling)
    assert np.mean([entry["coverage"] for entry in rolling]) > 0.5
    assert fit_table(planted(falling, 0.01), **COLUMNS, resamples=60, diagnostics=False).record["rolling"] == []


def test_a_parameter_at_a_bound_is_never_validated():
    """No floor in the truth: asked for a floor the fit says where it ended; left alone it takes the form without."""
    table = planted(lambda x: 3.0 * x**-0.4, 0.004, levels=7, seed=2)
    law = fit_table(table, **COLUMNS, resamples=100, diagnostics=False)
    assert law.status == "at a bound"
    assert law.record["validated"] is False
    assert "E is zero" in law.record["label_reason"]
    free = fit_table(table, **{**COLUMNS, "form": "auto"}, resamples=100, diagnostics=False)
    assert free.form == "straight"
    assert free.status == "converged"
    assert free.record["validated"] is True
    assert free.params["alpha"] == pytest.approx(0.4, abs=0.01)
