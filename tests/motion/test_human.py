"""Human motion: skeleton files give key points, and the G1 follows key points that its own body could have made."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.clip import Motion, velocities
from scaling.motion.human import arrays
from scaling.motion.human.bvh import read_bvh
from scaling.motion.human.keypoints import NAMES, Keypoints
from scaling.motion.human.smpl import read_smpl
from scaling.motion.importers.content import open_content
from scaling.motion.importers.registry import choose
from scaling.motion.read import inspect, read_file, read_motion
from scaling.motion.synthetic import generate
from scaling.robot.g1 import BODY_INDEX, RANGE_HIGH, RANGE_LOW, VELOCITY_LIMIT
from scaling.robot.kinematics import forward_kinematics
from scaling.robot.rotations import rotate

LINKS = {
    "hip": "hip_roll_link",
    "knee": "knee_link",
    "ankle": "ankle_roll_link",
    "shoulder": "shoulder_roll_link",
    "elbow": "elbow_link",
    "wrist": "wrist_yaw_link",
}


def person_of(motion: Motion, size: float = 1.0) -> Keypoints:
    """Key points of somebody whose bones are the G1's, `size` times as large."""
    places, quats = forward_kinematics(motion.qpos)
    points = {
        f"{side}_{limb}": size * places[:, BODY_INDEX[f"{side}_{link}"]]
        for side in ("left", "right")
        for limb, link in LINKS.items()
    }
    for side in ("left", "right"):
        ahead = np.tile([0.12, 0.0, -0.02], (motion.frames, 1))
        points[f"{side}_toe"] = points[f"{side}_ankle"] + size * rotate(
            quats[:, BODY_INDEX[f"{side}_ankle_roll_link"]], ahead
        )
    above = np.tile([0.0, 0.0, 0.3], (motion.frames, 1))
    torso = BODY_INDEX["torso_link"]
    points["neck"] = size * (places[:, torso] + rotate(quats[:, torso], above))
    return Keypoints(points, motion.rate_hz, "a person made of a G1")


def needs_mink() -> None:
    """Skip without the package; it is looked for and not imported, because importing it warns."""
    if importlib.util.find_spec("mink") is None:
        pytest.skip("mink is absent")


