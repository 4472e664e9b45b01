"""The report of a fit: what it writes, what its points say, and that it opens offline."""

import html
import json
import re

import numpy as np
import pytest

from scaling.laws import fit_link, fit_table
from scaling.laws.figures import fit_points
from scaling.laws.table import from_columns
from scaling.view.fit_report import drawings, write_fit_report
from tests.view.samples import Page


def study():
    """Two sizes by six arms by two seeds of E = .1, alpha .3, beta .4; hours in proportion, success and hashes."""
    rng = np.random.default_rng(0)
    n, d = (a.ravel() for a in np.meshgrid([1e4, 3e4, 1e5, 3e5], np.repeat(3e4 * 2.0 ** np.arange(6), 2)))
    loss = (0.1 + 2.0 * n**-0.3 + 9.0 * d**-0.4) * np.exp(rng.normal(0, 0.005, len(n)))
    return {
        "run": [f"run-{i}" for i in range(len(n))],
        "config_hash": [f"{i:04x}" for i in range(len(n))],
        "student": ["mlp", "transformer"] * (len(n) // 2),
        "params": n,
        "frames": d,
        "hours": d / 180_000,
        "val_loss": loss,
        "success_sonic": 1.0 - loss,
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    table = study()
    law = fit_table(table, size="params", data="frames", loss="val_loss", run="run", form="chinchilla", resamples=60,
                    command="scaling fit <table>")  # fmt: skip
    folder = tmp_path_factory.mktemp("report")
    return law, table, write_fit_report(law, table, folder, "A <b>fit</b>")


def test_figures_card_and_page_are_written(report):
    _, _, page = report
    names = {path.name for path in page.parent.iterdir()}
    pictures = ("curves", "fit", "residuals", "exponents", "success")
    assert {"fit.md", "fit.json", "report.html"} | {f"{p}.{kind}" for p in pictures for kind in ("svg", "png")} <= names
    assert "isoflop.svg" not in names
    assert "isoflop: no budget has 5 sizes" in page.read_text(), "what is not drawn is named"


def test_each_run_is_a_point_that_says_its_name_hash_axes_and_prediction(report):
    law, table, page = report
    tips = [dict(json.loads(html.unescape(tip))) for tip in re.findall(r'data-tip="([^"]*)"', page.read_text())]
    assert len(tips) == 2 * len(table["run"]), "a point in each of the two charts"
    points = fit_points(law, table)
    for tip in tips:
        i = int(tip["run"].removeprefix("run-"))
        assert tip["config hash"] == f"{i:04x}"
        assert float(tip["params"].replace(",", "")) == table["params"][i]
        assert float(tip["val loss"]) == pytest.approx(table["val_loss"][i], abs=1e-3)
        assert float(tip["predicted"].split()[0]) == pytest.approx(points.predicted[i], abs=1e-3)
        assert tip["held out"] == ("yes" if points.held[i] else "no")
    hollow = re.findall(r'<path class="dot"[^>]*fill="#fff"', page.read_text())
    assert len(hollow) == 2 * points.held.sum()


def test_the_page_needs_no_network(report):
    text = report[2].read_text()
    assert all(uri.startswith("data:") for uri in Page(text).resources)
    assert "<b>fit</b>" not in text and "&lt;b&gt;fit" in text


def test_the_same_fit_is_the_same_page(report, tmp_path):
    law, table, page = report
    assert write_fit_report(law, table, tmp_path, "A <b>fit</b>").read_text() == page.read_text()


def test_a_table_without_a_law_still_has_a_report(tmp_path):
    rng = np.random.default_rng(1)
    table = {"x": np.repeat(2.0 ** np.arange(5), 2), "y": 0.5 * np.exp(rng.normal(0, 0.05, 10))}
    law = fit_table(table, data="x", loss="y", resamples=60)
    text = write_fit_report(law, table, tmp_path).read_text()
    assert not law.supported
    assert "No law claimed" in text
    assert re.findall(r'class="curve (\w+)"', text).count("dashed") == 0
    assert "isoflop: iso-FLOP curves need size and compute" in text


def test_a_link_to_success_is_drawn(tmp_path):
    table = study()
    table["success_sonic"] = 0.9 / (1.0 + (table["val_loss"] / 0.35) ** 6.0)
    law = fit_table(table, size="params", data="frames", loss="val_loss", form="chinchilla", resamples=60)
    linked = law.with_link(fit_link(from_columns(table), loss="val_loss", success="success_sonic", resamples=60))
    figure = drawings(linked, from_columns(table))["success"]()
    curve = next(line for line in figure.axes[0].get_lines() if line.get_label() == "link")
    truth = 0.9 / (1.0 + (curve.get_xdata() / 0.35) ** 6.0)
    assert np.max(np.abs(curve.get_ydata() - truth)) < 0.02
