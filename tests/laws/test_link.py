"""The link from loss to success: planted truth, statuses, refusals and its way through a law."""

import numpy as np
import pytest
from tables import falling, planted

from scaling.errors import InputError
from scaling.laws import Law, Link, fit_link, fit_table
from scaling.laws.link import Sigmoid
from scaling.laws.table import from_columns


def table(noise=0.0, seed=0, params=(0.95, 0.08, 3.0)):
    rng = np.random.default_rng(seed)
    loss = np.geomspace(0.02, 0.4, 25)
    success = Sigmoid().predict(np.array(params), loss[:, None]) + rng.normal(0, noise, 25) * (noise > 0)
    return from_columns({"val_loss": loss, "success": np.clip(success, 0, 1)})


COLUMNS = {"loss": "val_loss", "success": "success"}


def test_noise_free_truth_is_recovered():
    link = fit_link(table(), **COLUMNS, resamples=50)
    np.testing.assert_allclose(link.params, [0.95, 0.08, 3.0], rtol=1e-6)
    assert link.record["status"] == "converged"


def test_noisy_truth_is_within_its_intervals():
    link = fit_link(table(0.03), **COLUMNS, resamples=300)
    for name, truth in zip(("top", "midpoint", "steepness"), (0.95, 0.08, 3.0), strict=True):
        low, high = link.record["intervals"][name]
        assert low < truth < high
    success, low, high = link.predict(0.08)
    assert 0 <= low < success < high <= 1
    again = Link.from_json(link.to_json())
    assert again.predict(0.1) == link.predict(0.1)


@pytest.mark.parametrize(
    ("success", "status"), [(0.5 + 0.01 * np.cos(7 * np.arange(25)), "flat"), (np.linspace(0.1, 0.9, 25), "inverted")]
)
def test_flat_and_inverted_are_statuses(success, status):
    data = from_columns({"val_loss": np.geomspace(0.02, 0.4, 25), "success": success})
    assert fit_link(data, **COLUMNS, resamples=50).record["status"] == status


def test_what_is_no_rate_is_refused():
    data = from_columns({"val_loss": [0.1] * 9, "success": [0.5, 90.0] + [0.1] * 7})
    with pytest.raises(InputError, match=r"row 1 .* within \[0, 1\]"):
        fit_link(data, **COLUMNS)
    with pytest.raises(InputError, match="needs 5 rows at 4 losses"):
        fit_link(from_columns({"val_loss": [0.1] * 9, "success": [0.5] * 9}), **COLUMNS)


def test_a_law_with_a_link_predicts_success():
    columns = planted(falling, 0.01, levels=7)
    columns["success"] = Sigmoid().predict(np.array([0.95, 0.04, 3.0]), columns["val_loss"][:, None])
    law = fit_table(columns, data="frames", loss="val_loss", run="run", form="power", resamples=60, diagnostics=False)
    assert law.success(data=1e6) is None
    link = fit_link(from_columns(columns), loss="val_loss", success="success", run="run", resamples=60)
    law = Law.from_json(law.with_link(link).to_json())
    success, low, high = law.success(data=1e6)
    truth = Sigmoid().predict(np.array([0.95, 0.04, 3.0]), np.array([[falling(1e6)]]))[0]
    assert low < truth < high
    assert success == pytest.approx(truth, abs=0.03)
