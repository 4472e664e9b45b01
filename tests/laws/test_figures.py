"""Figures: deterministic, self-contained, and honest about what is no law."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from tables import falling, grid, planted

from scaling.laws import fit_groups, fit_table
from scaling.laws.figures import compact, loss_curves, png, predicted_measured, svg


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
    labels = [entry.get_text() for entry in figure.axes[-1].get_legend().get_texts()]
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
