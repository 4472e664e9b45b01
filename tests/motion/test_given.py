"""What a caller says of files that cannot tell is not held against files that can: they win, and a remark says so."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion import naming
from scaling.motion.clip import Motion
from scaling.motion.importers.joint_order import ISAAC
from scaling.motion.read import Given, inspect, read_file, read_motion, write_npz
from scaling.robot.g1 import standing_qpos
from scaling.robot.kinematics import forward_kinematics

XYZW = [1, 2, 3, 0]
FORMATS = ("motions", "formats")


def gpt(path: Path, qpos: np.ndarray) -> Path:
    """Humanoid-GPT's npz, which documents its order and has neither names nor bodies."""
    np.savez(path, qpos=qpos, frequency=50.0)
    return path


def in_isaac(motion: Motion) -> np.ndarray:
    return np.concatenate([motion.qpos[:, :7], motion.qpos[:, 7:][:, ISAAC]], axis=1)


def test_the_rate_in_a_file_wins_over_the_callers(tmp_path: Path, turning: Motion) -> None:
    path = gpt(tmp_path / "clip.npz", turning.qpos)
    found = inspect(path, rate_hz=30.0)
    assert found["rate_hz"] == 50.0
    assert "the file says 50 Hz: --rate is for files that do not" in found["problems"]
    assert not any("--rate" in problem for problem in inspect(path, rate_hz=50.0)["problems"])
    own = write_npz(turning, tmp_path / "own.npz")
    assert read_motion(own, rate_hz=25.0).rate_hz == turning.rate_hz
    assert "the file says 50 Hz: --rate is for files that do not" in read_motion(own, rate_hz=25.0).notes


def test_real_files_keep_their_rate_and_convention(shared: Path) -> None:
    folder = shared.joinpath(*FORMATS)
    moves = inspect(folder / "npz_beyondmimic_mjcf_order" / "B_HandsUp.npz", rate_hz=30.0, joint_order="isaac")
    assert (moves["rate_hz"], moves["joint_order"]) == (60.0, "mjcf")
    assert "the file says 60 Hz: --rate is for files that do not" in moves["problems"]
    assert "the bodies say mjcf: --joint-order is for files that cannot tell" in moves["problems"]
    walk = inspect(folder / "pkl_gmr_29" / "0807_yanjie_walk_001.pkl", quaternion="wxyz")
    assert walk["quaternion"] == "xyzw"
    assert abs(walk["quality"]["float_median_m"]) < 0.05
    assert "the format documents xyzw: --quaternion is for files that cannot tell" in walk["problems"]
    table = inspect(folder / "csv36_xyzw_30hz" / "walk1_subject1.csv", quaternion="wxyz", joint_order="isaac")
    assert (table["quaternion"], table["joint_order"]) == ("xyzw", "mjcf")
    assert sum("is for files that cannot tell" in problem for problem in table["problems"]) == 2
    named = inspect(folder / "npz_isaaclab_amp_named" / "g1_dance1_subject2_30.npz", joint_order="isaac")
    assert named["joint_order"] == "mjcf"


def test_an_order_against_the_joints_limits_is_asked_about_and_the_caller_answers(shared: Path, tmp_path: Path) -> None:
    """44 % of these frames would be beyond the limits in the documented order."""
    lafan = shared / "motions" / "g1_29dof" / "lafan1" / "dance1_subject1.csv.gz"
    motion = read_motion(lafan)
    path = gpt(tmp_path / "clip.npz", in_isaac(motion))
    with pytest.raises(InputError, match=r"joints in mjcf order, or is this file's isaac\? .*--joint-order isaac"):
        read_motion(path)
    np.testing.assert_array_equal(read_motion(path, joint_order="isaac").qpos[:, 7:], motion.qpos[:, 7:])
    right = inspect(gpt(tmp_path / "right.npz", motion.qpos), joint_order="isaac")
    assert right["joint_order"] == "mjcf"
    assert "the format documents mjcf: --joint-order is for files that cannot tell" in right["problems"]
    rows = in_isaac(motion)
    np.savetxt(tmp_path / "table_30hz.csv", rows[:900], delimiter=",", fmt="%.6f")
    with pytest.raises(InputError, match="or is this file's isaac"):
        read_motion(tmp_path / "table_30hz.csv")
    assert read_motion(tmp_path / "table_30hz.csv", joint_order="isaac").frames == 900


