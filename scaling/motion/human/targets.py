"""Where the G1's links should be, from a person's key points: bones in the person's directions at the G1's lengths."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.interpolate import PchipInterpolator

from scaling.motion.human.keypoints import Keypoints
from scaling.robot.g1 import BODY_INDEX
from scaling.robot.kinematics import forward_kinematics, soles

SIDES = ("left", "right")
_REACH = 0.97  # of the leg: a straight knee has no way to give
_CONTACT_RISE = 0.04  # m at the G1's size: how far above its lowest a foot still bears
_FOOT_PITCH = (-0.4, 0.6)  # rad, toes up and down
_FOOT_YAW = 0.6  # rad, turned in or out
_CONTACT_SPEED = 0.35  # m/s at the G1's size


def _zero_pose() -> tuple[np.ndarray, float]:
    """Body positions with all joints at 0 and the pelvis at the origin, and the soles' height below the ankle."""
    qpos = np.zeros(36)
    qpos[3] = 1.0
    places = forward_kinematics(qpos)[0]
    return places, float(places[BODY_INDEX["left_ankle_roll_link"], 2] - soles(qpos)[0, :, 2].min())


_ZERO, ANKLE_HEIGHT = _zero_pose()


def _at(name: str) -> Float[np.ndarray, "3"]:
    return _ZERO[BODY_INDEX[name]]


def _length(first: str, second: str) -> float:
    return float(np.linalg.norm(_at(first) - _at(second)))


_THIGH = _length("left_hip_roll_link", "left_knee_link")
_SHANK = _length("left_knee_link", "left_ankle_roll_link")
_UPPER_ARM = _length("left_shoulder_roll_link", "left_elbow_link")
_FOREARM = _length("left_elbow_link", "left_wrist_yaw_link")
# Of the pelvis: the middle of the hips; of the torso: each shoulder.
_MID_HIP = 0.5 * (_at("left_hip_roll_link") + _at("right_hip_roll_link"))
_SHOULDER = {side: _at(f"{side}_shoulder_roll_link") - _at("torso_link") for side in SIDES}


@dataclass(frozen=True)
class Targets:
    """Link name -> position [T, 3] (m) and, for pelvis, torso and feet, rotation matrix [T, 3, 3]; `bearing` [T, 2]."""

    positions: dict[str, Float[np.ndarray, "T 3"]]
    rotations: dict[str, Float[np.ndarray, "T 3 3"]]
    bearing: Bool[np.ndarray, "T 2"]
    scale: float


def _unit(vector: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    return vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-9)


