"""Real files: what FORMATS.md says of whole folders, and of the quality of LAFAN1."""

import importlib.util
from pathlib import Path

import pytest

from scaling.motion.clip import Motion
from scaling.motion.quality import quality
from scaling.motion.read import inspect, read_motion, read_motions


@pytest.fixture(scope="module")
def formats(shared: Path) -> Path:
    return shared / "motions" / "formats"


def test_the_kimodo_files_are_wxyz_and_the_rest_xyzw(formats: Path) -> None:
    for path in sorted((formats / "csv36_wxyz_30hz").glob("*.csv")):
        assert inspect(path)["quaternion"] == "wxyz"
    found = inspect(formats / "csv36_xyzw_30hz" / "fallAndGetUp1_subject1.csv")
    assert found["quaternion"] == "xyzw"
    assert any("into the floor" in problem for problem in found["problems"])


def test_of_the_formats_folder_only_another_robot_and_parts_of_clips_are_refused(formats: Path) -> None:
    if importlib.util.find_spec("mink") is None:
        pytest.skip("mink is absent")
    found = read_motions(formats)
    assert len(found.motions) == 44
    assert {Path(path).name for path in found.refused} == {
        "11.asf",
        "body_pos_w.bin",
        "body_quat_w.bin",
        "dance1_subject2.csv",
    }
    assert all(reason.startswith(path) and "\n" not in reason for path, reason in found.refused.items())


def test_the_pool_reads_with_its_rates_and_groups(shared: Path) -> None:
    pool = shared / "motions" / "g1_29dof"
    walks = read_motions(str(pool / "lafan1" / "walk1_*"))
    moves = read_motions(str(pool / "g1_moves" / "M_Move1*"))
    assert {motion.group for motion in walks.motions} == {"walk1"}
    assert {motion.rate_hz for motion in walks.motions} == {30.0}
    assert {motion.licence for motion in walks.motions} == {"CC BY-NC-ND 4.0"}
    assert {motion.rate_hz for motion in moves.motions} == {60.0}
    assert len({motion.group for motion in moves.motions}) == len(moves.motions) > 1
    assert not any(motion.notes for motion in walks.motions + moves.motions)


def test_quality_of_lafan_is_what_formats_says(shared: Path) -> None:
    motion: Motion = read_motion(shared / "motions" / "g1_29dof" / "lafan1" / "walk1_subject1.csv.gz")
    metrics = quality(motion)
    assert abs(metrics["float_median_m"]) < 0.008
    assert metrics["limit_share"] == 0.0
    assert metrics["joint_speed_worst"] < 37 / 20
