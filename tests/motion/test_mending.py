"""Leaps of one or two frames and bad ends: found in real walks, repaired or cut and told, and fast motion let alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.clip import Motion, clean
from scaling.motion.curate import curate
from scaling.motion.ends import grounded
from scaling.motion.glitches import GlitchConfig, find_glitches
from scaling.motion.read import inspect, read_motion
from scaling.motion.spikes import SpikeConfig, find_spikes, mend
from scaling.robot.g1 import JOINT_NAMES

KNEE = 7 + JOINT_NAMES.index("left_knee_joint")
LEAPS = [
    (0, 0.25, "root off by 0.2"),
    (2, 0.20, "root off by 0.2"),
    (KNEE, 1.0, "left_knee off by "),
    (1, 0.08, "root"),
]


@pytest.fixture(scope="module")
def walk(shared: Path) -> Motion:
    """Ten seconds of a LAFAN1 walk, 30 Hz."""
    motion = read_motion(shared / "motions" / "formats" / "csv36_xyzw_30hz" / "walk1_subject1.csv")
    return replace(motion, qpos=motion.qpos[300:600])


def spoiled(motion: Motion, frames: slice, column: int, by: float) -> Motion:
    qpos = motion.qpos.copy()
    qpos[frames, column] += by
    return replace(motion, qpos=qpos)


@pytest.mark.parametrize("frame", [120, 133, 151])
@pytest.mark.parametrize(("column", "by", "words"), LEAPS)
def test_a_leap_of_one_frame_below_the_fixed_thresholds_is_repaired_and_told(
    walk: Motion, column: int, by: float, words: str, frame: int
) -> None:
    wild = spoiled(walk, slice(frame, frame + 1), column, by)
    assert not len(find_spikes(wild, SpikeConfig())), "the fixed thresholds find it already"
    verdict = curate(wild)
    assert len(verdict.done) == 1
    assert f"a glitch at {frame / 30:.2f} s ({words}" in verdict.done[0]
    assert verdict.motion.notes[-1] == verdict.done[0]
    touched = np.flatnonzero((verdict.motion.qpos != wild.qpos).any(axis=1))
    assert list(touched) == [frame]
    assert np.abs(verdict.motion.qpos[frame, column] - walk.qpos[frame, column]) < 0.25 * by


def test_two_frames_that_leap_together_are_repaired_and_a_lasting_change_is_no_glitch(walk: Motion) -> None:
    found = find_glitches(spoiled(walk, slice(140, 142), 2, 0.2).qpos, 30.0)
    assert [(one.first, one.frames, one.what) for one in found] == [(140, 2, "root")]
    assert find_glitches(spoiled(walk, slice(140, None), 2, 0.2).qpos, 30.0) == []
    assert find_glitches(walk.qpos, 30.0) == []


def test_a_clip_of_many_leaps_is_refused_and_not_smoothed(walk: Motion) -> None:
    wild = walk
    for frame in range(20, 280, 20):
        wild = spoiled(wild, slice(frame, frame + 1), 2, 0.15)
    verdict = curate(wild)
    assert verdict.done == ()
    assert verdict.reasons[0].startswith("13 spikes of speed cannot be repaired")


def test_the_fastest_real_motion_is_let_alone(shared: Path) -> None:
    pool = shared / "motions" / "g1_29dof"
    for name in ("dance1_subject2", "fightAndSports1_subject4", "jumps1_subject1", "sprint1_subject2"):
        motion = read_motion(pool / "lafan1" / f"{name}.csv.gz")
        assert mend(motion, SpikeConfig()).done == ()
        if name.startswith("dance"):
            assert find_glitches(motion.qpos, 30.0, GlitchConfig(ratio=2.0)), "it is too slow to show anything"
    (done,) = mend(read_motion(pool / "g1_moves" / "J_Dance19_LetsGO.csv.gz"), SpikeConfig()).done
    assert "15.32 s (waist_yaw off by 0.31 rad for 1 frame)" in done


def test_inspect_says_what_an_import_would_mend(walk: Motion, tmp_path: Path) -> None:
    wild = spoiled(walk, slice(120, 121), 0, 0.25)
    np.savetxt(tmp_path / "walk_30hz.csv", wild.qpos, delimiter=",", fmt="%.8f")
    assert any("would mend it: a glitch at 4.00 s" in one for one in inspect(tmp_path / "walk_30hz.csv")["problems"])


@pytest.mark.parametrize("bad", ["nan", "zero"])
def test_frames_without_a_pose_are_cut_off_the_ends_and_told(walk: Motion, tmp_path: Path, bad: str) -> None:
    qpos = walk.qpos.copy()
    for frames in (slice(0, 2), slice(-1, None)):
        qpos[frames, 3:7] = np.nan if bad == "nan" else 0.0
    path = tmp_path / "walk_30hz.csv"
    np.savetxt(path, qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]], delimiter=",", fmt="%.9f")
    motion = read_motion(path)
    np.testing.assert_allclose(motion.qpos, walk.qpos[2:-1], atol=1e-8)
    assert [note.split(" were")[0] for note in motion.notes] == ["the first 2 frames", "the last 1 frames"]
    np.savez(tmp_path / "clip.npz", frequency=30.0, qpos=qpos)
    assert read_motion(tmp_path / "clip.npz").frames == walk.frames - 3
    qpos[100] = np.nan
    with pytest.raises(InputError, match="1 of 297 frames hold NaN or infinity, first in frame 98"):
        clean(replace(walk, qpos=qpos))


def test_a_clip_that_is_mostly_bad_is_not_cut_down_to_its_rest(walk: Motion) -> None:
    qpos = walk.qpos.copy()
    qpos[:200] = np.nan
    with pytest.raises(InputError, match="200 of 300 frames hold NaN"):
        clean(replace(walk, qpos=qpos))


@pytest.mark.parametrize(("lift", "reason"), [(0.4, "float"), (-0.35, "sink")])
def test_a_first_second_off_the_floor_is_cut_off_and_the_clip_kept(walk: Motion, lift: float, reason: str) -> None:
    qpos = walk.qpos.copy()
    qpos[:20, 2] += np.linspace(lift, 0.0, 20)  # slower than any spike
    verdict = curate(replace(walk, qpos=qpos))
    assert verdict.reasons == ()
    assert any(reason in words and "the first" in words for words in verdict.done), verdict.done
    np.testing.assert_array_equal(verdict.motion.qpos[-280:, 7:], walk.qpos[-280:, 7:])
    assert 280 <= verdict.motion.frames <= 295
    longer = spoiled(walk, slice(0, 60), 2, lift)
    assert grounded(longer.qpos, 30.0, 1.0, 0.15, 0.2) == (0, 300), "more than a second is for the limits to judge"
    assert grounded(spoiled(walk, slice(None), 2, lift).qpos, 30.0, 1.0, 0.15, 0.2) == (0, 300)
