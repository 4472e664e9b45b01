"""Copies found whatever their rate, crop, format or side; one kept; and shared motion means a shared group."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion import augment
from scaling.motion.clip import Motion, resample
from scaling.motion.duplicates import DuplicateConfig, Match, find_matches, groups_of
from scaling.motion.gather import GatherConfig, gather
from scaling.motion.nearest import Table
from scaling.motion.read import read_motion, write_npz
from scaling.motion.synthetic import FAMILIES, generate
from scaling.robot.g1 import standing_qpos


def crop(motion: Motion, start: int, end: int) -> Motion:
    return replace(motion, qpos=motion.qpos[start:end], name=f"{motion.name}-{start}")


def mirror(motion: Motion) -> Motion:
    """The same motion with left and right exchanged."""
    return replace(motion, qpos=augment.mirror(motion.qpos), name="mirrored")


def warp(motion: Motion, speed: float) -> Motion:
    """The same motion, so much faster."""
    return replace(motion, qpos=augment.time_warp(motion.qpos, speed), name=f"warped-{speed}")


def test_no_two_generated_takes_match() -> None:
    takes = [generate(family, 6.0, seed) for family in FAMILIES for seed in range(3)]
    assert find_matches(takes) == []


@pytest.mark.parametrize("rate", [30.0, 37.3, 50.0, 120.0])
def test_a_crop_at_another_rate_is_contained(turning: Motion, rate: float) -> None:
    other = resample(crop(turning, 37, 270), rate)
    assert find_matches([turning, other]) == [Match(0, 1, mirrored=False, contained=True)]
    assert find_matches([other, generate("squat", 6.0, 1), turning]) == [Match(0, 2, mirrored=False, contained=True)]


def test_a_mirrored_copy_and_a_partial_overlap_are_told_apart_from_copies() -> None:
    take = generate("turn", 12.0, 4)
    assert find_matches([take, mirror(take)]) == [Match(0, 1, mirrored=True, contained=True)]
    found = find_matches([crop(take, 0, 400), crop(take, 200, 600)])
    assert [(match.mirrored, match.contained) for match in found] == [(False, False)]


def joined(first: Motion, second: Motion) -> Motion:
    return replace(first, qpos=np.concatenate([first.qpos, second.qpos]), name=f"{first.name}+{second.name}")


def stir(motion: Motion) -> float:
    """How much its legs move (rad^2 a frame)."""
    return float(np.square(np.diff(motion.qpos[:, 7:19], axis=0)).mean())


def test_clips_that_share_only_what_is_calm_in_both_are_found() -> None:
    shared, *lively = (generate("squat", 14.0, 1), generate("step_in_place", 10.0, 2), generate("turn", 10.0, 4))
    for part in lively:
        assert stir(part) > stir(shared)
    for other in (shared, mirror(shared)):
        (found,) = find_matches([joined(shared, lively[0]), joined(lively[1], other)])
        assert (found.mirrored, found.contained, found.speed) == (other is not shared, False, 1.0)


def test_ruling_windows_out_loses_none_that_is_near() -> None:
    rng = np.random.default_rng(0)
    legs = np.cumsum(rng.standard_normal((3000, 13)), axis=0).astype(np.float32) * 0.05
    stretches = np.stack([legs[start : start + 30] for start in range(0, 2900, 7)])
    stretches += 0.1 * rng.standard_normal(stretches.shape)
    windows = np.stack([legs[start : start + 30] for start in range(2971)]).reshape(2971, -1)
    squares = np.array([np.square(windows - stretch.ravel()).mean(axis=1) for stretch in stretches])
    for near_rad in (0.05, 0.1, 0.15):
        wanted = [(row, int(squares[row].argmin())) for row in np.flatnonzero(squares.min(axis=1) <= near_rad**2)]
        assert Table(stretches).near(legs, near_rad) == wanted
    assert 0 < sum(squares.min(axis=1) <= 0.1**2) < len(stretches)
    assert Table(stretches).near(legs[:29], 1.0) == []


@pytest.mark.parametrize("speed", [0.9, 0.93, 0.95, 1.05, 1.1])
def test_a_time_warped_copy_is_found_at_its_pace_and_is_no_copy_to_leave_out(turning: Motion, speed: float) -> None:
    for other in (warp(turning, speed), crop(warp(turning, speed), 20, 260), resample(warp(turning, speed), 30.0)):
        (found,) = find_matches([turning, generate("squat", 6.0, 1), other])
        assert (found.first, found.second, found.mirrored, found.contained) == (0, 2, False, True)
        assert found.speed == pytest.approx(speed, abs=0.004)
        assert not found.copy
        (back,) = find_matches([other, turning])
        assert back.speed == pytest.approx(1.0 / speed, abs=0.005)


def test_a_mirrored_and_warped_copy_is_found(turning: Motion) -> None:
    (found,) = find_matches([mirror(warp(turning, 1.1)), turning])
    assert found.mirrored
    assert found.speed == pytest.approx(1 / 1.1, abs=0.005)


def test_noise_beyond_the_threshold_is_another_motion(turning: Motion) -> None:
    rng = np.random.default_rng(0)
    for spread, count in ((0.01, 1), (0.05, 0)):
        noisy = turning.qpos + spread * rng.standard_normal(turning.qpos.shape)
        assert len(find_matches([turning, replace(turning, qpos=noisy)])) == count


def test_standing_clips_match_only_their_equals() -> None:
    still = Motion(np.tile(standing_qpos(), (300, 1)), 50.0, "still")
    assert find_matches([still, replace(still, qpos=still.qpos[:200])]) == []
    assert len(find_matches([still, replace(still, name="again")])) == 1


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="in order"):
        DuplicateConfig(same_rad=0.2)
    with pytest.raises(ValueError, match="1 among them"):
        DuplicateConfig(speeds=(0.9,))
    with pytest.raises(ValueError, match=r"block_seconds 2\.0: at least seconds 3\.0"):
        DuplicateConfig(block_seconds=2.0)


def test_groups_are_tied_together_through_others() -> None:
    matches = [Match(0, 3, False, True), Match(3, 5, False, True), Match(1, 2, False, True)]
    assert groups_of(6, matches) == [[0, 3, 5], [1, 2]]


def test_gather_keeps_the_whole_take_and_groups_the_mirrored(tmp_path: Path) -> None:
    take, other = generate("turn", 8.0, 4), generate("squat", 8.0, 5)
    paths = {
        "a_crop": replace(crop(take, 50, 350), group="cropped"),
        "b_whole": replace(take, group="whole"),
        "c_mirrored": replace(mirror(take), group="mirrored"),
        "d_other": replace(other, group="other"),
    }
    files = [write_npz(motion, tmp_path / f"{name}.npz") for name, motion in paths.items()]
    (tmp_path / "broken.csv").write_text("1,2\n")
    found = gather([*files, tmp_path / "broken.csv"])
    assert found.duplicates == [[str(files[1]), str(files[0])]]
    assert list(found.clips) == [str(file) for file in files[1:]]
    assert [motion.group for motion in found.clips.values()] == ["whole", "whole", "other"]
    assert list(found.refused) == [str(tmp_path / "broken.csv")]
    assert set(found.verdicts) == {str(file) for file in files}


def test_gather_refuses_with_reasons_unless_told_not_to_judge(tmp_path: Path) -> None:
    good, flying = generate("turn", 6.0, 1), generate("squat", 6.0, 2)
    flying = replace(flying, qpos=flying.qpos + np.eye(36)[2])
    files = [write_npz(good, tmp_path / "good.npz"), write_npz(flying, tmp_path / "flying.npz")]
    found = gather(files)
    assert list(found.clips) == [str(files[0])]
    assert found.refused[str(files[1])].startswith(f"{files[1]}: its feet float")
    everything = gather(files, config=GatherConfig(judged=False))
    assert list(everything.clips) == [str(file) for file in files]
    with pytest.raises(InputError, match=r"flying\.npz: its feet float"):
        gather(files[1:])


def test_a_warped_copy_of_a_real_take_does_not_cross_a_split(shared: Path, tmp_path: Path) -> None:
    pool = shared / "motions" / "g1_29dof"
    walk = read_motion(pool / "lafan1" / "walk1_subject1.csv.gz")
    slow = replace(warp(crop(walk, 300, 2000), 0.95), group="another recording")
    files = [write_npz(slow, tmp_path / "slow.npz"), *sorted((pool / "lafan1").glob("walk[13]_subject[1-3].csv.gz"))]
    found = gather(files, config=GatherConfig(judged=False))
    assert found.duplicates == []
    groups = {Path(where).name.split(".")[0]: motion.group for where, motion in found.clips.items()}
    assert groups["slow"] == groups["walk1_subject1"] == groups["walk1_subject2"] == "another recording"
    assert groups["walk3_subject1"] == groups["walk3_subject2"] == "walk3"


@pytest.mark.parametrize("take", ["jumps1_subject1", "walk1_subject1", "dance1_subject2"])
def test_overlapping_crops_of_one_take_do_not_cross_a_split(shared: Path, tmp_path: Path, take: str) -> None:
    whole = read_motion(shared / "motions" / "g1_29dof" / "lafan1" / f"{take}.csv.gz")
    parts = [(whole.frames * part // 4, whole.frames * (part + 2) // 4) for part in range(3)]
    files = [
        write_npz(replace(crop(whole, *part), group=f"part{number}"), tmp_path / f"part{number}.npz")
        for number, part in enumerate(parts)
    ]
    found = gather(files, config=GatherConfig(judged=False))
    assert found.duplicates == []
    assert [motion.group for motion in found.clips.values()] == ["part0"] * 3


def test_one_take_in_four_formats_and_two_folders(shared: Path) -> None:
    motions = shared / "motions"
    files = [
        motions / "formats" / "bin_wbc_fsm" / "dance12" / "joint_pos.bin",
        motions / "formats" / "npz_isaaclab_amp_named" / "G1_dance.npz",
        motions / "formats" / "npz_isaaclab_amp_named" / "g1_dance1_subject2_30.npz",
        motions / "formats" / "csv36_xyzw_30hz" / "walk1_subject1.csv",
        motions / "g1_29dof" / "lafan1" / "dance1_subject2.csv.gz",
        motions / "g1_29dof" / "lafan1" / "dance1_subject1.csv.gz",
    ]
    found = gather(files)
    assert found.duplicates == [[str(files[4]), *map(str, files[:3])]]
    assert {motion.group for motion in found.clips.values()} == {"dance1", "walk1"}
