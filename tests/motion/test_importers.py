"""Importers on generated clips: layouts round-trip, orders are told by the data or asked for, pickles stay inert."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.motion.importers.bones_seed import euler_xyz
from scaling.motion.importers.joint_order import ISAAC, ORDERS
from scaling.motion.read import inspect, read_file, read_motion, read_motions
from scaling.robot.g1 import BODY_NAMES, JOINT_NAMES
from scaling.robot.kinematics import forward_kinematics

XYZW = [1, 2, 3, 0]
KEEP_23 = [place for place, name in enumerate(JOINT_NAMES) if "wrist" not in name]


def tracked(motion: Motion, order: tuple[int, ...] = tuple(range(29)), bodies: int = 30) -> dict[str, Any]:
    """BeyondMimic's arrays of a clip, joints in `order`."""
    places, quats = forward_kinematics(motion.qpos)
    return {
        "fps": np.array([motion.rate_hz]),
        "joint_pos": motion.qpos[:, 7:][:, order].astype(np.float32),
        "body_pos_w": places[:, :bodies].astype(np.float32),
        "body_quat_w": quats[:, :bodies].astype(np.float32),
    }


def gmr(motion: Motion, keep: list[int], local: bool = True) -> dict[str, Any]:
    """GMR's arrays of a clip with some of its joints."""
    still = motion.qpos.copy()
    still[:, :7] = [0, 0, 0, 1, 0, 0, 0]
    found = {
        "fps": np.float64(motion.rate_hz),
        "root_pos": motion.qpos[:, :3],
        "root_rot": motion.qpos[:, 3:7][:, XYZW],
        "dof_pos": motion.qpos[:, 7:][:, keep],
        "local_body_pos": forward_kinematics(still)[0].astype(np.float32) if local else None,
        "link_body_list": list(BODY_NAMES),
    }
    return found


def without_wrists(motion: Motion) -> Motion:
    qpos = motion.qpos.copy()
    qpos[:, [7 + place for place in range(29) if place not in KEEP_23]] = 0.0
    return Motion(qpos, motion.rate_hz, motion.name)


