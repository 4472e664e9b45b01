"""Every kind of bad input of a newcomer's first day: exit code 2, one sentence that names the file, no traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scaling.motion.clip import Motion
from scaling.motion.corpus import Corpus
from scaling.motion.native import write_npz
from scaling.motion.synthetic import generate
from scaling.robot.g1 import standing_qpos


def csv(path: Path, change=lambda rows: rows, frames: int = 300) -> Path:
    """A CSV of turning on the spot (xyzw, as in the wild) with something changed."""
    rows = generate("turn", 6.0, 1).qpos[-frames:][:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]]
    np.savetxt(path, change(rows), delimiter=",")
    return path


def with_nan(rows):
    rows[7, 9] = np.nan
    return rows


def with_long_quaternion(rows):
    rows[5, 3:7] *= 3.0
    return rows


BAD = {
    "columns": (lambda rows: rows[:, :-2], 300, "34 columns"),
    "nan": (with_nan, 300, "NaN"),
    "quaternion": (with_long_quaternion, 300, "quaternion"),
    "short": (lambda rows: rows, 12, "context"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_clip_is_refused_by_name(refused, tmp_path, kind):
    change, frames, told = BAD[kind]
    path = csv(tmp_path / "bad_clip_50hz.csv", change, frames)
    sentence = refused("motions", "import", path, "--out", tmp_path / "corpus")
    assert "bad_clip_50hz" in sentence
    assert told in sentence
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "short"])
def test_inspect_says_the_same_in_its_json(call, tmp_path, kind):
    change, frames, told = BAD[kind]
    path = csv(tmp_path / "bad_clip_50hz.csv", change, frames)
    called = call("motions", "inspect", path, "--json", "-")
    assert called.code == 2
    assert [one["ok"] for one in called.json] == [False]
    assert told in called.json[0]["reason"]
    assert len(called.err.splitlines()) == 1
    assert str(path) in called.err


@pytest.mark.parametrize(
    "verb", [("quickstart", "--motions"), ("motions", "inspect"), ("bridge", "run", "x", "--motion")]
)
def test_a_missing_path_is_named(refused, tmp_path, verb):
    missing = tmp_path / "nosuch"
    assert str(missing) in refused(*verb, missing)


@pytest.mark.parametrize("verb", [("quickstart", "--motions"), ("motions", "inspect")])
def test_an_empty_folder_is_named(refused, tmp_path, verb):
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty" in refused(*verb, tmp_path / "empty")


@pytest.mark.parametrize("kind", BAD)
def test_the_quickstart_refuses_a_folder_of_bad_clips(call, tmp_path, kind):
    change, frames, told = BAD[kind]
    (tmp_path / "motions").mkdir()
    csv(tmp_path / "motions" / "bad_clip_50hz.csv", change, frames)
    called = call("quickstart", "--motions", tmp_path / "motions", "--out", tmp_path / "out")
    assert called.code == 2
    assert called.out == ""
    assert "Traceback" not in called.err
    sentence = called.err.splitlines()[-1]
    assert sentence.startswith("scaling: ")
    assert "bad_clip_50hz" in sentence
    assert told in sentence


def test_an_unknown_experiment_is_answered_with_the_nearest_names(refused):
    from scaling.study.experiments import names

    known = names()[0]
    assert known in refused("run", known + "x")


def test_a_typo_in_an_override_is_answered_with_the_nearest_names(refused):
    from scaling.study.experiments import names

    assert "updates" in refused("run", names()[0], "--set", "dagger.updats=3")
    assert "dagger.updates=200" in refused("run", names()[0], "--set", "dagger")


def test_a_disk_that_fills_leaves_nothing_half_written(refused, clips, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("scaling.motion.store.shards.ShardWriter.write", full)
    sentence = refused("motions", "import", clips, "--out", tmp_path / "corpus")
    assert "disk is full" in sentence
    assert "corpus" in sentence
    assert not list((tmp_path / "corpus").glob("*"))


def test_an_import_that_is_refused_leaves_the_corpus_that_was_there(call, refused, clips, tmp_path, monkeypatch):
    made = call("motions", "import", clips, "--out", tmp_path / "corpus", "--json", "-").json

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("scaling.motion.store.shards.ShardWriter.write", full)
    assert "disk is full" in refused("motions", "import", clips, "--out", tmp_path / "corpus", "--seed", "1")
    assert Corpus.load(tmp_path / "corpus").content_hash == made["hash"]


def test_a_clip_shorter_than_the_context_cannot_be_evaluated(refused, policy_folder, tmp_path):
    short = write_npz(Motion(np.tile(standing_qpos(), (20, 1)), 50.0, "brief"), tmp_path / "brief.npz")
    sentence = refused("eval", policy_folder, "--clips", short, "--protocol", "sonic")
    assert "brief" in sentence
    assert "context" in sentence


def test_as_a_process_of_its_own(tmp_path):
    path = csv(tmp_path / "bad_clip_50hz.csv", with_nan)
    done = subprocess.run(
        [sys.executable, "-m", "scaling", "motions", "import", path, "--out", tmp_path / "corpus"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr
