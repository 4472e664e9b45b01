"""The notebook on a planted table, and its two halves (text and notebook) against each other."""

import json
import os
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TEXT = NOTEBOOKS / "scaling_curves.py"


@pytest.fixture
def planted_table(tmp_path):
    """A study's table by planted truth: floor .05, amplitude 4, exponent .4 for the mlp, .6 for the transformer."""
    rng = np.random.default_rng(0)
    lines = ["run,student,size,arm,clusters,seed,unique_frames,hours,val_loss,status"]
    for student, exponent in (("mlp", 0.4), ("transformer", 0.6)):
        for arm in 2.0 ** np.arange(-6, 1):
            for seed in range(2):
                frames = 2_000_000 * arm
                loss = (0.05 + 4.0 * frames**-exponent) * np.exp(rng.normal(0, 0.001))
                identity = f"{student}-{arm}-{seed},{student},0.2M,{arm},4,{seed}"
                lines.append(f"{identity},{frames:.0f},{frames / 180_000:.6f},{loss:.9f},finished")
        lines.append(f"{student}-other-bank,{student},0.2M,1.0,2,0,2000000,11.111111,9.0,finished")
        lines.append(f"{student}-lost,{student},0.2M,1.0,4,9,2000000,11.111111,9.0,diverged between updates 3 and 4")
    path = tmp_path / "runs" / "study" / "runs.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_it_finds_the_planted_laws(planted_table, monkeypatch, capsys):
    monkeypatch.setenv("TABLE", str(planted_table))
    seen = runpy.run_path(str(TEXT))
    assert "28 runs" in capsys.readouterr().out, "runs of another bank and lost runs are left out"
    assert seen["refused"] == {}
    for student, exponent in (("mlp", 0.4), ("transformer", 0.6)):
        law = seen["laws"][("unique_frames", (student, "0.2M"))]
        assert law.params.get("alpha") == pytest.approx(exponent, abs=0.05)
    drawn = seen["svg"](seen["figure"])
    assert seen["Shown"](drawn)._repr_html_() == drawn
    assert len(seen["cards"]) == 2


def test_without_a_table_it_takes_the_newest_below_runs(planted_table, monkeypatch, capsys):
    older = planted_table.parents[1] / "older" / "runs.csv"
    older.parent.mkdir()
    older.write_text("run,val_loss\n")
    os.utime(older, (1, 1))
    monkeypatch.delenv("TABLE", raising=False)
    monkeypatch.chdir(planted_table.parents[2])
    assert runpy.run_path(str(TEXT))["path"] == Path("runs/study/runs.csv")
    capsys.readouterr()


def test_without_any_table_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("TABLE", raising=False)
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="scaling quickstart"):
        runpy.run_path(str(TEXT))


def test_it_reads_tables_through_the_laws_alone():
    used = set(re.findall(r"(?:from|import) scaling\.(\w+)", TEXT.read_text()))
    assert used == {"laws"}


def percent_cells(text: str) -> list[tuple[str, str]]:
    """(kind, source) of each cell of a percent script."""
    cells = []
    for block in re.split(r"(?m)^# %%", text)[1:]:
        head, _, source = block.partition("\n")
        source = source.strip("\n")
        if "[markdown]" in head:
            source = "\n".join(line.removeprefix("#").removeprefix(" ") for line in source.split("\n"))
        cells.append(("markdown" if "[markdown]" in head else "code", source))
    return cells


@pytest.mark.parametrize("text", sorted(NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_the_pair_agrees_and_holds_no_outputs(text):
    book = json.loads(text.with_suffix(".ipynb").read_text())
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in book["cells"]] == percent_cells(text.read_text())
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in book["cells"] if "outputs" in cell)
