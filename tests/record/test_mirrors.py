"""Mirrors: chosen outside any config, real services in their offline modes, never in the way of a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.errors import InputError
from scaling.record import mirrors
from scaling.record.runs import RunLog, read_log


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test chooses ends with it."""
    monkeypatch.setenv(mirrors.VARIABLE, "tensorboard")
    monkeypatch.delenv(mirrors.VARIABLE)


def test_a_mirror_that_is_none_or_not_installed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="mirror 'wnadb': one or more of tensorboard, wandb, mlflow"):
        mirrors.choose(["wnadb"])
    for name, module in (("wandb", "wandb"), ("mlflow", "mlflow")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match=rf"install it with pip install 'scaling\[{name}\]'"):
            mirrors.choose([name])
    monkeypatch.setenv(mirrors.VARIABLE, "wandb")  # as a worker finds it
    with pytest.raises(InputError, match=r"scaling\[wandb\]"):
        RunLog(tmp_path)


def test_the_choice_reaches_every_run_of_this_process_and_its_children(tmp_path: Path) -> None:
    mirrors.choose([])
    with RunLog(tmp_path / "none") as log:
        log.log(1, loss=0.5)
    assert sorted(path.name for path in (tmp_path / "none").iterdir()) == ["log.jsonl"]
    pytest.importorskip("tensorboardX")
    mirrors.choose(["tensorboard"])
    assert os.environ[mirrors.VARIABLE] == "tensorboard"
    with RunLog(tmp_path / "one") as log:
        log.log(1, loss=0.5)
    assert (tmp_path / "one" / "tensorboard").is_dir()


def test_a_service_that_cannot_be_opened_is_told_and_the_record_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no API key\nask your administrator")

    monkeypatch.setitem(mirrors._KINDS, "wandb", (refuse, "json", "wandb"))  # type: ignore[index]
    mirrors.choose(["wandb"])
    with RunLog(tmp_path) as log:
        log.log(1, loss=0.5)
    assert [record["loss"] for record in read_log(tmp_path)] == [0.5]
    assert "wandb shows" in (told := capsys.readouterr().err) and "(no API key)" in told


RESTARTED = """
import sys, time
from pathlib import Path
from scaling.record.runs import RunLog
import io
from PIL import Image
png = io.BytesIO()
Image.new("RGB", (2, 2)).save(png, "png")
for resume, steps in ((None, (1, 2)), (2, (2, 3))):
    with RunLog(Path(sys.argv[1]), resume_from=resume) as log:
        for step in steps:
            log.log(step, loss=0.5 / step, phase="warm")
        log.picture(step, "look", png.getvalue())
"""


def restarted(folder: Path, **variables: str) -> None:
    """A run of steps 1 and 2, and the same restarted from 2 up to 3, in a process of its own."""
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": root, **variables}
    done = subprocess.run([sys.executable, "-c", RESTARTED, str(folder)], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "shows" not in done.stderr, done.stderr
    assert [record["step"] for record in read_log(folder)] == [1, 2, 3]


def test_mlflow_has_one_run_that_was_restarted(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    uri = (tmp_path / "mlruns").as_uri()
    folder = tmp_path / "run"
    restarted(folder, SCALING_MIRRORS="mlflow", MLFLOW_TRACKING_URI=uri, MLFLOW_ALLOW_FILE_STORE="true")
    name = json.loads((folder / "mirrors.json").read_text())["mlflow"]
    [metric] = tmp_path.glob("mlruns/*/*/metrics/loss")
    assert metric.parts[-3] == name
    points = [line.split() for line in metric.read_text().splitlines()]  # time, value, step
    assert [(float(value), int(step)) for _, value, step in points] == [(0.5, 1), (0.25, 2), (0.25, 2), (0.5 / 3, 3)]
    assert len(list(tmp_path.glob(f"mlruns/*/{name}/artifacts/**/*.png"))) >= 2


def test_wandb_has_one_run_that_was_restarted(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folder = tmp_path / "run"
    restarted(folder, SCALING_MIRRORS="wandb", WANDB_MODE="offline")
    name = json.loads((folder / "mirrors.json").read_text())["wandb"]
    files = list(folder.glob(f"wandb/offline-run-*/run-{name}.wandb"))
    assert files  # two, or one where both began within a second
    data = b"".join(path.read_bytes() for path in files)
    assert b"loss" in data and b"look" in data and b"phase" not in data