def test_the_caller_still_answers_where_nothing_tells(tmp_path: Path) -> None:
    rows = np.tile(standing_qpos(), (60, 1))[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]]
    np.savetxt(tmp_path / "stand.csv", rows, delimiter=",", fmt="%.6f")
    with pytest.raises(InputError, match=r"say which with --quaternion xyzw or --quaternion wxyz\.$"):
        read_motion(tmp_path / "stand.csv")
    found = read_motion(tmp_path / "stand.csv", quaternion="xyzw", rate_hz=100.0, joint_order="mjcf")
    assert (found.rate_hz, found.qpos[0, 3]) == (100.0, 1.0)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"rate_hz": 0.0}, "rate of 0.0 Hz"), ({"quaternion": "zyxw"}, "zyxw"), ({"joint_order": "bfs"}, "'bfs' is unkn")],
)
def test_what_no_file_can_be_is_refused_before_any_is_read(wrong: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Given(**wrong)


def test_a_rate_that_only_neighbours_have_is_told_to_be_assumed(tmp_path: Path, turning: Motion) -> None:
    (tmp_path / "MANIFEST.tsv").write_text("file\thz\na.csv\t120\n")
    beside = naming.rate_of(tmp_path / "b.csv")
    assert (beside.hz, beside.certain) == (120.0, False)
    assert "assumed from the files beside it" in beside.evidence
    named = naming.rate_of(tmp_path / "b_60hz.csv")
    assert (named.hz, named.certain) == (60.0, True)
    np.savetxt(tmp_path / "b.csv", turning.qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]], delimiter=",", fmt="%.8f")
    assert "assumed from the files beside it" in " ".join(read_motion(tmp_path / "b.csv").notes)


def wbc(folder: Path, motion: Motion, packed: bool) -> Path:
    """wbc_fsm's three raw arrays of a clip, each under gzip if `packed`; the path of the joints."""
    places, quats = forward_kinematics(motion.qpos)
    arrays = {"joint_pos": motion.qpos[:, 7:][:, ISAAC], "body_pos_w": places, "body_quat_w": quats}
    folder.mkdir()
    for name, array in arrays.items():
        head = np.array([array.ndim, *array.shape, 4], "<u4").tobytes()
        data = b"NPZ\x00" + head + b"f\x00\x00\x00" + array.astype("<f4").tobytes()
        path = folder / (f"{name}.bin.gz" if packed else f"{name}.bin")
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder / ("joint_pos.bin.gz" if packed else "joint_pos.bin")


@pytest.mark.parametrize("packed", [False, True])
def test_a_wbc_fsm_folder_is_read_packed_or_not_and_does_not_claim_a_rate(
    tmp_path: Path, turning: Motion, packed: bool
) -> None:
    path = wbc(tmp_path / "turning", turning, packed)
    (found,) = read_file(path)
    np.testing.assert_allclose(found.motion.qpos, turning.qpos, atol=1e-6)
    assert (found.motion.name, found.motion.rate_hz) == ("turning", 50.0)
    assert found.evidence[0] == "the format has no rate; its player steps through it at 50 Hz"
    assert "against: the format has no rate" in read_motion(path, rate_hz=25.0).notes[0]


def test_the_real_wbc_fsm_folder_and_acclaim_pair_are_read_packed(shared: Path, tmp_path: Path) -> None:
    for group in ("bin_wbc_fsm/dance12", "human_amc"):
        (tmp_path / group).mkdir(parents=True)
        for file in shared.joinpath(*FORMATS, group).iterdir():
            (tmp_path / group / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))
    plain = read_motion(shared.joinpath(*FORMATS, "bin_wbc_fsm", "dance12", "joint_pos.bin"))
    np.testing.assert_array_equal(
        read_motion(tmp_path / "bin_wbc_fsm" / "dance12" / "joint_pos.bin.gz").qpos, plain.qpos
    )
    from scaling.motion.human.amc import read_amc

    own, packed = shared.joinpath(*FORMATS, "human_amc", "11_01.amc"), tmp_path / "human_amc" / "11_01.amc.gz"
    text = own.read_text()
    here, there = read_amc(text, own, 120.0), read_amc(text, packed, 120.0)
    np.testing.assert_array_equal(there.points["left_toe"], here.points["left_toe"])
    assert re.search(r"11\.asf\.gz", there.skeleton)


def test_acclaims_suffixes_are_not_part_of_a_name() -> None:
    assert naming.clip_name(Path("11_01.amc.gz")) == "11_01"
    assert naming.clip_name(Path("11.asf")) == "11"
