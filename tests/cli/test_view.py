"""`scaling view`: a clip, a rollout, and a policy on a clip, drawn without OpenGL."""

import json

import numpy as np
import pytest

from scaling.motion.corpus import Corpus
from scaling.motion.read import read_motion
from scaling.robot.g1 import JOINT_NAMES
from scaling.view.rollout import Rollout


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Stick figures: the pictures themselves are another room's tests."""
    monkeypatch.setenv("MUJOCO_GL", "off")


def view(call, out, *arguments):
    called = call("view", *arguments, "--out", out, "--seconds", "0.2", "--json", "-")
    assert called.code == 0, called.err
    assert all((out / name).stat().st_size > 0 for name in ("strip.png", "player.html"))
    return called.json


def test_a_clip_alone(call, standing, tmp_path):
    report = view(call, tmp_path / "out", standing)
    assert report["title"] == "standing"
    assert report["assist"] is None
    assert report["seconds"] == pytest.approx(0.98)


def test_a_file_that_must_ask_can_be_viewed_with_its_answer(call, refused, standing, tmp_path):
    row = read_motion(standing).qpos[0, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]]
    np.savetxt(tmp_path / "ask.csv", np.tile(row, (60, 1)), delimiter=",", fmt="%.6f")
    assert "--quaternion xyzw" in refused("view", tmp_path / "ask.csv")
    report = view(call, tmp_path / "out", tmp_path / "ask.csv", "--quaternion", "xyzw", "--rate", "60")
    assert report["seconds"] == pytest.approx(59 / 60, abs=0.01)


def test_one_clip_of_several_and_a_segment_of_a_corpus(call, refused, clips, tmp_path):
    qpos = read_motion(clips / "turn.npz").qpos
    names = ["root", *JOINT_NAMES]
    arrays = {"frequency": 50.0, "split_points": [0, 60, len(qpos)]}
    np.savez(tmp_path / "both.npz", qpos=qpos, joint_names=names, **arrays)
    told = refused("view", tmp_path / "both.npz")
    assert "--clip" in told and "both:000, both:001" in told
    assert "'none'" in refused("view", tmp_path / "both.npz", "--clip", "none")
    report = view(call, tmp_path / "out", tmp_path / "both.npz", "--clip", "001")
    assert report["title"] == "both:001"
    call("motions", "import", clips, "--out", tmp_path / "corpus")
    corpus = Corpus.load(tmp_path / "corpus")
    assert corpus.names[0] in refused("view", tmp_path / "corpus")
    report = view(call, tmp_path / "segment", tmp_path / "corpus", "--clip", corpus.names[1])
    assert report["title"] == corpus.names[1]
    assert report["seconds"] == pytest.approx((corpus.length[1] - 1) / 50.0)


def test_a_rollout_and_whoever_keeps_one(call, standing, tmp_path):
    qpos = read_motion(standing).qpos
    Rollout(qpos, qpos, 50.0, "kept", assist=0.25).save(tmp_path / "run" / "rollout.npz")
    assert view(call, tmp_path / "a", tmp_path / "run" / "rollout.npz")["title"] == "kept"
    assert view(call, tmp_path / "b", tmp_path / "run")["assist"] == 0.25
    summary = {"render": str(tmp_path / "run" / "strip.png"), "policy": "elsewhere"}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert view(call, tmp_path / "c", tmp_path)["title"] == "kept"


def test_a_policy_on_a_clip_beside_its_reference(call, policy_folder, standing, tmp_path):
    report = view(call, tmp_path / "out", policy_folder, "--motion", standing, "--assist", "1")
    assert report["assist"] == 1.0
    assert "standing by" in report["title"]


def test_what_cannot_be_viewed(refused, policy_folder, clips, standing, tmp_path):
    assert "--motion" in refused("view", policy_folder)
    assert "leave --motion out" in refused("view", standing, "--motion", standing)
    assert "3 files" in refused("view", clips / "*.npz")
    assert "nosuch" in refused("view", tmp_path / "nosuch")
    np.savez(tmp_path / "other.npz", stuff=np.zeros(3))
    assert "other.npz" in refused("view", tmp_path / "other.npz")
