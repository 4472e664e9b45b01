"""Readers: content decides, rate and quaternion order come with evidence, bad files end in one sentence each."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion import naming
from scaling.motion.clip import Motion
from scaling.motion.read import inspect, inspect_all, read_motion, read_motions, write_npz
from scaling.robot.g1 import standing_qpos

WXYZ = list(range(36))
XYZW = [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]


def write_csv(path: Path, qpos: np.ndarray, order: list[int] = XYZW) -> Path:
    """36-column CSV of a clip with the quaternion's columns in a given order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, qpos[:, order], delimiter=",", fmt="%.8f")
    return path


@pytest.mark.parametrize(("convention", "order"), [("xyzw", XYZW), ("wxyz", WXYZ)])
@pytest.mark.parametrize("zipped", [False, True])
def test_both_quaternion_orders_read_the_same(
    tmp_path: Path, turning: Motion, convention: str, order: list[int], zipped: bool
) -> None:
    path = write_csv(tmp_path / "a_50hz.csv", turning.qpos, order)
    if zipped:
        packed = tmp_path / "packed" / "a_50hz.csv.gz"
        packed.parent.mkdir()
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    found = inspect(path)
    assert found["ok"], found["reason"]
    assert found["quaternion"] == convention
    motion = read_motion(path)
    np.testing.assert_allclose(motion.qpos, turning.qpos, atol=2e-8)
    assert motion.rate_hz == 50.0


def test_a_robot_that_only_stands_gets_a_question_not_a_guess(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "stand.csv", np.tile(standing_qpos(), (100, 1)))
    with pytest.raises(InputError, match=r"stand\.csv: is the quaternion in columns 4-7 xyzw or wxyz\?"):
        read_motion(path)
    assert read_motion(path, quaternion="xyzw").qpos[0, 3] == pytest.approx(1.0)
    assert read_motion(path, quaternion="wxyz").qpos[0, 6] == pytest.approx(1.0)
    with pytest.raises(InputError, match="choose 'xyzw' or 'wxyz'"):
        read_motion(path, quaternion="zyxw")


def test_rate_from_manifest_neighbours_name_argument_or_assumption(tmp_path: Path, turning: Motion) -> None:
    listed = write_csv(tmp_path / "set" / "sub" / "listed.csv", turning.qpos)
    beside = write_csv(tmp_path / "set" / "sub" / "beside.csv", turning.qpos)
    (tmp_path / "set" / "MANIFEST.tsv").write_text("file\thz\trows\nsub/listed.csv.gz\t120\t9\nother/x.csv\t30\t9\n")
    named = write_csv(tmp_path / "walk_60hz.csv", turning.qpos)
    bare = write_csv(tmp_path / "bare.csv", turning.qpos)
    assert read_motion(listed).rate_hz == 120.0
    assert read_motion(beside).rate_hz == 120.0
    assert read_motion(named).rate_hz == 60.0
    assert read_motion(named, rate_hz=25.0).rate_hz == 25.0
    assumed = read_motion(bare)
    assert assumed.rate_hz == 30.0
    assert "assumed" in assumed.notes[0]
    assert not read_motion(named).notes


@pytest.mark.parametrize(
    ("name", "group", "family"),
    [
        ("dance1_subject1", "dance1", "dance"),
        ("dance1_subject2", "dance1", "dance"),
        ("fallAndGetUp2_subject3", "fallAndGetUp2", "fallAndGetUp"),
        ("J_Dance12_LushLife", "J_Dance12_LushLife", "dance"),
        ("J_ShortDance13_SingleLadies", "J_ShortDance13_SingleLadies", "dance"),
        ("B_CrazyChopsKarate", "B_CrazyChopsKarate", "karate"),
        ("M_ShortMove12", "M_ShortMove12", "move"),
        ("B_HandsUp", "B_HandsUp", ""),
        ("my_recording", "my_recording", ""),
    ],
)
def test_recording_group_and_family_from_the_name(name: str, group: str, family: str) -> None:
    assert (naming.recording_group(name), naming.family(name)) == (group, family)


def test_names_lose_their_suffixes() -> None:
    assert naming.clip_name(Path("a/walk1_subject1.csv.gz")) == "walk1_subject1"
    assert naming.clip_name(Path("G1_Take_102.bvh_60hz.csv")) == "G1_Take_102.bvh_60hz"


def test_own_npz_comes_back_as_it_went(tmp_path: Path, turning: Motion) -> None:
    motion = Motion(turning.qpos, 59.94, "a b", "studio", "MIT", "day 1", "turn", ("cut by hand",))
    path = write_npz(motion, tmp_path / "new" / "a.npz")
    back = read_motion(path)
    np.testing.assert_array_equal(back.qpos, motion.qpos)
    for field in ("rate_hz", "name", "source", "licence", "group", "family", "notes"):
        assert getattr(back, field) == getattr(motion, field)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.npz"]