def _frame(left: Float[np.ndarray, "T 3"], up: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3 3"]:
    """Rotation matrices whose y axis is `left` and whose z axis is as near `up` as that allows."""
    y = _unit(left)
    x = _unit(np.cross(y, up))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def build_targets(people: Keypoints) -> Targets:
    """Targets at the key points' own rate; the floor is where the feet are at their lowest, and bearing feet stay."""
    points = people.points
    bones = [("hip", "knee"), ("knee", "ankle")]
    leg = np.mean(
        [sum(np.linalg.norm(points[f"{side}_{a}"] - points[f"{side}_{b}"], axis=1).mean() for a, b in bones)
         for side in SIDES]
    )  # fmt: skip
    scale = _REACH * (_THIGH + _SHANK) / float(leg)
    mid = 0.5 * (points["left_hip"] + points["right_hip"])
    trunk = points["neck"] - mid
    positions: dict[str, np.ndarray] = {}
    rotations = {
        "pelvis": _frame(points["left_hip"] - points["right_hip"], trunk),
        "torso_link": _frame(points["left_shoulder"] - points["right_shoulder"], trunk),
    }
    low = np.array([np.percentile(points[f"{side}_ankle"][:, 2], 5) for side in SIDES])
    bearing = np.zeros((people.frames, 2), bool)
    for index, side in enumerate(SIDES):
        ankle, toe = points[f"{side}_ankle"], points[f"{side}_toe"]
        place = scale * (ankle - [0.0, 0.0, low[index]]) + [0.0, 0.0, ANKLE_HEIGHT]
        place[:, 2] = np.maximum(place[:, 2], ANKLE_HEIGHT)
        speed = np.linalg.norm(np.gradient(scale * ankle, axis=0), axis=1) * people.rate_hz
        bearing[:, index] = (place[:, 2] < ANKLE_HEIGHT + _CONTACT_RISE) & (speed < _CONTACT_SPEED)
        positions[f"{side}_ankle_roll_link"] = _planted(place, bearing[:, index])
        rotations[f"{side}_ankle_roll_link"] = _foot(toe - ankle, rotations["pelvis"][:, :, 0], bearing[:, index])
    root = scale * (mid - [0.0, 0.0, low.mean()]) + [0.0, 0.0, ANKLE_HEIGHT]
    positions["pelvis"] = root - rotations["pelvis"] @ _MID_HIP
    chest = positions["pelvis"] + rotations["pelvis"] @ _at("torso_link")
    for side in SIDES:
        hip = positions["pelvis"] + rotations["pelvis"] @ _at(f"{side}_hip_roll_link")
        thigh = _unit(points[f"{side}_knee"] - points[f"{side}_hip"])
        positions[f"{side}_knee_link"] = hip + _THIGH * thigh
        shoulder = chest + rotations["torso_link"] @ _SHOULDER[side]
        upper = _unit(points[f"{side}_elbow"] - points[f"{side}_shoulder"])
        fore = _unit(points[f"{side}_wrist"] - points[f"{side}_elbow"])
        positions[f"{side}_elbow_link"] = shoulder + _UPPER_ARM * upper
        positions[f"{side}_wrist_yaw_link"] = positions[f"{side}_elbow_link"] + _FOREARM * fore
    return Targets(positions, rotations, bearing, scale)


def _planted(place: Float[np.ndarray, "T 3"], bearing: Bool[np.ndarray, "T"]) -> Float[np.ndarray, "T 3"]:
    """The ankle's path with each bearing stretch on one spot of the floor; in between, the shift passes evenly."""
    frames = np.flatnonzero(bearing)
    if not len(frames):
        return place
    shift = np.zeros((len(frames), 3))
    for stretch in np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) > 1) + 1):
        on_floor = place[frames[stretch]]
        spot = np.append(on_floor[:, :2].mean(axis=0), ANKLE_HEIGHT)
        shift[stretch] = spot - on_floor
    inside = np.clip(np.arange(len(place)), frames[0], frames[-1])
    return place + (PchipInterpolator(frames, shift)(inside) if len(frames) > 1 else shift)


def _foot(
    toes: Float[np.ndarray, "T 3"], forward: Float[np.ndarray, "T 3"], bearing: Bool[np.ndarray, "T"]
) -> Float[np.ndarray, "T 3 3"]:
    """Rotation of a foot from the line to its toes: level where it bears, no roll, and no farther than an ankle goes.

    The heading is the pelvis's, turned out or in by the toes: a foot that points down has no heading of its own.
    """
    level_x = _unit(forward * [1.0, 1.0, 0.0])
    ahead = (toes * level_x).sum(axis=1)
    aside = level_x[:, 0] * toes[:, 1] - level_x[:, 1] * toes[:, 0]
    slope = np.arctan2(-toes[:, 2], ahead)
    rest = np.median(slope[bearing]) if bearing.any() else np.median(slope)
    pitch = np.where(bearing, 0.0, np.clip(slope - rest, *_FOOT_PITCH))
    pitch = np.convolve(np.pad(pitch, 2, mode="edge"), [0.1, 0.2, 0.4, 0.2, 0.1], mode="valid")
    out = np.arcsin(np.clip(aside / np.linalg.norm(toes, axis=1), -_FOOT_YAW, _FOOT_YAW))
    yaw = np.arctan2(level_x[:, 1], level_x[:, 0]) + out
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    turn = np.stack([np.cos(yaw), -np.sin(yaw), zero, np.sin(yaw), np.cos(yaw), zero, zero, zero, one], axis=1)
    tilt = np.stack([np.cos(pitch), zero, np.sin(pitch), zero, one, zero, -np.sin(pitch), zero, np.cos(pitch)], axis=1)
    return turn.reshape(-1, 3, 3) @ tilt.reshape(-1, 3, 3)