@pytest.mark.parametrize("family", ["squat", "turn", "reach"])
def test_the_robot_follows_a_person_of_its_own_shape_and_of_any_size(family: str) -> None:
    needs_mink()
    from scaling.motion.human.retarget import retarget

    motion = generate(family, 4.0, 1)
    found = retarget(person_of(motion, 40.0), "person")
    assert found.settled
    assert found.keypoint_error_m < 0.02
    assert found.foot_slide_m_s < 0.05
    assert found.penetration_max_m < 0.03
    joints = found.qpos[:, 7:]
    assert (joints >= RANGE_LOW - 1e-9).all()
    assert (joints <= RANGE_HIGH + 1e-9).all()
    speeds = np.abs(velocities(found.qpos, found.rate_hz)[:, 6:])
    assert (speeds <= VELOCITY_LIMIT).all()
    assert speeds[0].max() < 3.0, "the first frame was not solved to its end"
    places, ours = forward_kinematics(motion.qpos)[0], forward_kinematics(found.qpos)[0]
    wrists = [BODY_INDEX["left_wrist_yaw_link"], BODY_INDEX["right_wrist_yaw_link"]]
    count = min(len(places), len(ours))
    path, follows = (one[:count, wrists] - one[:count, :1] for one in (places, ours))
    assert np.linalg.norm(path - follows, axis=-1).mean() < 0.05


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT LeftHip { OFFSET 10 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT LeftKnee { OFFSET 0 -40 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT LeftAnkle { OFFSET 0 -40 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET 0 -5 15 } } } }
  JOINT RightHip { OFFSET -10 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT RightKnee { OFFSET 0 -40 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT RightAnkle { OFFSET 0 -40 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET 0 -5 15 } } } }
  JOINT Neck { OFFSET 0 50 0 CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT LeftShoulder { OFFSET 15 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT LeftElbow { OFFSET 25 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
        JOINT LeftWrist { OFFSET 25 0 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET 5 0 0 } } } }
    JOINT RightShoulder { OFFSET -15 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT RightElbow { OFFSET -25 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
        JOINT RightWrist { OFFSET -25 0 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET -5 0 0 } } } } }
}
MOTION
Frames: 2
Frame Time: 0.025
"""


def bvh_text(turns: dict[int, float]) -> str:
    """Two frames of somebody 90 cm above the ground, with some channels (by number) turned (degrees)."""
    row = np.zeros(6 + 13 * 3)
    row[1] = 90.0
    for channel, degrees in turns.items():
        row[channel] = degrees
    line = " ".join(f"{value:g}" for value in row)
    return BVH + f"{line}\n{line}\n"


def test_bvh_positions_follow_offsets_and_channels() -> None:
    people = read_bvh(bvh_text({}), "a.bvh")
    assert people.rate_hz == pytest.approx(40.0)
    assert set(people.points) == set(NAMES)
    # x forward, y left, z up, whatever the file's axes.
    np.testing.assert_allclose(people.points["left_ankle"][0], [0, 10, 10])
    np.testing.assert_allclose(people.points["left_toe"][0], [15, 10, 5])
    np.testing.assert_allclose(people.points["right_wrist"][0], [0, -65, 140])
    # Channels 6-8 are the left hip's: about its x axis, the leg swings backwards by a right angle.
    swung = read_bvh(bvh_text({7: 90.0}), "a.bvh")
    np.testing.assert_allclose(swung.points["left_ankle"][0], [-80, 10, 90], atol=1e-9)
    # The root turned about the vertical turns everything.
    turned = read_bvh(bvh_text({5: 90.0}), "a.bvh")
    np.testing.assert_allclose(turned.points["left_ankle"][0], [-10, 0, 10], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text[:-60], "cut short or damaged|BVH header says"),
        (lambda text: text.replace("Frames: 2", "Frames: 3"), "the BVH header says 3 of 45"),
        (lambda text: text.replace("LeftKnee", "Knie"), "no joint is the left knee"),
        (lambda text: text.replace("Frame Time: 0.025", "Frame Time: 0"), "every 0 s"),
        (lambda text: text.split("MOTION")[0], "cut short or damaged"),
    ],
)
def test_damaged_bvh_is_one_sentence(tmp_path: Path, change, expected: str) -> None:
    path = tmp_path / "clip.bvh"
    path.write_text(change(bvh_text({})))
    with pytest.raises(InputError, match=expected) as caught:
        read_motion(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


# Made up: the names, tree and channels of Ubisoft's LAFAN1 skeleton (cm, y up, 30 Hz) with round offsets.
_SPINE = (("Spine", 10), ("Spine1", 12), ("Spine2", 12))


def lafan_text() -> str:
    """Two frames of the LAFAN1 skeleton at rest, 90 cm above the ground."""
    turns = "CHANNELS 3 Zrotation Yrotation Xrotation"

    def joint(name: str, offset: str, *below: str) -> str:
        return f"JOINT {name} {{ OFFSET {offset} {turns} {' '.join(below)} }}\n"

    def end(offset: str) -> str:
        return f"End Site {{ OFFSET {offset} }}"

    def leg(side: str, out: int) -> str:
        toe = joint(f"{side}Toe", "0 -6 14", end("0 0 5"))
        foot = joint(f"{side}Foot", "0 -40 0", toe)
        return joint(f"{side}UpLeg", f"{out} 0 0", joint(f"{side}Leg", "0 -42 0", foot))

    def arm(side: str, way: int) -> str:
        hand = joint(f"{side}Hand", f"{24 * way} 0 0", end(f"{8 * way} 0 0"))
        upper = joint(f"{side}Arm", f"{11 * way} 0 0", joint(f"{side}ForeArm", f"{28 * way} 0 0", hand))
        return joint(f"{side}Shoulder", f"{5 * way} 20 0", upper)

    chest = [joint("Neck", "0 25 0", joint("Head", "0 10 0", end("0 12 0"))), arm("Left", 1), arm("Right", -1)]
    trunk = " ".join(chest)
    for name, up in reversed(_SPINE):
        trunk = joint(name, f"0 {up} 0", trunk)
    root = "CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"
    head = f"HIERARCHY\nROOT Hips {{ OFFSET 0 0 0 {root} {leg('Left', 10)} {leg('Right', -10)} {trunk} }}\n"
    line = " ".join(["0", "90", *["0"] * (head.count("CHANNELS 3") * 3 + 4)])
    return f"{head}MOTION\nFrames: 2\nFrame Time: 0.033333\n{line}\n{line}\n"


def test_the_names_of_the_lafan1_skeleton_are_known() -> None:
    people = read_bvh(lafan_text(), "walk1_subject1.bvh")
    assert people.rate_hz == pytest.approx(30.0, abs=1e-3)
    expected = {"left_knee": [0, 10, 48], "left_ankle": [0, 10, 8], "left_toe": [14, 10, 2], "neck": [0, 0, 149]}
    expected |= {"left_shoulder": [0, 16, 144], "right_elbow": [0, -44, 144], "right_wrist": [0, -68, 144]}
    for name, place in expected.items():
        np.testing.assert_allclose(people.points[name][0], place, atol=1e-9)


def test_smpl_at_rest_stands_on_the_documented_skeleton() -> None:
    still = {"poses": np.zeros((3, 72)), "trans": np.zeros((3, 3))}
    people = read_smpl(still, 30.0, "a.npz")
    assert "licensed" in people.skeleton
    height = people.points["neck"][0, 2] - people.points["left_ankle"][0, 2]
    assert 1.2 < height < 1.45
    assert people.points["left_wrist"][0, 1] > 0.4 > -0.4 > people.points["right_wrist"][0, 1]
    with pytest.raises(InputError, match="66 columns are needed"):
        read_smpl({**still, "poses": np.zeros((3, 10))}, 30.0, "a.npz")


def test_amc_without_its_skeleton_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "11_01.amc"
    path.write_text("#!OML:ASF\n:FULLY-SPECIFIED\n:DEGREES\n1\nroot 0 0 0 0 0 0\n")
    with pytest.raises(InputError, match=r"11_01\.amc: 0 ASF skeletons beside it"):
        read_motion(path)


# Largest mean error of key points (m) and slide of bearing feet (m/s) of each clip.
CLIPS = {
    "human_bvh/01_01.bvh": (0.015, 0.06),
    "human_bvh/dataset-1_kick_normal_001.bvh": (0.025, 0.08),
    "human_bvh/dataset-1_walk_normal_001.bvh": (0.015, 0.05),
    "human_bvh/dataset-2_run_active_001.bvh": (0.06, 0.15),
    "human_bvh/test_mocapbank.bvh": (0.045, 0.05),
    "human_amc/11_01.amc": (0.015, 0.08),
    "human_smpl_npz/video_CR7_level1_filter_amass.npz": (0.025, 0.05),
}


@pytest.mark.parametrize("file", CLIPS)
def test_real_people_are_followed(shared: Path, file: str) -> None:
    needs_mink()
    found = inspect(shared / "motions" / "formats" / file)
    assert found["ok"], found["reason"]
    error, slide = CLIPS[file]
    told = found["retarget"]
    assert told["settled"] is True
    assert 0.0 < told["keypoint_error_m"] <= error
    assert 0.0 < told["foot_slide_m_s"] <= slide
    assert 0.0 <= told["penetration_max_m"] < 0.06  # the deepest frame, of a kick
    assert 0.0 <= told["limit_share"] <= 1.0
    assert found["quality"]["limit_share"] == 0.0
    assert found["quality"]["joint_speed_worst"] <= 1.0
    assert abs(found["quality"]["float_median_m"]) < 0.02


def _wander(frames: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    poses = 0.02 * rng.standard_normal((frames, 66)).cumsum(axis=0)
    return {"poses": poses, "trans": 0.02 * rng.standard_normal((frames, 3)).cumsum(axis=0) + [0.0, 0.95, 0.0]}


def test_rows_of_smplx_are_the_poses_they_hold(tmp_path: Path) -> None:
    people = _wander()
    rows = np.random.default_rng(0).standard_normal((40, 322))
    rows[:, :66], rows[:, 309:312] = people["poses"], people["trans"]
    columns = arrays.smplx_columns(rows)
    ours, theirs = read_smpl(columns, 30.0, "a.npy"), read_smpl(people, 30.0, "a.npz")
    for name, point in theirs.points.items():
        np.testing.assert_array_equal(ours.points[name], point)


def test_rows_seen_from_the_heading_are_put_back_into_the_world() -> None:
    """A person who walks a bend, told as MotionMillion does: steps and places turned into each frame's own heading."""
    frames, rng = 60, np.random.default_rng(1)
    bend = np.linspace(0.4, 2.0, frames)
    facing = np.stack([[[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]] for a in bend])
    root = np.stack([np.cumsum(0.03 * np.sin(bend)), np.zeros(frames), np.cumsum(0.03 * np.cos(bend))], axis=1)
    root -= root[0]
    body = rng.standard_normal((22, 3)) * 0.1 + np.array([0.0, 1.0, 0.0])
    body[[7, 8, 10, 11], 1] = 0.05
    body[12, 1] = 1.5
    world = np.einsum("tij,kj->tki", facing, body) + root[:, None]
    inward = facing.transpose(0, 2, 1)
    turns = np.concatenate([inward[:1], inward[1:] @ facing[:-1]])
    steps = np.einsum("tij,tj->ti", inward[:-1], np.diff(root, axis=0))
    rows = np.zeros((frames, 272))
    rows[1:, :2] = steps[:, [0, 2]]
    rows[:, 2:8] = turns[:, :2].reshape(frames, 6)
    rows[:, 8:74] = np.tile(body.ravel(), (frames, 1))
    found = arrays.read_headed(rows, 30.0, "a.npy")
    np.testing.assert_allclose(found.points["neck"], world[:, 12][:, [2, 0, 1]], atol=1e-9)
    np.testing.assert_allclose(found.points["left_wrist"], world[:, 20][:, [2, 0, 1]], atol=1e-9)
    rows[5, 2:8] = 0.0
    with pytest.raises(InputError, match="no rotations"):
        arrays.read_headed(rows, 30.0, "a.npy")


