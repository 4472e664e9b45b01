"""`scaling robot check`: silent agreement with the reference, exit code 1 with a reason elsewhere."""

import numpy as np
import pytest

from scaling.robot.g1 import BODY_NAMES, standing_qpos
from scaling.robot.kinematics import forward_kinematics

KEYS = {"mass_kg", "max_position_error_m", "max_rotation_error_rad", "joints"}


def reference(path, shift=0.0):
    """Our own kinematics of a few poses, bodies in another order, and the left wrist moved by `shift` metres."""
    qpos = np.stack([standing_qpos() + 0.01 * index for index in range(4)])
    position, quat = forward_kinematics(qpos)
    position[:, BODY_NAMES.index("left_wrist_yaw_link"), 0] += shift
    order = np.argsort(BODY_NAMES)
    names = np.array(BODY_NAMES)[order]
    np.savez(path, qpos=qpos, body_pos=position[:, order], body_quat=quat[:, order], body_names=names)
    return path


def test_against_mujoco(call):
    report = call("robot", "check", "--json", "-").json
    assert report.keys() >= KEYS
    assert report["joints"] == 29
    assert report["mass_kg"] == pytest.approx(33.34, abs=0.01)
    assert report["ok"]


def test_against_the_published_reference(call, shared):
    called = call("robot", "check", "--against", shared / "robot" / "g1_fk_reference.npz", "--json", "-")
    assert called.code == 0
    assert called.json["max_position_error_m"] < 1e-6
    assert called.json["max_rotation_error_rad"] < 1e-6


def test_bodies_are_matched_by_name_and_a_wrong_one_fails_the_check(call, tmp_path):
    assert call("robot", "check", "--against", reference(tmp_path / "right.npz")).code == 0
    called = call("robot", "check", "--against", reference(tmp_path / "off.npz", 1e-4), "--json", "-")
    assert called.code == 1
    assert called.json["max_position_error_m"] == pytest.approx(1e-4)
    assert [failure.split()[0] for failure in called.json["failures"]] == ["max_position_error_m"]


def test_a_file_that_is_no_reference(refused, tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    assert "text.npz" in refused("robot", "check", "--against", tmp_path / "text.npz")
    np.savez(tmp_path / "partial.npz", qpos=np.zeros((3, 36)))
    assert "body_pos" in refused("robot", "check", "--against", tmp_path / "partial.npz")
    assert "nosuch.npz" in refused("robot", "check", "--against", tmp_path / "nosuch.npz")
