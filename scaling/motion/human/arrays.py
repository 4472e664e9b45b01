"""People in bare arrays of documented width: SMPL-X in 322 columns (Motion-X++) and 272 (MotionMillion).

Both are read by what their authors publish; no sample was at hand to prove it, and every clip says so.
"""

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.human.keypoints import Keypoints, from_joints
from scaling.motion.human.smpl import JOINTS

RATE_HZ = 30.0  # of both, documented and not in the file
SMPLX_WIDTH, HEADED_WIDTH = 322, 272
UNPROVED = "read by its published layout, of which no sample was at hand: look at the clip with `scaling view` first"
_OWN = "the joints of the file itself"


def smplx_columns(rows: Float[np.ndarray, "T 322"]) -> dict[str, np.ndarray]:
    """`poses`, `trans` and `betas` of Motion-X: root 3, body 63, hands 90, jaw 3, face 150, trans 3, betas 10."""
    return {"poses": rows[:, :66], "trans": rows[:, 309:312], "betas": rows[0, 312:322]}


def read_headed(rows: Float[np.ndarray, "T 272"], rate_hz: float, where: str) -> Keypoints:
    """Key points of MotionMillion's 272 columns, y up, every joint as seen from the root's place and heading.

    Two columns are the root's step on the floor (m a frame), six the turn of the heading since the frame before (the
    first two rows of a matrix, end to end; of the first frame the heading itself), then 22 places, 22 velocities and 22
    rotations, of which places alone are needed. `InputError` for turns that are none.
    """
    turns = np.stack([_matrix(row) for row in rows[:, 2:8]])
    if not np.isfinite(turns).all():
        raise InputError(f"{where}: the heading's turns in columns 3-8 are no rotations; check the file.")
    back = np.empty_like(turns)  # from the heading to the world
    total = np.eye(3)
    for frame, turn in enumerate(turns):
        total = turn @ total
        back[frame] = total.T
    steps = np.zeros((len(rows), 3))
    steps[:, [0, 2]] = rows[:, :2]
    steps[1:] = np.einsum("tij,tj->ti", back[:-1], steps[1:])
    local = rows[:, 8 : 8 + 3 * len(JOINTS)].reshape(len(rows), len(JOINTS), 3)
    places = np.einsum("tij,tkj->tki", back, local) + np.cumsum(steps, axis=0)[:, None]
    return from_joints(JOINTS, places, rate_hz, _OWN, where)


def _matrix(six: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """The rotation whose first two rows these are, made orthogonal; NaN where they are not two directions."""
    first, second = six[:3], six[3:]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = first / np.linalg.norm(first)
        y = second - (x @ second) * x
        y = y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)])
