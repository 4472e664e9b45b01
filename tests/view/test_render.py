import dataclasses
import shutil
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from scaling.robot.kinematics import forward_kinematics
from scaling.view import render
from scaling.view.camera import follow
from scaling.view.drawn import DrawnPainter
from scaling.view.film import RenderSettings, strip_indices, video_indices, write_strip
from scaling.view.looks import FAILED, LIGHT, LIMBS, limb_ends, robot_colours
from scaling.view.render import backends, view_rollout

SMALL = RenderSettings(width=96, height=72, fps=10, max_seconds=1.0, strip_frames=3, tile_width=90, tile_height=120)


def tiles(strip, settings=SMALL):
    """The painted tiles of a strip, as [frame, height, width, 3]."""
    picture = np.asarray(Image.open(strip).convert("RGB"))
    row = picture[44 : 44 + settings.tile_height]
    return np.stack(np.split(row, settings.strip_frames, axis=1)).astype(int)


def check_strip(strip, rollout):
    """Right size, and every tile holds robot-dark, sky-pale and ghost-blue pixels."""
    with Image.open(strip) as picture:
        assert picture.width == SMALL.strip_frames * SMALL.tile_width
        assert picture.height >= SMALL.tile_height + 44 + 38
    for tile in tiles(strip):
        assert (tile.max(axis=-1) < 110).mean() > 0.01
        assert (tile.min(axis=-1) > 190).mean() > 0.1
    blue = tiles(strip)[1]
    assert (blue[..., 2] - blue[..., 0] > 50).sum() > 20, "no ghost to be seen"


