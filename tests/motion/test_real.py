"""Real files: what FORMATS.md says of them, and the same motion in two formats to the listed figure."""

from pathlib import Path

import numpy as np
import pytest

from scaling.motion.clip import Motion, resample
from scaling.motion.quality import quality
from scaling.motion.read import inspect, read_motion, read_motions
from scaling.robot.g1 import JOINT_NAMES

# Place in MJCF order of each joint of Isaac Lab's order.
ISAAC = [0, 6, 12, 1, 7, 13, 2, 8, 14, 3, 9, 15, 22, 4, 10, 16, 23, 5, 11, 17, 24, 18, 25, 19, 26, 20, 27, 21, 28]


@pytest.fixture(scope="module")
def formats(shared: Path) -> Path:
    return shared / "motions" / "formats"


def mjcf(joints: np.ndarray) -> np.ndarray:
    """Joints of Isaac order in MJCF order."""
    placed = np.empty(joints.shape)
    placed[:, ISAAC] = joints
    return placed


def named(path: Path) -> np.ndarray:
    """Joints of an Isaac-Lab file by their names."""
    with np.load(path) as data:
        return data["dof_positions"][:, [list(data["dof_names"]).index(name) for name in JOINT_NAMES]]


@pytest.mark.parametrize("clip", ["G1_gangnam_style_V01.bvh_60hz", "G1_Take_102.bvh_60hz"])
def test_csv_at_60_hz_equals_isaac_npz_at_50(formats: Path, clip: str) -> None:
    ours = resample(read_motion(formats / "csv36_xyzw_60hz" / f"{clip}.csv"))
    with np.load(formats / "npz_beyondmimic_isaac_order" / f"{clip}.npz") as data:
        assert len(data["joint_pos"]) == ours.frames
        assert np.abs(mjcf(data["joint_pos"]) - ours.qpos[:, 7:]).max() < 2.95e-5
        assert np.abs(data["body_pos_w"][:, 0] - ours.qpos[:, :3]).max() < 1e-5


@pytest.mark.parametrize("clip", ["B_HandsUp", "M_ShortMove14"])
def test_g1_moves_csv_equals_npz(formats: Path, clip: str) -> None:
    ours = read_motion(formats / "csv36_xyzw_60hz" / f"{clip}.csv")
    with np.load(formats / "npz_beyondmimic_mjcf_order" / f"{clip}.npz") as data:
        count = len(data["joint_pos"])
        assert np.abs(data["joint_pos"] - ours.qpos[:count, 7:]).max() < 1.8e-5
        sign = np.sign(np.sum(data["body_quat_w"][:, 0] * ours.qpos[:count, 3:7], axis=1, keepdims=True))
        assert np.abs(data["body_quat_w"][:, 0] * sign - ours.qpos[:count, 3:7]).max() < 1e-4


def test_lafan_walk_equals_its_60_hz_npz(formats: Path) -> None:
    ours = resample(read_motion(formats / "csv36_xyzw_30hz" / "walk1_subject1.csv"), 60.0)
    theirs = named(formats / "npz_isaaclab_amp_named" / "G1_walk.npz")
    assert np.abs(theirs - ours.qpos[200 : 200 + len(theirs), 7:]).max() < 6e-8


def test_lafan_dance_equals_its_npz_and_its_50_hz_binary(formats: Path) -> None:
    ours = read_motion(formats / "csv36_xyzw_30hz" / "dance1_subject2.csv")
    theirs = named(formats / "npz_isaaclab_amp_named" / "g1_dance1_subject2_30.npz")
    assert np.abs(theirs - ours.qpos[250 : 250 + len(theirs), 7:]).max() < 1.2e-7
    raw = (formats / "bin_wbc_fsm" / "dance12" / "joint_pos.bin").read_bytes()
    count = int.from_bytes(raw[8:12], "little")
    joints = mjcf(np.frombuffer(raw[24:], np.float32).reshape(count, 29))
    steady = resample(ours)
    assert steady.frames == count
    assert np.abs(joints - steady.qpos[:, 7:]).mean() < 7.1e-6


def test_the_kimodo_files_are_wxyz_and_the_rest_xyzw(formats: Path) -> None:
    for path in sorted((formats / "csv36_wxyz_30hz").glob("*.csv")):
        assert inspect(path)["quaternion"] == "wxyz"
    found = inspect(formats / "csv36_xyzw_30hz" / "fallAndGetUp1_subject1.csv")
    assert found["quaternion"] == "xyzw"
    assert any("into the floor" in problem for problem in found["problems"])


def test_the_h1_2_file_and_the_foreign_formats_are_refused(formats: Path) -> None:
    assert "36" in str(inspect(formats / "csv_wrong_robot" / "dance1_subject2.csv")["reason"])
    found = read_motions(formats)
    assert len(found.motions) == 15
    files = [path for path in formats.rglob("*") if path.is_file() and path.name != "MANIFEST.tsv"]
    assert len(found.refused) == len(files) - 15
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
