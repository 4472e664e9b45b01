"""Every file of the formats folder imports or is refused as FORMATS.md says, and pairs agree to the listed figures."""

import csv
import gzip
import hashlib
import importlib.util
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from scaling.motion.clip import Motion, resample
from scaling.motion.importers.joint_order import ISAAC
from scaling.motion.read import inspect, read_motion
from scaling.robot.rotations import angle_between

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "motions" / "formats"


class Expected(NamedTuple):
    """What a group's files are: format, rates (Hz), joints in the file, quaternion and joint order in the file."""

    format: str
    rates: set[float]
    joints: int = 29
    quaternion: str = "xyzw"
    order: str = "mjcf"


NO_WRISTS = "mjcf without wrists"
GROUPS = {
    "csv36_xyzw_30hz": Expected("csv36", {30.0}),
    "csv36_xyzw_60hz": Expected("csv36", {60.0}),
    "csv36_wxyz_30hz": Expected("csv36", {30.0}, quaternion="wxyz"),
    "npz_beyondmimic_mjcf_order": Expected("beyondmimic", {60.0}, quaternion="wxyz"),
    "npz_beyondmimic_isaac_order": Expected("beyondmimic", {50.0}, quaternion="wxyz", order="isaac"),
    "npz_isaaclab_amp_named": Expected("isaaclab", {30.0, 60.0}, quaternion="wxyz"),
    "npz_holosoma_qpos36_named": Expected("holosoma", {50.0}, quaternion="wxyz"),
    "pkl_gmr_29": Expected("gmr", {29.87626854359289, 29.7623376444417, 30.0}),
    "pkl_gmt_23": Expected("gmr", {29.980814325303772, 33.25062034739454, 59.9999885559082}, 23, order=NO_WRISTS),
    "pkl_joblib_asap_23": Expected("asap", {30.0}, 23, order=NO_WRISTS),
    "torchzip_protomotions": Expected("protomotions", {30.0}),
    "npy_phuma": Expected("phuma", {30.0}),
    "bin_wbc_fsm": Expected("wbc_fsm", {50.0}, quaternion="wxyz", order="isaac"),
    "npz_loco_mujoco_old_g1": Expected("loco-mujoco old", {500.0}, 23, "euler", "by name"),
}  # fmt: skip
PEOPLE = {
    "human_bvh": Expected("bvh", {50.0}, quaternion="none", order="retargeted"),
    "human_amc": Expected("amc", {50.0}, quaternion="none", order="retargeted"),
    "human_smpl_npz": Expected("smpl", {50.0}, quaternion="none", order="retargeted"),
}
REFUSED = {"csv_wrong_robot": "34 columns .*H1_2.*36 are expected"}
WITH_MINK = importlib.util.find_spec("mink") is not None
# By file, where it differs from its group.
OTHERWISE = {
    "G1_dance.npz": "isaac",
    "11.asf": "skeleton in ASF.*AMC files",
    "body_pos_w.bin": "part of the clip",
    "body_quat_w.bin": "part of the clip",
}