def pickled(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(("name", "order"), [("mjcf", tuple(range(29))), ("isaac", ISAAC)])
def test_the_joint_order_of_a_nameless_file_is_told_by_its_bodies(
    tmp_path: Path, turning: Motion, name: str, order: tuple[int, ...]
) -> None:
    path = npz(tmp_path / "clip.npz", **tracked(turning, order))
    (found,) = read_file(path)
    assert (found.format, found.joint_order, found.quaternion) == ("beyondmimic", name, "wxyz")
    np.testing.assert_allclose(found.motion.qpos, turning.qpos, atol=1e-6)
    assert "forward kinematics meets" in found.evidence[1]


def test_a_shuffled_joint_order_is_refused_and_a_still_robot_asked_about(tmp_path: Path, turning: Motion) -> None:
    shuffled = tuple(int(place) for place in np.random.default_rng(0).permutation(29))
    with pytest.raises(InputError, match=r"no known joint order.*another robot or an unknown order"):
        read_motion(npz(tmp_path / "shuffled.npz", **tracked(turning, shuffled)))
    zero = Motion(np.concatenate([turning.qpos[:, :7], np.zeros((turning.frames, 29))], axis=1), 50.0, "zero")
    path = npz(tmp_path / "zero.npz", **tracked(zero))
    with pytest.raises(InputError, match=r"zero\.npz: is it joints (mjcf|isaac).*say which with --joint-order"):
        read_motion(path)
    assert read_motion(path, joint_order="isaac").frames == zero.frames
    with pytest.raises(InputError, match="joint order 'bfs' is unknown"):
        read_motion(path, joint_order="bfs")


def test_names_beat_order_and_strangers_are_left_out(tmp_path: Path, turning: Motion) -> None:
    shuffled = np.random.default_rng(1).permutation(29)
    arrays = tracked(turning, tuple(shuffled))
    names = [JOINT_NAMES[place] for place in shuffled]
    arrays["joint_pos"] = np.concatenate([arrays["joint_pos"], np.ones((turning.frames, 1), np.float32)], axis=1)
    path = npz(tmp_path / "clip.npz", **arrays, joint_names=[*names, "left_thumb_joint"], body_names=list(BODY_NAMES))
    motion = read_motion(path)
    np.testing.assert_allclose(motion.qpos, turning.qpos, atol=1e-6)
    assert any("left_thumb_joint" in note for note in motion.notes)
    with pytest.raises(InputError, match=r"no joint is named left_hip_pitch.*another robot"):
        read_motion(npz(tmp_path / "h1.npz", **arrays, joint_names=[f"joint_{index}" for index in range(30)]))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_gmr_pickles_of_every_protocol(tmp_path: Path, turning: Motion, protocol: int) -> None:
    (found,) = read_file(pickled(tmp_path / "clip.pkl", gmr(turning, list(range(29))), protocol))
    assert (found.format, found.quaternion, found.joint_order, found.joints) == ("gmr", "xyzw", "mjcf", 29)
    np.testing.assert_allclose(found.motion.qpos, turning.qpos, atol=1e-9)


def test_23_joints_are_lifted_where_the_bodies_tell_and_refused_where_nothing_does(
    tmp_path: Path, turning: Motion
) -> None:
    bare = without_wrists(turning)
    for order in (one for one in ORDERS if len(one.places) == 23 and "without wrists" in one.name):
        path = pickled(tmp_path / f"{order.name}.pkl", gmr(bare, list(order.places)))
        (found,) = read_file(path)
        assert (found.joint_order, found.joints) == (order.name, 23)
        np.testing.assert_allclose(found.motion.qpos, bare.qpos, atol=1e-9)
        assert "lifted from 23 to 29 joints: left_wrist_roll" in found.motion.notes[0]
    blind = pickled(tmp_path / "blind.pkl", gmr(bare, KEEP_23, local=False))
    with pytest.raises(InputError, match="in which order are its 23 joints"):
        read_motion(blind)
    np.testing.assert_allclose(read_motion(blind, joint_order="mjcf without wrists").qpos, bare.qpos, atol=1e-9)
    with pytest.raises(InputError, match="27 joints, but a G1 has 29 or 23"):
        read_motion(pickled(tmp_path / "h1.pkl", gmr(turning, list(range(27)), local=False)))


def test_phuma_and_humanoid_gpt(tmp_path: Path, turning: Motion) -> None:
    arrays = gmr(turning, list(range(29)))
    phuma = {"root_trans": arrays["root_pos"], "root_ori": arrays["root_rot"], "dof_pos": arrays["dof_pos"], "fps": 50}
    np.save(tmp_path / "phuma.npy", np.array(phuma, dtype=object), allow_pickle=True)
    gpt = {"root_pos": arrays["root_pos"], "root_rot": turning.qpos[:, 3:7], "dof_pos": arrays["dof_pos"]}
    files = {
        "phuma": tmp_path / "phuma.npy",
        "humanoid-gpt": npz(tmp_path / "gpt.npz", **gpt, frequency=50.0),
        "humanoid-gpt ": npz(tmp_path / "gpt2.npz", qpos=turning.qpos, frequency=np.array(50)),
    }
    for form, path in files.items():
        (found,) = read_file(path)
        assert found.format == form.strip()
        assert found.motion.rate_hz == 50.0
        np.testing.assert_allclose(found.motion.qpos, turning.qpos, atol=1e-9)


def test_a_documented_convention_is_doubted_where_the_feet_speak_against_it(tmp_path: Path, turning: Motion) -> None:
    wrong = gmr(turning, list(range(29)))
    wrong["root_rot"] = turning.qpos[:, 3:7]
    path = pickled(tmp_path / "clip.pkl", wrong)
    with pytest.raises(InputError, match="stores quaternions as xyzw, but is this file's wxyz"):
        read_motion(path)
    np.testing.assert_allclose(read_motion(path, quaternion="wxyz").qpos, turning.qpos, atol=1e-9)


def test_new_loco_mujoco_is_cut_at_its_split_points(tmp_path: Path, turning: Motion) -> None:
    split = np.array([0, 100, turning.frames])
    path = npz(
        tmp_path / "both.npz",
        qpos=turning.qpos.astype(np.float32),
        joint_names=["root", *JOINT_NAMES],
        frequency=40.0,
        split_points=split,
    )
    found = read_motions(path).motions
    assert [(motion.name, motion.frames) for motion in found] == [("both:000", 100), ("both:001", turning.frames - 100)]
    np.testing.assert_allclose(found[1].qpos, turning.qpos[100:], atol=1e-6)
    assert {motion.rate_hz for motion in found} == {40.0}
    with pytest.raises(InputError, match="holds 2 clips"):
        read_motion(path)
    told = inspect(path)
    assert (told["frames"], len(told["clips"])) == (turning.frames, 2)


def test_bones_seed_units_and_angles(tmp_path: Path, turning: Motion) -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(-0.4, 0.4, (turning.frames, 3))
    qpos = turning.qpos.copy()
    qpos[:, 3:7] = euler_xyz(angles)
    header = ["Frame", *(f"root_translate{axis}" for axis in "XYZ"), *(f"root_rotate{axis}" for axis in "XYZ")]
    header += [f"{name}_dof" for name in JOINT_NAMES]
    rows = np.column_stack([np.arange(len(qpos)), 100 * qpos[:, :3], np.rad2deg(angles), np.rad2deg(qpos[:, 7:])])
    path = tmp_path / "clip.csv"
    np.savetxt(path, rows, delimiter=",", header=",".join(header), comments="", fmt="%.9f")
    (found,) = read_file(path)
    assert (found.format, found.motion.rate_hz, found.joint_order) == ("bones-seed", 120.0, "mjcf")
    np.testing.assert_allclose(found.motion.qpos, qpos, atol=1e-8)
    from scipy.spatial.transform import Rotation

    ours = euler_xyz(angles)
    theirs = Rotation.from_euler("xyz", angles).as_quat(scalar_first=True)
    np.testing.assert_allclose(np.abs(np.sum(ours * theirs, axis=1)), 1.0, atol=1e-12)


def test_asap_clips_of_one_file_and_an_order_that_the_axes_refute(tmp_path: Path, turning: Motion) -> None:
    bare = without_wrists(turning)
    axes = np.zeros((29, 3))
    for place, name in enumerate(JOINT_NAMES):
        axes[place, 1 if "pitch" in name or "knee" in name or "elbow" in name else 0 if "roll" in name else 2] = 1.0
    joints = bare.qpos[:, 7:][:, KEEP_23]
    turns = np.zeros((bare.frames, 27, 3))
    turns[:, 1:24] = joints[:, :, None] * axes[KEEP_23]
    clip = {
        "root_trans_offset": bare.qpos[:, :3],
        "root_rot": bare.qpos[:, 3:7][:, XYZW],
        "pose_aa": turns,
        "dof": joints,
        "fps": 50,
    }
    found = read_file(pickled(tmp_path / "two.pkl", {"walk": clip, "jump": clip}))
    assert [read.motion.name for read in found] == ["two:walk", "two:jump"]
    np.testing.assert_allclose(found[1].motion.qpos, bare.qpos, atol=1e-9)
    shuffled = {**clip, "dof": joints[:, ::-1]}
    with pytest.raises(InputError, match="in which order are its 23 joints"):
        read_motion(pickled(tmp_path / "shuffled.pkl", {"walk": shuffled}))


class Runs:
    """A pickle of this asks for a call on being read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kept", ["pickle", "npy", "npz", "torch"])
def test_no_pickle_runs_code(tmp_path: Path, kept: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "clip.pkl"
    value = {"fps": 50, "dof_pos": Runs(mark)}
    if kept == "pickle":
        pickled(path, value)
    elif kept == "torch":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("clip/data.pkl", pickle.dumps(value, 2))
    else:
        stream = io.BytesIO()
        np.save(stream, np.array(value, dtype=object), allow_pickle=True)
        path.write_bytes(stream.getvalue())
        if kept == "npz":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("motion.npy", stream.getvalue())
    with pytest.raises(InputError, match=r"asks for \w+\.mkdir, and only plain arrays"):
        read_motion(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(value))
    assert mark.exists(), "the pickle is harmless, so the test shows nothing"


def test_a_class_of_its_own_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clip\.pkl: the Python pickle asks for pathlib\.\w+"):
        read_motion(pickled(tmp_path / "clip.pkl", {"fps": 50, "where": Path("a")}))


@pytest.mark.parametrize("form", ["pickle", "npz", "npy"])
def test_damage_anywhere_is_one_sentence(tmp_path: Path, turning: Motion, form: str) -> None:
    path = tmp_path / f"clip.{form}"
    short = Motion(turning.qpos[:20], 50.0, "short")
    if form == "pickle":
        pickled(path, gmr(short, list(range(29))))
    elif form == "npz":
        npz(path, **tracked(short))
    else:
        np.save(path, np.array(gmr(short, list(range(29))), dtype=object), allow_pickle=True)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(150):
        data = bytearray(whole)
        if trial % 2:
            del data[int(rng.integers(len(whole))) :]
        else:
            for place in rng.integers(0, min(len(whole), 2000), 4):
                data[place] = int(rng.integers(256))
        path.write_bytes(data)
        reason = inspect(path, quaternion="xyzw" if form != "npz" else "wxyz")["reason"]
        if reason is not None:
            refused += 1
            assert reason.startswith(str(path))
            assert "\n" not in reason
    assert refused > 70


def test_a_table_of_lerobot_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    path = tmp_path / "file-000.parquet"
    parquet.write_table(pa.table({"observation.state": [[0.0] * 29]}), path)
    with pytest.raises(InputError, match=r"a Parquet table, as LeRobot keeps its episodes.*36 columns"):
        read_motion(path)


def test_a_pickle_of_the_first_protocols_is_read_as_one_and_never_run(tmp_path: Path, turning: Motion) -> None:
    for protocol in (0, 1):
        path = pickled(tmp_path / f"clip{protocol}.pkl", gmr(turning, list(range(29))), protocol)
        np.testing.assert_allclose(read_motion(path).qpos, turning.qpos, atol=1e-9)
        path = pickled(tmp_path / f"runs{protocol}.pkl", {"fps": 50, "dof_pos": Runs(tmp_path / "ran")}, protocol)
        with pytest.raises(InputError, match=r"the Python pickle asks for \w+\.mkdir"):
            read_motion(path)
    assert not (tmp_path / "ran").exists()
