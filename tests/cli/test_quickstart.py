"""What `scaling quickstart` says of a finished study, and that it hands over what it was given."""

import json

import pytest

from scaling.record.table import write_table


@pytest.fixture
def study(monkeypatch, tmp_path):
    """A study that is finished at once: its summary, and the arguments it was asked with."""
    rows = [
        {"run": f"mlp-{seed}", "params": 50_879, "arm": 1.0, "seed": seed, "val_loss": 0.2, "status": "finished"}
        for seed in range(2)
    ]
    write_table(rows, tmp_path / "runs.csv")
    base = {"form": "power", "label": "not validated", "holdout_summary": None}
    held = {"holdout_summary": {"mean_relative_error": 0.0123}}
    params = {"params": {"E": 0.1, "A": 3.0, "alpha": 0.41}, "intervals": {"alpha": [0.3, 0.5]}}
    noise = {"params": {"E": 0.1, "A": 3.0, "alpha": 0.777}, "intervals": {"alpha": [0.001, 4.0]}}
    laws = {"frames|mlp": base | params | held | {"supported": True, "label": "validated"}}
    laws |= {"frames|transformer": base | noise | {"supported": False}}
    (tmp_path / "law.json").write_text(json.dumps({"laws": laws}))
    summary = {name: str(tmp_path / name) for name in ("report", "policy", "render")}
    summary |= {"table": str(tmp_path / "runs.csv"), "law": str(tmp_path / "law.json"), "seconds": {"corpus": 1.5}}
    summary |= {
        "sentences": ["One student supports a law."],
        "renderer_reason": "Drawn without OpenGL (egl: no driver)",
    }
    asked = []

    def run_quickstart(motions, out, experts, bank, figures):
        asked.append((motions, str(out), experts, bank, figures))
        return summary

    monkeypatch.setattr("scaling.study.quickstart.run_quickstart", run_quickstart)
    return summary, asked


def test_its_json(call, study, clips, tmp_path):
    summary, asked = study
    figures = ("--set", "finetune.iterations=60", "--set", "seeds=3")
    called = call("quickstart", "--motions", clips, "--out", tmp_path / "out", *figures, "--json")
    assert called.json == summary
    assert called.json.keys() >= {"table", "law", "report", "policy", "render", "seconds"}
    asked_for = {"finetune.iterations": 60, "seeds": 3}
    assert asked == [(str(clips), str(tmp_path / "out"), "dream", None, asked_for)]


def test_its_words(call, study):
    summary, asked = study
    out = call("quickstart").out
    assert asked == [(None, "runs/quickstart", "dream", None, {})]
    for told in (
        "mlp-0",
        "50,879",
        "alpha 0.3 to 0.5",
        "1.2%",
        "validated",
        "One student supports a law.",
        "no driver",
    ):
        assert told in out, told
    for name in ("table", "law", "report", "policy", "render"):
        assert summary[name] in out
    assert "no law" in out
    assert "0.777" not in out, "noise is not dressed up as a law"
