"""The notebooks that read the tables which the project keeps, or the published ones, run as they are."""

import re
import runpy
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = CHECKOUT / "notebooks"
KEPT = ("quickstart_generated", "quickstart_g1_moves")


def run(name, monkeypatch, folder=CHECKOUT, **environment):
    """The names of a notebook that was started in `folder`."""
    for key in ("TABLE", "SCALING_DATA"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.chdir(folder)
    return runpy.run_path(str(NOTEBOOKS / f"{name}.py"))


@pytest.mark.parametrize("study", KEPT)
def test_the_cluster_counts_of_a_kept_study(study, monkeypatch, capsys):
    table = CHECKOUT / "experiments" / study / "runs.csv"
    seen = run("cluster_count", monkeypatch, TABLE=table)
    assert "16 runs of the full arm, K = 2, 4" in capsys.readouterr().out
    assert [axis.get_title() for axis in seen["closed"].axes] == ["survival s", "success sonic", "mpjpe l mm"]
    teachers = seen["bank"].axes[0].get_lines()[0]
    assert list(teachers.get_xdata()) == [2, 4]
    for name, (value, low, high) in seen["differences"].items():
        column, clusters = seen["table"].numeric(name)[0], seen["clusters"]
        assert value == pytest.approx(column[clusters == 4].mean() - column[clusters == 2].mean())
        assert low < value < high


@pytest.mark.parametrize("study", KEPT)
def test_the_families_of_a_kept_study(study, monkeypatch, capsys):
    seen = run("mlp_vs_transformer", monkeypatch, TABLE=CHECKOUT / "experiments" / study / "runs.csv")
    assert "40 runs under K = 4" in capsys.readouterr().out
    assert set(seen["by_size"]) == set(seen["advantage"]) == {"0.05M", "0.2M"}
    assert all(low < value < high for value, low, high in seen["advantage"].values())
    for axis in seen["learned"].axes:
        assert [len(line.get_xdata()) for line in axis.get_lines()] == [12, 12]
    assert len(seen["cost"].axes) == 2


def test_without_logged_curves_the_families_are_compared_all_the_same(tmp_path, monkeypatch, capsys):
    table = tmp_path / "runs.csv"
    table.write_text((CHECKOUT / "experiments" / KEPT[0] / "runs.csv").read_text())
    seen = run("mlp_vs_transformer", monkeypatch, TABLE=table)
    assert seen["learned"] is None and set(seen["advantage"]) == {"0.05M", "0.2M"}
    capsys.readouterr()


def test_started_in_its_own_folder_a_notebook_finds_the_kept_table(monkeypatch, capsys):
    assert run("cluster_count", monkeypatch, NOTEBOOKS)["path"].is_file()
    capsys.readouterr()


def test_chinchilla_is_reproduced(shared, monkeypatch, capsys):
    if not (shared / "scaling_data" / "chinchilla").is_dir():
        pytest.skip("the published table is absent")
    seen = run("chinchilla", monkeypatch, SCALING_DATA=shared / "scaling_data", RESAMPLES=100)
    assert "240 points: beta 0.367; all 245: 0.453" in capsys.readouterr().out
    assert seen["law"].record["objective"] == pytest.approx(1.018274e-3, abs=1e-8)
    assert seen["summary"]["mean_relative_error"] == pytest.approx(0.0105, abs=2e-4)
    assert seen["low"] < seen["joint"]["value"] < seen["high"]
    assert 50e9 < seen["best"].size < 100e9 and 1e12 < seen["best"].data < 2e12


def test_chinchilla_without_the_data_is_skipped_in_one_sentence(tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"^skipped: .*SCALING_DATA"):
        run("chinchilla", monkeypatch, deep)


@pytest.mark.parametrize("name", ["cluster_count", "mlp_vs_transformer", "chinchilla"])
def test_a_notebook_reads_tables_through_the_laws_alone(name):
    text = (NOTEBOOKS / f"{name}.py").read_text()
    assert set(re.findall(r"(?:from|import) scaling\.(\w+)", text)) == {"laws"}
