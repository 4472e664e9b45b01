"""Copies found whatever their rate, crop, format or side; one kept; and shared motion means a shared group."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.clip import Motion, resample
from scaling.motion.duplicates import DuplicateConfig, Match, find_matches, groups_of
from scaling.motion.gather import GatherConfig, gather
from scaling.motion.read import write_npz
from scaling.motion.synthetic import FAMILIES, generate
from scaling.robot.g1 import JOINT_NAMES, standing_qpos


def crop(motion: Motion, start: int, end: int) -> Motion:
    return replace(motion, qpos=motion.qpos[start:end], name=f"{motion.name}-{start}")


def mirror(motion: Motion) -> Motion:
    """The same motion with left and right exchanged."""
    qpos = motion.qpos * np.array([1, -1, 1, 1, -1, 1, -1, *[1] * 29])
    for place, name in enumerate(JOINT_NAMES):
        other = name.replace("left", "R").replace("right", "left").replace("R", "right")
        sign = -1.0 if "roll" in name or "yaw" in name else 1.0
        qpos[:, 7 + place] = sign * motion.qpos[:, 7 + JOINT_NAMES.index(other)]
    return replace(motion, qpos=qpos, name="mirrored")


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
    everything = gather(files, config=GatherConfig(curate=None))
    assert list(everything.clips) == [str(file) for file in files]
    with pytest.raises(InputError, match=r"flying\.npz: its feet float"):
        gather(files[1:])


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
