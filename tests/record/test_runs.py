"""A run's log survives what kills the run, and says what was missing."""

import errno
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.record.runs import RunLog, read_log, read_row


def steps(folder: Path) -> list[int]:
    """The logged steps in order."""
    return [record["step"] for record in read_log(folder)]


def test_scalars_come_back_as_they_were(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.log(1, loss=np.float32(0.5), count=np.int64(3), phase="warm", ok=True)
        log.log(2, loss=math.nan, best=math.inf, worst=-math.inf, unknown=None)
    first, second = read_log(tmp_path)
    assert {key: first[key] for key in ("step", "loss", "count", "phase", "ok")} == {
        "step": 1,
        "loss": 0.5,
        "count": 3,
        "phase": "warm",
        "ok": True,
    }
    assert second["loss"] is None
    assert second["unknown"] is None
    assert (second["best"], second["worst"]) == (math.inf, -math.inf)


def test_the_file_is_strict_json_and_on_disk_before_the_next_call(tmp_path: Path) -> None:
    log = RunLog(tmp_path, mirror=False)
    log.log(1, loss=math.inf, other=math.nan)

    def refuse(text: str) -> None:
        raise AssertionError(text)

    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["step"] == 1
    log.close()


def test_a_jax_scalar_is_a_scalar_and_an_array_is_not(tmp_path: Path) -> None:
    jnp = pytest.importorskip("jax.numpy")
    with RunLog(tmp_path, mirror=False) as log:
        log.log(1, loss=jnp.float32(2.0))
        with pytest.raises(TypeError, match=r"grad of shape \(3,\) is not a scalar"):
            log.log(2, grad=np.zeros(3))
    assert [record["loss"] for record in read_log(tmp_path)] == [2.0]


def test_a_torn_last_line_is_dropped_by_the_reader_and_cut_by_the_next_writer(tmp_path: Path) -> None:
    with RunLog(tmp_path, mirror=False) as log:
        log.log(1, loss=1.0)
        log.log(2, loss=2.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert steps(tmp_path) == [1, 2]
    with RunLog(tmp_path, mirror=False) as log:
        log.log(3, loss=3.0)
    assert steps(tmp_path) == [1, 2, 3]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"line 2 of .*log\.jsonl"):
        read_log(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_log(tmp_path / "nowhere")


def test_a_restart_from_a_checkpoint_leaves_the_log_of_a_run_never_stopped(tmp_path: Path) -> None:
    def train(folder: Path, first: int, last: int, resume_from: int | None) -> None:
        with RunLog(folder, resume_from=resume_from, mirror=False) as log:
            for step in range(first, last):
                log.log(step, loss=1.0 / (step + 1))

    train(tmp_path / "straight", 0, 10, None)
    train(tmp_path / "stopped", 0, 7, None)  # its last checkpoint is from step 5
    train(tmp_path / "stopped", 5, 10, 5)
    logs = [[{**record, "time": 0} for record in read_log(tmp_path / name)] for name in ("straight", "stopped")]
    assert logs[0] == logs[1]


def test_the_row_marks_a_finished_run(tmp_path: Path) -> None:
    with RunLog(tmp_path, mirror=False) as log:
        assert read_row(tmp_path) is None
        log.finish({"run": "a", "val_loss": math.nan, "params": np.int64(5), "success": 0.0})
    assert read_row(tmp_path) == {"run": "a", "val_loss": None, "params": 5, "success": 0.0}


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with RunLog(tmp_path, mirror=False) as log, Path("/dev/full").open("wb", buffering=0) as full:
        log._file.close()
        log._file = full
        with pytest.raises(InputError, match="disk is full while logging to"):
            log.log(1, loss=1.0)


def test_tensorboard_mirrors_the_finite_scalars(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboardX.proto.event_pb2")
    with RunLog(tmp_path) as log:
        log.log(3, loss=0.5, broken=math.nan, phase="warm", count=np.int32(2))
        log.log(4, phase="warm")
    with RunLog(tmp_path, resume_from=4) as log:
        log.log(4, loss=0.25)
    events = []
    for path in sorted((tmp_path / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:  # a record is its length, a checksum of that, the event, a checksum of that
            length = int.from_bytes(data[:8], "little")
            events.append(loader.Event.FromString(data[12 : 12 + length]))
            data = data[12 + length + 4 :]
    scalars = [(event.step, {v.tag: v.simple_value for v in event.summary.value}) for event in events]
    assert [pair for pair in scalars if pair[1]] == [(3, {"loss": 0.5, "count": 2.0}), (4, {"loss": 0.25})]
    assert [event.step for event in events if event.HasField("session_log")] == [4]


def test_a_mirror_that_breaks_does_not_stop_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboardX")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunLog(tmp_path) as log:
        monkeypatch.setattr(log._mirrors["tensorboard"], "add", full)
        for step in range(3):
            log.log(step, loss=0.5)
    assert steps(tmp_path) == [0, 1, 2]
    assert capsys.readouterr().err.count("tensorboard shows") == 1


def test_without_tensorboard_the_log_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with RunLog(tmp_path) as log:
        log.log(1, loss=0.5)
    assert steps(tmp_path) == [1]
    assert not (tmp_path / "tensorboard").exists()


def test_the_room_needs_no_training_package() -> None:
    code = """
import sys
for name in ("jax", "jaxlib", "flax", "tensorboardX", "scipy", "matplotlib", "mujoco"):
    sys.modules[name] = None
import scaling.record.hashing, scaling.record.progress, scaling.record.runs, scaling.record.store, scaling.record.table
"""
    subprocess.run([sys.executable, "-c", code], check=True)
