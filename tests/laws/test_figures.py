"""Figures: deterministic, self-contained, and honest about what is no law."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from tables import falling, grid, planted

from scaling.errors import InputError
from scaling.laws import fit_groups, fit_table
from scaling.laws.figures import (
    against_clusters,
    compact,
    exponents,
    fit_points,
    isoflop,
    isoflop_minima,
    law_curves,
    learning_curves,
    loss_curves,
    loss_success,
    optimal_exponent,
    png,
    predicted_measured,
    residuals,
    svg,
    throughput,
    write_figure,
)


@pytest.fixture(scope="module")
def study():
    """Two students: one follows a law, one is noise; frames and hours."""
    one, two = planted(falling, 0.01), planted(lambda x: 0.06 + 0 * x, 0.05, seed=8)
    table = {name: [*one[name], *two[name]] for name in one}
    table["run"] = [f"r{i}" for i in range(20)]
    table["student"] = ["transformer"] * 10 + ["mlp"] * 10
    table["hours"] = np.array(table["frames"]) / 180_000
    laws = {}
    for column in ("frames", "hours"):
        found, _ = fit_groups(table, ["student"], data=column, loss="val_loss", run="run", resamples=100)
        laws |= {(column, key): law for key, law in found.items()}
    return table, laws


def draw(study):
    return loss_curves(study[0], loss="val_loss", x=("frames", "hours"), by=["student"], laws=study[1])


def test_same_data_same_bytes(study):
    assert svg(draw(study)) == svg(draw(study))
    assert png(draw(study)) == png(draw(study))


def test_svg_is_one_element_and_opens_offline(study):
    text = svg(draw(study))
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert 'href="http' not in text
    assert "<image" not in text


def test_a_law_is_dashed_beyond_its_rows_and_noise_gets_no_band(study):
    figure = draw(study)
    for panel, column in zip(figure.axes, ("frames", "hours"), strict=True):
        laws = {key[1]: law for key, law in study[1].items() if key[0] == column}
        assert laws[("transformer",)].supported
        assert not laws[("mlp",)].supported
        dashed = [line for line in panel.get_lines() if line.get_linestyle() == "--"]
        assert len(dashed) == len(panel.collections) == 1
        largest = laws[("transformer",)].tested.span["data"][1]
        assert dashed[0].get_xdata().min() > largest
        hollow = [line for line in panel.get_lines() if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
        assert sum(len(line.get_xdata()) for line in hollow) == 4
    labels = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert any("mlp: no law" in entry for entry in labels)


def test_rows_that_cannot_be_drawn_are_left_out():
    table = planted(falling, 0.01) | {"val_loss": [float("nan"), *planted(falling, 0.01)["val_loss"][1:]]}
    assert "<svg" in svg(loss_curves(table, loss="val_loss", x=("frames",)))


def test_predicted_against_measured_marks_the_held_out_rows():
    table = grid(0.01)
    law = fit_table(table, size="n", data="d", loss="loss", run="run", resamples=50, drop_highest=2)
    panel = predicted_measured(law, table).axes[0]
    squares = [line for line in panel.get_lines() if line.get_marker() == "s"]
    assert len(squares) == len(law.record["holdout"]) > 0


def test_ticks_are_plain():
    assert [compact(v) for v in (0.03, 2.5, 20_000, 1.5e6, 3e9)] == ["0.03", "2.5", "20k", "1.5M", "3G"]


@pytest.fixture(scope="module")
def joint():
    """A Chinchilla-like grid of 6 sizes and its law, the largest budgets held out."""
    table = grid(0.01) | {"hours": grid(0.0)["d"] / 180_000}
    law = fit_table(table, size="n", data="d", loss="loss", run="run", form="chinchilla", resamples=60)
    return law, table


def test_points_are_the_rows_of_the_fit_with_the_prediction_that_had_not_seen_the_held_out(joint):
    law, table = joint
    points = fit_points(law, table)
    assert list(points.row[points.held]) == [row["row"] for row in law.record["holdout"]]
    assert points.predicted[points.held] == pytest.approx([row["predicted"] for row in law.record["holdout"]])
    assert points.axes["compute"] == pytest.approx(6.0 * table["n"] * table["d"])
    assert np.all((points.low < points.predicted) & (points.predicted < points.high))
    assert points.residual == pytest.approx(np.log(points.loss) - np.log(points.predicted))
    fewer = fit_table(
        table, size="n", data="d", loss="loss", run="run", form="chinchilla", resamples=60, drop_highest=3
    )
    assert len(fit_points(fewer, table).row) == len(points.row) - 3


def test_a_law_in_size_and_data_has_a_curve_for_each_size_that_goes_on_dashed(joint):
    law, table = joint
    figure = law_curves(law, table, x=("hours",))
    frames, hours = figure.axes
    sizes = np.unique(table["n"])
    for line_style in ("-", "--"):
        curves = [
            line for line in frames.get_lines() if line.get_linestyle() == line_style and len(line.get_xdata()) > 9
        ]
        assert len(curves) == len(sizes)
    dashed = [line for line in frames.get_lines() if line.get_linestyle() == "--"]
    assert max(line.get_xdata().max() for line in dashed) == pytest.approx(2.0 * table["d"].max())
    assert hours.get_xlabel() == "hours"
    first = [axis.get_lines()[0].get_xdata()[0] for axis in (frames, hours)]
    assert first[0] / first[1] == pytest.approx(180_000)
    with pytest.raises(InputError, match="not proportional"):
        law_curves(law, table, x=("loss",))


def test_many_sizes_are_gathered_in_bins():
    rng = np.random.default_rng(1)
    table = grid(0.0, sizes=9, datas=9)
    table["n"] = table["n"] * rng.uniform(0.9, 1.1, len(table["n"]))
    table["loss"] = (1.8 + 480 * table["n"] ** -0.35 + 2000 * table["d"] ** -0.37) * np.exp(rng.normal(0, 0.01, 81))
    law = fit_table(table, size="n", data="d", loss="loss", run="run", form="chinchilla", resamples=50)
    labels = [entry.get_text() for entry in law_curves(law, table).axes[0].get_legend().get_texts()]
    assert sum(label.startswith("about") for label in labels) == 6


def test_residuals_have_a_panel_for_each_axis_that_varies(joint):
    law, table = joint
    assert [axis.get_xlabel() for axis in residuals(law, table).axes] == ["size: n", "data: d", "compute (derived)"]
    one = planted(falling, 0.01)
    assert len(residuals(fit_table(one, data="frames", loss="val_loss", resamples=50), one).axes) == 1


def test_the_bootstrap_of_exponents_is_that_of_the_law(joint):
    law, _ = joint
    figure = exponents(law)
    assert [axis.get_xlabel() for axis in figure.axes] == ["α", "β", "optimal size exponent"]
    drawn = sum(
        bar.get_height() for bar in figure.axes[0].patches if hasattr(bar, "get_height") and bar.get_width() < 0.2
    )
    assert 0.9 * 60 <= drawn <= 60 + 1
    assert f"{law.params['alpha']:.3g}" in figure.axes[0].get_title()


def isoflop_table(edge=False):
    """Five budgets whose best size is 1e8 (C / 1e19)^.45; with `edge` the largest has small sizes only."""
    rows = []
    for k, budget in enumerate(np.geomspace(1e19, 1e21, 5)):
        best = 1e8 * (budget / 1e19) ** 0.45
        for factor in np.geomspace(0.05, 0.5, 7) if edge and k == 4 else np.geomspace(0.2, 5.0, 7):
            loss = 2.0 * (budget / 1e19) ** -0.05 * np.exp(0.03 * np.log(factor) ** 2)
            rows.append((best * factor, budget * (1.0 + 0.01 * (k % 2)), loss))
    n, c, loss = np.array(rows).T
    return {"n": n, "c": c, "loss": loss}


def test_isoflop_minima_recover_a_planted_exponent_and_drop_the_edge():
    table = isoflop_table()
    minima = isoflop_minima(table["n"], table["c"], table["loss"])
    assert [one.status for one in minima] == ["minimum"] * 5
    assert minima[0].size == pytest.approx(1e8, rel=1e-6) and minima[0].loss == pytest.approx(2.0)
    found = optimal_exponent(minima)
    assert found is not None and found[0] == pytest.approx(0.45, abs=0.002) and found[1] < 0.45 < found[2]
    edge = isoflop_table(edge=True)
    minima = isoflop_minima(edge["n"], edge["c"], edge["loss"])
    assert [one.status for one in minima] == ["minimum"] * 4 + ["edge"]
    assert minima[-1].size is None
    assert optimal_exponent(minima[:2]) is None
    upside_down = isoflop_minima(table["n"], table["c"], 1.0 / table["loss"])
    assert {one.status for one in upside_down} == {"no minimum"}


def test_rows_of_no_budget_are_left_out_of_the_isoflop_curves():
    table = isoflop_table()
    lone = [[1e8, 3e8], [5e19, 1.2e19], [2.0, 9.0]]
    n, c, loss = (np.append(table[key], more) for key, more in zip(("n", "c", "loss"), lone, strict=True))
    before, after = isoflop_minima(table["n"], table["c"], table["loss"]), isoflop_minima(n, c, loss)
    assert [one.size for one in after] == pytest.approx([one.size for one in before])


def test_the_isoflop_figure_sets_the_minima_beside_the_joint_fit():
    table = isoflop_table(edge=True)
    law = fit_table(table, size="n", compute="c", loss="loss", form="chinchilla", resamples=50, holdout="none")
    left, right = isoflop(law, table).axes
    labels = " ".join(entry.get_text() for entry in right.get_legend().get_texts())
    assert "minima: 0.449 (" in labels and "joint fit" in labels and "1 at an edge" in labels
    assert len([line for line in left.get_lines() if line.get_marker() == "*"]) == 4
    few = {key: column[::2] for key, column in table.items()}
    with pytest.raises(InputError, match="no budget has 5 sizes"):
        isoflop(
            fit_table(few, size="n", compute="c", loss="loss", form="chinchilla", resamples=50, holdout="none"), few
        )
    one = planted(falling, 0.01)
    with pytest.raises(InputError, match="need size and compute"):
        isoflop(fit_table(one, data="frames", loss="val_loss", resamples=50), one)


def small_study():
    """Two families by two sizes by two K, with a logged curve each."""
    rows, logs = [], []
    for k in (2, 4):
        for s, student in enumerate(("mlp", "transformer")):
            for params in (5e4, 2e5):
                for seed in range(2):
                    run = f"{student}-{params:.0f}-{k}-{seed}"
                    loss = 0.3 - 0.02 * k - 0.01 * s - 1e-7 * params + 0.001 * seed
                    rows.append({"run": run, "student": student, "size": f"{params / 1e6:g}M", "params": params,
                                 "clusters": k, "val_loss": loss, "success": 1.0 - loss, "flops": 1e9 * params,
                                 "seconds": 10.0 * (1 + s), "expert": 2.0 + k})  # fmt: skip
                    logs += [{"run": run, "student": student, "size": f"{params / 1e6:g}M", "step": step,
                              "val_loss": loss * (1 + 10 / step)} for step in (10, 20, 40)]  # fmt: skip
    return tuple({key: [row[key] for row in table] for key in table[0]} for table in (rows, logs))


def test_figures_of_a_study():
    rows, logs = small_study()
    curves = learning_curves(logs, panel="size")
    assert [axis.get_title() for axis in curves.axes] == ["size 0.05M", "size 0.2M"]
    assert [entry.get_text() for entry in curves.legends[0].get_texts()] == ["mlp", "transformer"]
    median = curves.axes[0].get_lines()[0].get_ydata()
    assert len(median) == 3 and median[0] > median[-1]

    clusters = against_clusters(rows, ("expert", "label_conflict", "val_loss"))
    assert [axis.get_title() for axis in clusters.axes] == ["expert", "val loss"], "what the table lacks has no panel"
    bank = clusters.axes[0].get_lines()[0]
    assert list(bank.get_xdata()) == [2, 4] and list(bank.get_ydata()) == [4, 6]
    assert len(clusters.axes[1].containers) == 4

    (rate,) = throughput(rows).axes
    assert list(rate.get_lines()[1].get_ydata()) == pytest.approx([5e12, 2e13])
    assert list(rate.get_lines()[3].get_ydata()) == pytest.approx([2.5e12, 1e13])

    (success,) = loss_success(rows, loss="val_loss", success="success", by=("student",)).axes
    assert sum(len(line.get_xdata()) for line in success.get_lines()) == 16
    linked = loss_success(rows, loss="val_loss", success="success", link=lambda loss: (1 - loss, 0.9 - loss, 1.0)).axes[
        0
    ]
    curve = next(line for line in linked.get_lines() if line.get_label() == "link")
    assert curve.get_ydata() == pytest.approx(1 - curve.get_xdata())


def test_figures_of_a_study_say_what_is_missing():
    rows, logs = small_study()
    with pytest.raises(InputError, match="none of nothing"):
        against_clusters(rows, ("nothing",))
    with pytest.raises(InputError, match="single value of clusters"):
        against_clusters({key: column[:4] for key, column in rows.items()}, ("val_loss",))
    with pytest.raises(InputError, match="none of frames"):
        throughput(rows, work=("frames",))
    with pytest.raises(InputError, match="no curve to draw"):
        learning_curves(logs | {"val_loss": [None] * len(logs["step"])})


def test_a_written_figure_is_a_pair_of_files(joint, tmp_path):
    vector, pixels = write_figure(exponents(joint[0]), tmp_path / "new", "bootstrap")
    assert vector.name == "bootstrap.svg" and vector.read_text().startswith("<svg")
    assert pixels.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
