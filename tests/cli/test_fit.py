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


@pytest.fixture
def wide(tmp_path):
    """A table with every column that a form reads: 60 runs, size by data, epochs, clusters, a teacher, success."""
    rng = np.random.default_rng(1)
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e6, 1e9, 10)))
    k = np.tile([64.0, 128, 256, 512, 1024], 12)
    teacher = 0.2 + 0.05 * np.tile(np.arange(6.0), 10)
    loss = (0.3 + 30 * n**-0.3 + 60 * d**-0.3 + 0.5 * k**-0.5) * np.exp(rng.normal(0, 0.003, 60))
    columns = {"n": n, "d": d, "u": d / np.resize([1.0, 2, 5, 17], 60), "k": k, "t": teacher, "loss": loss,
               "success": 1 / (1 + (loss / 0.8) ** 4)}  # fmt: skip
    path = tmp_path / "wide.csv"
    lines = [",".join(f"{v:.10g}" for v in row) for row in zip(*columns.values(), strict=True)]
    path.write_text(",".join(columns) + "\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("form", "flags", "point"),
    [
        ("chinchilla", (), {"size", "data"}),
        ("overtraining", (), {"size", "data"}),
        ("repeated", ("--unique-data", "u"), {"size", "data", "unique-data"}),
        ("chinchilla", ("--clusters", "k"), {"size", "data", "clusters"}),
        ("distillation", ("--teacher", "t"), {"size", "data", "teacher"}),
        ("broken", (), {"data"}),
        ("straight", (), {"data"}),
    ],
)
def test_every_form_of_the_surface_fits_and_predicts(call, wide, tmp_path, form, flags, point):
    fit = tmp_path / "fit.json"
    record = call("fit", wide, "--loss", "loss", "--size", "n", "--data", "d", "--form", form, *flags, "--holdout",
                  "none", "--resamples", "50", "--json", "-").json  # fmt: skip
    assert record.keys() >= KEYS
    assert record["form"] == ("clusters" if "--clusters" in flags else form)
    assert record["label"] == "not validated"
    fit.write_text(json.dumps(record))
    where = {"size": "3e8", "data": "5e8", "unique-data": "1e8", "clusters": "384", "teacher": "0.3"}
    given = [part for name in sorted(point) for part in (f"--{name}", where[name])]
    said = call("predict", fit, *given, "--json", "-").json["prediction"]
    assert said["interval"][0] < said["loss"] < said["interval"][1]
    assert set(said) >= {name.replace("-", "_") for name in point}


def test_budget_success_and_residuals_in_the_loss(call, wide, tmp_path):
    fit = tmp_path / "fit.json"
    call("fit", wide, "--loss", "loss", "--size", "n", "--data", "d", "--form", "chinchilla", "--success", "success",
         "--residuals", "loss", "--delta", "10", "--drop-highest", "2", "--resamples", "60", "--json", fit)  # fmt: skip
    record = json.loads(fit.read_text())
    assert len(record["excluded"]) == 2
    assert record["link"]["params"]["midpoint"] == pytest.approx(0.8, rel=1e-3)
    best = call("predict", fit, "--optimal", "1e18", "--json", "-").json["optimal"]
    assert 6 * best["size"] * best["data"] == pytest.approx(1e18)
    said = call("predict", fit, "--size", "1e9", "--data", "1e9", "--json", "-").json["prediction"]
    assert said["success"] == pytest.approx(1 / (1 + (said["loss"] / 0.8) ** 4), rel=1e-2)
    assert "Success rate" in call("fit", wide, "--loss", "loss", "--data", "d", "--success", "success",
                                  "--resamples", "50").out  # fmt: skip


GOOD = "run,n,d,y\n" + "\n".join(f"r{i},{10 ** (6 + i % 3)},{2.0**i * 1e5},{1 + 2.0**-i}" for i in range(9)) + "\n"
TWO = ("--size", "n", "--data", "d", "--loss", "y", "--run", "run")
ONE = ("--data", "d", "--loss", "y", "--run", "run")


@pytest.mark.parametrize(
    ("old", "new", "arguments", "said"),
    [
        ("", "", ("--data", "dd", "--loss", "y"), "it has: run, n, d, y"),
        (GOOD, "run,d,y\n" + "\n".join(f"r{i},x{i},1" for i in range(9)), ONE, "column 'd'"),
        (GOOD, "run,d,y\n" + "\n".join(f"r{i},{i + 1},nan" for i in range(9)), ONE, "0 usable rows of 9"),
        (",2.0\n", ",-2.0\n", ONE, "needs loss > 0"),
        (GOOD, "run,d,y\n" + "\n".join(f"r{i},5,{i + 1}" for i in range(9)), ONE, "single level"),
        (GOOD, "\n".join(GOOD.splitlines()[:4]), (*ONE, "--form", "power"), "needs 4 distinct levels of data"),
        (GOOD, GOOD.replace("10000000,", "1000000,").replace("100000000,", "1000000,"), (*TWO, "--form", "chinchilla"),
         "distinct levels of size"),
        (GOOD, GOOD + "r0,1000000,100000.0,7\n", TWO, "one run and point two losses"),
        ("", "", (*ONE, "--resamples", "3"), "at least 50 resamples"),
        ("", "", (*ONE, "--level", "2"), "level in [.5, 1)"),
        ("", "", (*ONE, "--residuals", "square"), "use log or loss"),
        ("", "", (*ONE, "--drop-highest", "-1"), "is negative"),
        ("", "", (*ONE, "--drop-highest", "8"), "needs"),
        ("", "", (*ONE, "--holdout", "d?3"), "not understood"),
        ("", "", (*ONE, "--success", "n"), "within [0, 1]"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(refused, tmp_path, old, new, arguments, said):
    path = tmp_path / "t.csv"
    path.write_text(GOOD.replace(old, new) if old else GOOD)
    assert said in refused("fit", path, *arguments)


def test_a_bad_row_is_dropped_with_its_reason_and_too_few_left_is_refused(call, refused, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(GOOD.replace(",2.0\n", ",oops\n"))
    record = call("fit", path, *ONE, "--form", "power", "--holdout", "none", "--resamples", "50", "--json", "-").json
    assert record["excluded"] == [{"row": 0, "reason": "y is text ('oops')"}]
    lines = GOOD.splitlines()
    path.write_text("\n".join([*lines[:4], *(line.rsplit(",", 1)[0] + ",bad" for line in lines[4:])]))
    assert "needs 4 distinct levels" in refused("fit", path, *ONE, "--form", "power")


def test_a_broken_parquet_file_is_one_sentence(refused, tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1")
    assert "cannot be read" in refused("fit", path, *ONE)
