"""`scaling fit` and `scaling predict` on a planted law."""

import json

import numpy as np
import pytest

KEYS = {
    "form",
    "status",
    "params",
    "standard_errors",
    "intervals",
    "objective",
    "n",
    "excluded",
    "holdout",
    "validated",
    "alternatives",
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A table of E = .02, A = 3, alpha = .4 with .2 % of noise, two seeds a level."""
    rng = np.random.default_rng(0)
    frames = np.repeat(3e4 * 2.0 ** np.arange(7), 2)
    loss = (0.02 + 3.0 * frames**-0.4) * np.exp(rng.normal(0, 0.002, len(frames)))
    path = tmp_path_factory.mktemp("tables") / "planted.csv"
    lines = [f"r{i},{f:.0f},{y:.9f},4" for i, (f, y) in enumerate(zip(frames, loss, strict=True))]
    path.write_text("run,frames,val_loss,clusters\n" + "\n".join(lines) + "\n")
    return path


def columns(planted, *more):
    return ("fit", planted, "--loss", "val_loss", "--data", "frames", "--run", "run", "--resamples", "100", *more)


def test_a_planted_law_is_found_and_predicts(call, planted, tmp_path):
    record = call(*columns(planted, "--form", "power", "--json", "-")).json
    assert record.keys() >= KEYS
    assert record["params"]["alpha"] == pytest.approx(0.4, abs=0.05)
    assert record["validated"]
    assert record["n"] == 14
    assert record["command"].startswith(f"scaling fit {planted}")
    (tmp_path / "fit.json").write_text(json.dumps(record))
    said = call("predict", tmp_path / "fit.json", "--data", "4e6", "--json", "-").json
    assert said.keys() >= KEYS
    low, high = said["prediction"]["interval"]
    assert low < 0.02 + 3.0 * 4e6**-0.4 < high
    assert low < said["prediction"]["loss"] < high


def test_the_card_is_what_a_person_sees(call, planted, tmp_path):
    called = call(*columns(planted, "--holdout", "none", "--report", tmp_path / "report"))
    assert "# Fit of" in called.out
    assert "not validated" in called.out
    assert {"fit.md", "fit.json", "fit.svg"} <= {file.name for file in (tmp_path / "report").iterdir()}
    assert "<svg" in (tmp_path / "report" / "fit.svg").read_text()


def test_a_form_that_is_not_there_is_answered_with_those_that_are(refused, planted):
    sentence = refused(*columns(planted, "--form", "parabola"))
    assert all(name in sentence for name in ("parabola", "auto", "power", "log", "chinchilla", "distillation"))


@pytest.mark.parametrize(
    ("form", "flag"),
    [("repeated", "--size"), ("distillation", "--size"), ("overtraining", "--size"), ("chinchilla", "--size")],
)
def test_a_form_asks_for_the_columns_it_reads(refused, planted, form, flag):
    assert flag in refused(*columns(planted, "--form", form))


@pytest.mark.parametrize(("flag", "form"), [("--unique-data", "power"), ("--teacher", "log"), ("--clusters", "broken")])
def test_a_column_that_no_form_reads_is_not_silently_ignored(refused, planted, flag, form):
    assert flag in refused(*columns(planted, flag, "clusters", "--form", form))


def test_mistakes_in_the_table(refused, planted, tmp_path):
    assert "frames, val_loss" in refused("fit", planted, "--loss", "val_los", "--data", "frames")
    assert "--size, --data, --compute" in refused("fit", planted, "--loss", "val_loss")
    assert "nosuch.csv" in refused("fit", tmp_path / "nosuch.csv", "--loss", "y", "--data", "x")


def test_predict_asks_for_what_the_law_needs(call, refused, planted, tmp_path):
    call(*columns(planted, "--json", tmp_path / "fit.json"))
    assert "give data" in refused("predict", tmp_path / "fit.json")
    assert "leave size out" in refused("predict", tmp_path / "fit.json", "--data", "1e6", "--size", "3")
    assert "nosuch.json" in refused("predict", tmp_path / "nosuch.json", "--data", "1e6")
    assert "leave --law out" in refused("predict", tmp_path / "fit.json", "--data", "1e6", "--law", "x")


def test_one_law_of_a_study(call, refused, planted, tmp_path):
    law = call(*columns(planted, "--json", "-")).json
    (tmp_path / "law.json").write_text(json.dumps({"laws": {"unique_frames|mlp|0.2M": law}}))
    point = ("--data", "1e6", "--json", "-")
    assert "unique_frames|mlp|0.2M" in refused("predict", tmp_path / "law.json", *point)
    said = call("predict", tmp_path / "law.json", "--law", "unique_frames|mlp|0.2M", *point).json
    assert said["prediction"]["data"] == 1e6
