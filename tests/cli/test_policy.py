"""`scaling export` and `scaling policy` on a fresh student."""

import json
import shutil

import pytest

from scaling.contract.manifest import read_manifest

KEYS = {"ok", "failures", "max_abs_difference", "latency_ms"}


@pytest.fixture(scope="module")
def damaged(policy_folder, tmp_path_factory):
    """A policy with one byte changed on the way."""
    folder = tmp_path_factory.mktemp("damaged") / "policy"
    shutil.copytree(policy_folder, folder)
    file = folder / "params.npz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return folder


def test_a_student_is_exported_and_checked(call, student_folder, tmp_path):
    called = call("export", student_folder, "--out", tmp_path / "policy", "--json", "-")
    assert called.code == 0
    assert called.json.keys() >= KEYS
    assert called.json["max_abs_difference"] < 1e-5
    assert read_manifest(tmp_path / "policy").row["run"] == "tiny"


def test_a_run_is_exported_with_its_whole_row(call, student_folder, tmp_path):
    """What `scaling run` leaves: a row that says where its student is, and what it reached in the closed loop."""
    row = {"run": "tiny-run", "folder": str(student_folder), "config_hash": "c0ffee", "corpus_hash": "beef"}
    row |= {"protocol": "sonic", "assist": 0.25, "success_sonic_assist0": 0.5}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "row.json").write_text(json.dumps(row))
    assert call("export", tmp_path / "run", "--out", tmp_path / "policy", "--json", "-").code == 0
    assert read_manifest(tmp_path / "policy").row == row


SWEEP = """
import shutil
from pathlib import Path
from scaling.study.sweep import Job, Sweep, runs

def train(work, needed):
    for name in ("arm0.5-K1-seed0", "arm1-K1-seed0"):
        shutil.copytree({student!r}, work / name)

def judged(work, needed):
    rows = [("arm0.5-K1-seed0", 0.25, 0.5), ("arm1-K1-seed0", 0.75, 0.25)]  # in the harness the other one is better
    return [dict(run=f"mlp-0.05M-{{name}}", student="mlp", size="0.05M", status="finished", protocol="sonic",
                 success_sonic_assist0=bare, success_sonic=held, survival_s_assist0=1.0, survival_s=1.0, val_loss=None)
            for name, bare, held in rows]

def jobs(run):
    yield Job("aa", "students", "group", 1, train)
    yield Job("bb", "rows", "rows", 1, judged, {{"students": "aa"}}, rows=True)

VERSIONS = {{"": lambda: Sweep("two", runs(1), jobs)}}
"""


@pytest.mark.slow
def test_the_best_student_of_a_sweep_is_exported_with_its_row(call, student_folder, tmp_path):
    path, store = tmp_path / "two.py", tmp_path / "store"
    path.write_text(SWEEP.format(student=str(student_folder)))
    assert call("sweep", "work", path, "--store", store).code == 0
    called = call("export", "--best", path, "--store", store, "--out", tmp_path / "policy", "--json", "-")
    assert (called.code, called.json["run"]) == (0, "mlp-0.05M-arm1-K1-seed0")
    assert called.json.keys() >= KEYS
    assert read_manifest(tmp_path / "policy").row["success_sonic_assist0"] == 0.75


@pytest.mark.slow
def test_a_policy_is_made_anew_and_benched(call, policy_folder, tmp_path):
    assert call("export", policy_folder, "--out", tmp_path / "again", "--json", "-").json["ok"]
    report = call("policy", "bench", tmp_path / "again", "--json", "-").json
    assert report.keys() >= KEYS
    assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["p99"]


def test_a_changed_byte_fails_the_check(call, damaged):
    called = call("policy", "check", damaged, "--json", "-")
    assert called.code == 1
    assert not called.json["ok"]
    assert "params.npz" in called.json["failures"][0]


def test_what_cannot_be_exported(refused, tmp_path, student_folder):
    assert "no sweep is called" in refused("export", "--best", "sweep", "--out", tmp_path / "x")
    nothing = ("--store", tmp_path / "store", "--out", tmp_path / "x")
    assert "train no students" in refused("export", "--best", "engine_check", *nothing)
    assert "no run of this sweep has finished" in refused("export", "--best", "data_size", *nothing)
    assert "one of RUN and --best" in refused("export", "--out", tmp_path / "x")
    assert str(student_folder) in refused("export", student_folder.parent, "--out", tmp_path / "x"), (
        "it names what lies below"
    )
    assert "nosuch" in refused("policy", "check", tmp_path / "nosuch")
