"""SMPL poses (as AMASS ships them) to joint positions on a documented mean skeleton: the body model is licensed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.motion.human.body_model import body_offsets
from scaling.motion.human.keypoints import Keypoints, from_joints
from scaling.motion.importers.record import table
from scaling.robot.rotations import from_rotation_vector, quat_mul, rotate

MEAN = "a mean adult skeleton rounded to the centimetre, because the body model is licensed"
# Joint: parent, offset (m: left, up, forward) of an adult of 1.7 m.
_TREE: tuple[tuple[str, int, tuple[float, float, float]], ...] = (
    ("pelvis", -1, (0.0, 0.0, 0.0)),
    ("lefthip", 0, (0.06, -0.09, -0.01)),
    ("righthip", 0, (-0.06, -0.09, -0.01)),
    ("spine1", 0, (0.0, 0.12, -0.03)),
    ("leftknee", 1, (0.04, -0.38, 0.0)),
    ("rightknee", 2, (-0.04, -0.38, 0.0)),
    ("spine2", 3, (0.0, 0.14, 0.0)),
    ("leftankle", 4, (-0.01, -0.40, -0.04)),
    ("rightankle", 5, (0.01, -0.40, -0.04)),
    ("spine3", 6, (0.0, 0.05, 0.03)),
    ("lefttoe", 7, (0.03, -0.06, 0.12)),
    ("righttoe", 8, (-0.03, -0.06, 0.12)),
    ("neck", 9, (0.0, 0.21, -0.03)),
    ("leftcollar", 9, (0.08, 0.12, -0.02)),
    ("rightcollar", 9, (-0.08, 0.12, -0.02)),
    ("head", 12, (0.0, 0.07, 0.05)),
    ("leftshoulder", 13, (0.09, 0.03, -0.01)),
    ("rightshoulder", 14, (-0.09, 0.03, -0.01)),
    ("leftelbow", 16, (0.26, -0.01, -0.03)),
    ("rightelbow", 17, (-0.26, -0.01, -0.03)),
    ("leftwrist", 18, (0.25, 0.01, 0.0)),
    ("rightwrist", 19, (-0.25, 0.01, 0.0)),
)


JOINTS = tuple(name for name, _, _ in _TREE)


def read_smpl(values: Mapping[str, Any], rate_hz: float, where: str, model: Path | None = None) -> Keypoints:
    """The key points of `poses` [T, 66 or more] (axis times angle a joint, rad) and `trans` [T, 3] (m).

    With a body `model`, its offsets in the shape of the file's `betas`.
    """
    trans = table(values["trans"], "trans", 3, where)
    poses = table(values["poses"], "poses", None, where)
    if poses.shape[1] < 66 or len(poses) != len(trans):
        raise InputError(f"{where}: poses of shape {list(poses.shape)} for {len(trans)} frames; 66 columns are needed.")
    turns = from_rotation_vector(poses[:, :66].reshape(len(poses), 22, 3))
    places = np.zeros((len(poses), len(_TREE), 3))
    quats = np.zeros((len(poses), len(_TREE), 4))
    offsets, skeleton = np.array([offset for _, _, offset in _TREE]), MEAN
    if model is not None:
        betas = np.asarray(values.get("betas", np.zeros(0)), np.float64).reshape(-1)
        offsets = body_offsets(model, betas, [parent for _, parent, _ in _TREE])
        skeleton = f"the body model {model.name} in the clip's own shape ({len(betas)} betas)"
    for index, (_, parent, _) in enumerate(_TREE):
        offset = offsets[index]
        if parent < 0:
            places[:, index], quats[:, index] = trans + offset, turns[:, index]
            continue
        places[:, index] = places[:, parent] + rotate(quats[:, parent], np.tile(offset, (len(poses), 1)))
        quats[:, index] = quat_mul(quats[:, parent], turns[:, index])
    return from_joints(JOINTS, places, rate_hz, skeleton, where)