def test_a_folder_gives_its_motions_and_the_reasons_for_the_rest(tmp_path: Path, turning: Motion) -> None:
    write_csv(tmp_path / "one_50hz.csv", turning.qpos)
    write_csv(tmp_path / "deep" / "er" / "two_50hz.csv", turning.qpos)
    write_csv(tmp_path / "deep" / "one_50hz.csv", turning.qpos)
    (tmp_path / "short.csv").write_text("1,2,3\n4,5,6\n")
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / ".hidden.csv").write_text("1,2\n")
    found = read_motions(tmp_path)
    assert [motion.name for motion in found.motions] == ["two_50hz", "one_50hz#1", "one_50hz#2"]
    assert list(found.refused) == [str(tmp_path / "short.csv")]
    assert [motion.name for motion in read_motions(str(tmp_path / "deep" / "*.csv")).motions] == ["one_50hz"]
    assert len(read_motions(str(tmp_path / "**" / "*50hz*")).motions) == 3
    assert [row["ok"] for row in inspect_all(tmp_path)].count(False) == 1


@pytest.mark.parametrize("where", ["missing", "empty", "nothing*", "only refused"])
def test_nothing_to_read_is_said_with_the_path(tmp_path: Path, where: str) -> None:
    path = tmp_path / where
    if where in ("empty", "only refused"):
        path.mkdir()
    if where == "only refused":
        (path / "a.csv").write_text("1,2\n")
        (path / "b.csv").write_text("1,2\n")
    with pytest.raises(InputError) as caught:
        read_motions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def stand(frames: int = 60) -> np.ndarray:
    return np.tile(standing_qpos(), (frames, 1))


def csv_of(rows: np.ndarray) -> bytes:
    return "\n".join(",".join(f"{value:.6f}" for value in row) for row in rows).encode()


def with_value(value: float, frame: int = 5, column: int = 9) -> np.ndarray:
    rows = stand()
    rows[frame, column] = value
    return rows


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "34 columns": (lambda: csv_of(stand()[:, :34]), "34 columns .*H1_2.* 36 are expected"),
    "35 columns": (lambda: csv_of(stand()[:, :35]), "35 columns, but 36 are expected"),
    "nan": (lambda: csv_of(with_value(float("nan"))), "NaN or infinity, first in frame 5"),
    "norm": (lambda: csv_of(stand() * np.where(np.arange(36) // 3 == 1, 1.5, 1.0)), "norm .* are not near 1"),
    "zeros": (lambda: csv_of(np.zeros((9, 36))), "norm 0.000"),
    "header": (lambda: b"root_x,root_y\n" + csv_of(stand()), "header.*no known format"),
    "words": (lambda: csv_of(stand()).replace(b"0.669000", b"knee", 1), "holds 'knee', not a number"),
    "cut short": (lambda: csv_of(stand())[:-100], "cut short"),
    "one frame": (lambda: csv_of(stand(1)), "at least two"),
    "empty": (lambda: b"", "is empty"),
    "blank": (lambda: b"\n\n", "is empty"),
    "text": (lambda: b"hello there\n", "not a table of numbers"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git-LFS pointer.*git lfs"),
    "bvh": (lambda: b"HIERARCHY\nROOT Hips\n", "BVH file is cut short or damaged"),
    "pickle": (lambda: b"\x80\x04\x95\x00", "Python pickle is cut short"),
    "npy": (lambda: b"\x93NUMPY\x01\x00", "NumPy array is cut short"),
    "bin": (lambda: b"NPZ\x00\x02\x00", "wbc_fsm array is cut short"),
    "zip": (lambda: b"PK\x03\x04 cut", "damaged"),
    "gzip": (lambda: gzip.compress(csv_of(stand()))[:-20], "gzip data are cut short"),
    "binary": (lambda: b"\x01\x02\x00\x03", "unknown binary"),
    "utf": (lambda: b"1,2,\xff\xfe\n", "UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name_in_one_sentence(tmp_path: Path, case: str) -> None:
    content, expected = BAD[case]
    path = tmp_path / "clip.csv"
    path.write_bytes(content())
    with pytest.raises(InputError, match=expected) as caught:
        read_motion(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    found = inspect(path)
    assert not found["ok"]
    assert found["reason"] == str(caught.value)


def test_an_npz_of_another_project_is_named_by_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, joint_pos=np.zeros((3, 29)), fps=np.array([50]))
    with pytest.raises(InputError, match=r"keys fps, joint_pos.*readable are CSV"):
        read_motion(path)


@pytest.mark.parametrize("wrong", ["shape", "text", "object"])
def test_a_damaged_own_npz_is_refused(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "clip.npz"
    qpos = {"shape": np.zeros(36), "text": np.array("walk"), "object": np.array([{}], dtype=object)}[wrong]
    np.savez(path, qpos=qpos, rate_hz=np.float64(50.0))
    with pytest.raises(InputError, match=r"clip\.npz: "):
        read_motion(path)


def test_inspect_has_the_published_keys(tmp_path: Path, turning: Motion) -> None:
    keys = {"path", "ok", "format", "rate_hz", "frames", "joints", "quaternion", "joint_order", "problems", "reason"}
    good = inspect(write_csv(tmp_path / "a_50hz.csv", turning.qpos))
    bad = inspect(tmp_path / "absent.csv")
    assert keys <= set(good) & set(bad)
    assert (good["format"], good["frames"], good["joints"], good["joint_order"]) == ("csv36", 300, 29, "mjcf")
    assert good["reason"] is None
    assert bad["frames"] is None
    assert "no such file" in bad["reason"]
    json.dumps([good, bad])
