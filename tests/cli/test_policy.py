"""`scaling export` and `scaling policy` on a fresh student."""

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
    assert "--best is not built yet" in refused("export", "--best", "sweep", "--out", tmp_path / "x")
    assert "one of RUN and --best" in refused("export", "--out", tmp_path / "x")
    assert str(student_folder) in refused("export", student_folder.parent, "--out", tmp_path / "x"), (
        "it names what lies below"
    )
    assert "nosuch" in refused("policy", "check", tmp_path / "nosuch")