def film_frames(path):
    """Frames of a video as ffmpeg reads them."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(path),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, SMALL.height, SMALL.width, 3)


def test_drawn_pictures_take_the_place_of_opengl_and_say_why(rollout, tmp_path):
    result = view_rollout(rollout, tmp_path, SMALL, gl=())
    assert result["renderer"] == "drawn"
    assert "without OpenGL" in result["reason"]
    check_strip(result["strip"], rollout)
    frames = film_frames(result["video"])
    assert len(frames) == 10
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 60, "nothing moves"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["player.html", "strip.png", "video.mp4"]


def test_mujoco_paints_the_same_scene(rollout, tmp_path):
    result = view_rollout(rollout, tmp_path, SMALL)
    if result["renderer"] == "drawn":
        pytest.skip(str(result["reason"]))
    assert result["reason"] == ""
    check_strip(result["strip"], rollout)
    assert len(film_frames(result["video"])) == 10
    drawn = write_strip(rollout, DrawnPainter(rollout), tmp_path / "drawn.png", SMALL)
    # The feet and hands are dark in both: their pixels must lie in the same places.
    for ours, theirs in zip(tiles(drawn), tiles(result["strip"]), strict=True):
        dark = [np.argwhere(tile.max(axis=-1) < 100).mean(axis=0) for tile in (ours, theirs)]
        np.testing.assert_allclose(*dark, atol=5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("raise ImportError('no libEGL here')", "no libEGL here"),
        ("pass", "without a result"),
    ],
)
def test_a_driver_that_crashes_or_refuses_only_costs_the_pictures_by_opengl(rollout, tmp_path, monkeypatch, body, said):
    (tmp_path / "broken_driver.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(render, "_WORKER", "broken_driver")
    result = view_rollout(rollout, tmp_path / "out", SMALL, gl=("egl",))
    assert result["renderer"] == "drawn"
    assert said in result["reason"]
    assert "libegl1" in result["reason"]


def test_backends_follow_the_user_then_the_machine(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert backends() == ("egl", "osmesa")
    monkeypatch.setenv("DISPLAY", ":0")
    assert backends() == ("egl", "glfw", "osmesa")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert backends() == ("osmesa",)
    monkeypatch.setenv("MUJOCO_GL", "off")
    assert backends() == ()


def test_without_ffmpeg_the_video_is_a_gif(rollout, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "video.mp4").write_bytes(b"from an earlier call")
    result = view_rollout(rollout, tmp_path, SMALL, gl=())
    assert result["video"].name == "video.gif"
    assert "GIF instead of mp4" in result["reason"]
    assert not (tmp_path / "video.mp4").exists()
    with Image.open(result["video"]) as film:
        assert film.n_frames > 5
        assert film.size == (96, 72)


def test_the_strip_spans_the_rollout_and_the_video_shows_the_failure(rollout):
    assert strip_indices(rollout, SMALL) == [0, 50, 99] or strip_indices(rollout, SMALL) == [0, 49, 99]
    chosen = video_indices(rollout, SMALL)
    assert len(chosen) == 10
    assert chosen[0] < rollout.failed_at < chosen[-1]
    unfailed = video_indices(dataclasses.replace(rollout, failed_at=None), SMALL)
    assert unfailed == list(range(0, 50, 5))


def test_one_frame_without_a_reference_can_be_viewed(rollout, tmp_path):
    still = dataclasses.replace(rollout, qpos=rollout.qpos[:1], reference=None, failed_at=None)
    result = view_rollout(still, tmp_path, SMALL, gl=())
    with Image.open(result["strip"]) as picture:
        assert picture.width == SMALL.tile_width
    assert len(film_frames(result["video"])) == 1


def test_the_camera_projects_as_a_pinhole_and_follows_the_pelvis(rollout):
    cameras = follow(rollout)
    assert cameras[-1].lookat[0] - cameras[0].lookat[0] == pytest.approx(0.2 * 99 / 50, rel=0.3)
    camera = cameras[0]
    right, up, _ = camera.axes()
    points = np.stack([camera.lookat, camera.lookat + 0.1 * right, camera.lookat + 0.1 * up])
    pixels, depth, focal = camera.project(points, 200, 100)
    np.testing.assert_allclose(depth, camera.distance)
    np.testing.assert_allclose(pixels[0], [100, 50])
    step = 0.1 * focal / camera.distance
    np.testing.assert_allclose(pixels[1:] - pixels[0], [[step, 0], [0, -step]], atol=1e-9)


def test_limbs_move_rigidly_with_their_bodies(rollout):
    ends = limb_ends(rollout.qpos)
    lengths = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), atol=1e-12)
    pos, _ = forward_kinematics(rollout.qpos)
    shin = next(i for i, limb in enumerate(LIMBS) if limb.body == "left_knee_link" and limb.dark)
    # That bone ends in the ankle's joint: the limb table and the kinematics agree.
    np.testing.assert_allclose(ends[:, shin, 1], pos[:, 5], atol=1e-9)


def test_a_failure_changes_the_colour_of_the_robot():
    assert (robot_colours(False) == LIGHT).all(axis=1).any()
    assert (robot_colours(True) == FAILED).all(axis=1).any()
    assert not (robot_colours(True) == LIGHT).all(axis=1).any()


@pytest.mark.parametrize("change", [{"width": 97}, {"tile_height": 4000}, {"fps": 0}, {"max_seconds": float("nan")}])
def test_settings_that_cannot_be_encoded_are_refused(change):
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        RenderSettings(**change)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to open the page with")
def test_a_browser_plays_the_page_without_an_error(rollout, tmp_path):
    view_rollout(rollout, tmp_path, SMALL, gl=())
    shot = tmp_path / "shot.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=600,400", "--virtual-time-budget=1000"]
    page = (tmp_path / "player.html").as_uri() + "#t=1.6"
    done = subprocess.run(
        ["chromium", *options, "--enable-logging=stderr", f"--screenshot={shot}", page],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    orange = (pixels[..., 0] > 150) & (pixels[..., 0] - pixels[..., 2] > 90)
    assert orange.mean() > 0.004, "the failed robot is not on the page"