def test_a_body_model_gives_its_own_offsets_and_the_output_says_so(tmp_path: Path) -> None:
    """A model whose joints are its vertices, and whose first shape makes it taller."""
    people = {**_wander(), "betas": np.array([2.0, 0.0])}
    template = np.random.default_rng(0).standard_normal((22, 3)) * 0.02
    template[:, 1] += np.linspace(0.0, 1.0, 22)
    shapes = np.zeros((22, 3, 3))
    shapes[:, 1, 0] = 0.1 * template[:, 1]
    model = tmp_path / "model.npz"
    np.savez(model, v_template=template, shapedirs=shapes, J_regressor=np.eye(22))
    still = {**people, "poses": np.zeros((40, 66)), "trans": np.zeros((40, 3))}
    found = read_smpl(still, 30.0, "a.npz", model)
    tall = template + np.array([0.0, 1.0, 0.0]) * 0.2 * template[:, 1:2]
    np.testing.assert_allclose(found.points["neck"][0], tall[12][[2, 0, 1]], atol=1e-12)
    assert "model.npz" in found.skeleton and "2 betas" in found.skeleton
    assert "mean adult skeleton" in read_smpl(people, 30.0, "a.npz").skeleton
    with pytest.raises(InputError, match="no such body model"):
        read_smpl(people, 30.0, "a.npz", tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", poses=np.zeros(3))
    with pytest.raises(InputError, match="not a body model"):
        read_smpl(people, 30.0, "a.npz", tmp_path / "other.npz")


def test_bare_arrays_of_people_are_claimed_by_their_width_and_say_that_they_are_unproved(tmp_path: Path) -> None:
    for width, name in ((322, "motion-x"), (272, "motionmillion")):
        np.save(tmp_path / "a.npy", np.zeros((10, width)))
        assert choose(open_content(tmp_path / "a.npy")).name == name
    pytest.importorskip("mink")
    rows = np.zeros((40, 322))
    rows[:, :66], rows[:, 309:312] = _wander()["poses"], _wander()["trans"]
    np.save(tmp_path / "a.npy", rows)
    (found,) = read_file(tmp_path / "a.npy")
    assert "no sample was at hand" in " ".join(found.motion.notes)
    assert "30 Hz was assumed" in " ".join(found.motion.notes)
