import dataclasses
import json
import re

import numpy as np
import pytest

from scaling.robot.g1 import BODY_INDEX
from scaling.robot.kinematics import forward_kinematics
from scaling.view.looks import DRAWN_BODIES, LIMBS, limb_ends
from scaling.view.player import decode_poses, player_data, player_html, write_player
from tests.view.samples import Page, squat


def embedded(text):
    """The data that the page's script reads."""
    return json.loads(next(body for kind, body in Page(text).scripts if kind == "application/json"))


def test_the_poses_in_the_page_are_those_of_forward_kinematics(rollout):
    data = embedded(player_html(rollout))
    assert data["frames"] == 100
    assert data["rate_hz"] == 50.0
    assert data["failed_s"] == 1.5
    index = [BODY_INDEX[name] for name in data["bodies"]]
    for field, qpos in (("robot", rollout.qpos), ("reference", rollout.reference)):
        pos, quat = forward_kinematics(qpos)
        poses = decode_poses(data[field])
        np.testing.assert_allclose(poses[..., :3], pos[:, index], atol=1e-5)
        np.testing.assert_allclose(poses[..., 3:], quat[:, index], atol=1e-5)


def test_the_limbs_in_the_page_are_the_limbs_of_the_pictures(rollout):
    data = embedded(player_html(rollout))
    assert len(data["limbs"]) == len(LIMBS)
    for limb, ours, end in zip(data["limbs"], LIMBS, limb_ends(rollout.qpos[0]), strict=True):
        assert data["bodies"][limb["body"]] == ours.body
        np.testing.assert_allclose(np.subtract(limb["b"], limb["a"]), np.subtract(ours.end, ours.start), atol=1e-12)
        assert np.linalg.norm(np.subtract(limb["b"], limb["a"])) == pytest.approx(np.linalg.norm(end[1] - end[0]))


def test_text_from_outside_cannot_leave_its_place(rollout):
    text = player_html(rollout)
    page = Page(text)
    assert page.tags.count("script") == 2
    assert "b" not in page.tags
    assert "&lt;/script&gt;&lt;b&gt;deep&lt;/b&gt;" in text
    assert embedded(text)["title"] == rollout.title


def test_the_page_fetches_nothing(rollout):
    text = player_html(rollout)
    assert Page(text).resources == []
    assert not re.search(r"https?:|//cdn|@import|url\(", text)


def test_ten_seconds_with_a_reference_stay_below_a_megabyte_and_a_half(rollout, tmp_path):
    long = dataclasses.replace(rollout, qpos=squat(500, 50.0), reference=squat(500, 50.0), failed_at=None)
    assert write_player(long, tmp_path / "player.html").stat().st_size < 1.5e6
    assert player_data(long)["frames"] == 500


def test_a_long_recording_is_thinned_but_keeps_its_duration(rollout):
    qpos = squat(6001, 50.0)
    data = player_data(dataclasses.replace(rollout, qpos=qpos, reference=None, failed_at=None))
    assert data["frames"] <= 1500
    assert (data["frames"] - 1) / data["rate_hz"] == pytest.approx(120.0, abs=0.1)
    poses = decode_poses(data["robot"])
    np.testing.assert_allclose(poses[1, DRAWN_BODIES.index("pelvis"), :3], qpos[data["stride"], :3], atol=1e-5)
    assert data["reference"] is None