def listed() -> list[tuple[str, str, str]]:
    """Group, path below the folder and SHA-256 of each file in the manifest."""
    if not FOLDER.is_dir():
        return []
    with (FOLDER / "MANIFEST.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [(row["group"], row["set_path"].removeprefix("public/"), row["sha256"]) for row in rows]


FILES = listed()


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
def test_the_manifest_lists_48_files_in_18_groups() -> None:
    assert len(FILES) == 48
    assert {group for group, _, _ in FILES} == set(GROUPS) | set(PEOPLE) | set(REFUSED)


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
@pytest.mark.parametrize(
    ("group", "file", "sha256"), FILES, ids=[f"{group}-{Path(file).name}" for group, file, _ in FILES]
)
def test_every_listed_file_imports_or_is_refused(group: str, file: str, sha256: str) -> None:
    path = FOLDER / file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    found = inspect(path)
    reason = REFUSED.get(group) or (OTHERWISE[path.name] if path.suffix == ".asf" or "body_" in path.name else None)
    if group in PEOPLE and reason is None and not WITH_MINK:
        reason = r"needs the package mink.*install scaling\[train\]"
    if reason is not None:
        assert not found["ok"]
        assert found["reason"].startswith(f"{path}: ")
        assert "\n" not in found["reason"]
        assert re.search(reason, found["reason"]), found["reason"]
        return
    expected = (GROUPS | PEOPLE)[group]
    assert found["ok"], found["reason"]
    assert found["format"] == expected.format
    assert found["rate_hz"] in expected.rates
    assert found["joints"] == expected.joints
    assert found["quaternion"] == expected.quaternion
    assert found["joint_order"] == OTHERWISE.get(path.name, expected.order)
    assert found["evidence"]
    assert any("lifted from 23 to 29" in problem for problem in found["problems"]) == (expected.joints == 23)
    assert abs(found["quality"]["float_median_m"]) < 0.09


class Pair(NamedTuple):
    """Two files with one motion: the first, resampled to the second's rate, from a row of its own on.

    Largest (or mean) difference of joints (rad), root position (m) and rotation (rad), and of the root's height where
    one file lifts it frame by frame.
    """

    first: str
    second: str
    joints: float
    root: float
    turn: float = 1e-4
    start: int = 0
    mean: bool = False
    lift: float = 0.0


GANGNAM, TAKE = "G1_gangnam_style_V01.bvh_60hz", "G1_Take_102.bvh_60hz"
DANCE = "csv36_xyzw_30hz/dance1_subject2.csv"
PAIRS = [
    Pair(f"csv36_xyzw_60hz/{GANGNAM}.csv", f"npz_beyondmimic_isaac_order/{GANGNAM}.npz", 2.95e-5, 1e-5, 2.1e-3),
    Pair(f"csv36_xyzw_60hz/{TAKE}.csv", f"npz_beyondmimic_isaac_order/{TAKE}.npz", 2.95e-5, 1e-5, 2.1e-3),
    Pair(DANCE, "bin_wbc_fsm/dance12/joint_pos.bin", 7.5e-6, 1.35e-5, mean=True),
    Pair("csv36_xyzw_30hz/walk1_subject1.csv", "npz_isaaclab_amp_named/G1_walk.npz", 6.5e-8, 3e-7, start=100),
    Pair(DANCE, "npz_isaaclab_amp_named/g1_dance1_subject2_30.npz", 1.2e-7, 5e-7, start=250),
    Pair("csv36_wxyz_30hz/output_walk.csv", "torchzip_protomotions/output_walk.motion", 1.2e-7, 2e-6, lift=0.01735),
    Pair("csv36_xyzw_60hz/B_HandsUp.csv", "npz_beyondmimic_mjcf_order/B_HandsUp.npz", 1.85e-5, 2e-5),
    Pair("csv36_xyzw_60hz/M_ShortMove14.csv", "npz_beyondmimic_mjcf_order/M_ShortMove14.npz", 1.85e-5, 2e-5),
]  # fmt: skip


def differences(pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the frames that both files have: joints (rad), root position (m) and root rotation (rad)."""
    first, second = read_motion(FOLDER / pair.first), read_motion(FOLDER / pair.second)
    ours = resample(Motion(first.qpos[pair.start :], first.rate_hz, first.name), second.rate_hz).qpos
    theirs = second.qpos
    count = min(len(ours), len(theirs))
    assert count > 100
    assert len(theirs) - count <= 1, "the second file goes on where the first has ended"
    ours, theirs = ours[:count], theirs[:count]
    return (
        np.abs(ours[:, 7:] - theirs[:, 7:]),
        np.abs(ours[:, :3] - theirs[:, :3]),
        angle_between(ours[:, 3:7], theirs[:, 3:7]),
    )


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
@pytest.mark.parametrize(
    "pair", PAIRS, ids=[Path(pair.second).parent.name + "-" + Path(pair.second).name for pair in PAIRS]
)
def test_the_same_motion_in_two_formats_agrees(pair: Pair) -> None:
    joints, place, turn = differences(pair)
    figure = np.mean if pair.mean else np.max
    assert figure(joints) < pair.joints
    assert figure(place[:, :2]) < pair.root
    assert figure(place[:, 2]) < pair.root + pair.lift
    assert figure(turn) < pair.turn


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
@pytest.mark.parametrize(
    "file", ["pkl_gmr_29/0807_yanjie_walk_001.pkl", "torchzip_protomotions/output_walk.motion", "pkl_gmt_23/squat.pkl"]
)
def test_name_and_gzip_do_not_matter(file: str, tmp_path: Path) -> None:
    original = read_motion(FOLDER / file)
    misnamed = tmp_path / "clip.npy"
    shutil.copy(FOLDER / file, misnamed)
    packed = tmp_path / "clip.csv.gz"
    packed.write_bytes(gzip.compress((FOLDER / file).read_bytes()))
    for path in (misnamed, packed):
        found = read_motion(path)
        np.testing.assert_array_equal(found.qpos, original.qpos)
        assert found.rate_hz == original.rate_hz


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
def test_what_formats_says_of_single_files() -> None:
    def problems(file: str) -> str:
        return "; ".join(inspect(FOLDER / file)["problems"])

    assert "teleport" in problems("pkl_gmr_29/0807_yanjie_walk_004.pkl")
    assert "quaternion norms were off by up to 1.9 %" in problems("pkl_gmr_29/accad_A3___Swing_t2.pkl")
    assert "14 joints never move" in problems("npy_phuma/fightAndSports1_subject4.npy")


def test_isaac_order_is_the_inverse_of_the_list_in_formats() -> None:
    assert sorted(ISAAC) == list(range(29))
    assert ISAAC[:4] == (0, 6, 12, 1)
