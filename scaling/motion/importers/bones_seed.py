"""BONES-SEED's G1 CSV: a header, the root in centimetres and Euler degrees, `<joint>_dof` in degrees, 120 Hz."""

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.importers import evidence
from scaling.motion.importers.content import Content
from scaling.motion.importers.joint_order import order_by_name
from scaling.motion.importers.record import Given, Record, timing
from scaling.motion.naming import Rate
from scaling.robot.rotations import from_rotation_vector, quat_mul

NAME = "bones-seed"
_RATE = Rate(120.0, "the file does not hold its rate; its collection is recorded at 120 Hz", True)
_PLACE = tuple(f"root_translate{axis}" for axis in "XYZ")
_TURN = tuple(f"root_rotate{axis}" for axis in "XYZ")


def _header(text: str) -> list[str]:
    lines = text.lstrip().splitlines()
    return [cell.strip().strip('"') for cell in lines[0].split(",")] if lines else []


def claims(content: Content) -> bool:
    """Text whose first line names the root's translation and rotation."""
    return content.container == "text" and {*_PLACE, *_TURN} <= set(_header(content.value[:8192]))


def euler_xyz(angles: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 4"]:
    """wxyz of turns (rad) about the world's x, then y, then z."""
    turns = [from_rotation_vector(angles[:, axis, None] * np.eye(3)[axis]) for axis in range(3)]
    return quat_mul(quat_mul(turns[2], turns[1]), turns[0])


def read(content: Content, given: Given) -> list[Record]:
    """The one clip of a file."""
    where = str(content)
    header = _header(content.value[:8192])
    lines = content.value.lstrip().splitlines()[1:]
    try:
        rows = np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(
            f"{where}: a line under the header is cut short or holds no number ({error}); fetch it again."
        ) from None
    if rows.shape[1] != len(header):
        raise InputError(f"{where}: {rows.shape[1]} columns under {len(header)} names; fetch the file again.")
    names = [name.removesuffix("_dof") for name in header if name.endswith("_dof")]
    order, strangers = order_by_name(names, where)
    joints = np.deg2rad(rows[:, [header.index(f"{name}_dof") for name in names]])
    root = 0.01 * rows[:, [header.index(name) for name in _PLACE]]
    quat = euler_xyz(np.deg2rad(rows[:, [header.index(name) for name in _TURN]]))
    rate = timing(content, given, documented=_RATE)
    qpos = np.concatenate([root, quat, order.lift(joints)], axis=1)
    seen = (
        rate.evidence,
        "columns root_translate (cm), root_rotate (degrees about fixed x, y, z), <joint>_dof (degrees)",
        str(evidence.weigh(qpos, rate.hz)) if len(qpos) > 1 else "one frame",
    )
    notes = (*rate.notes, *order.notes())
    if strangers:
        notes = (*notes, f"{len(strangers)} joints that a G1 does not have were left out ({strangers[0]}, ...)")
    return [Record(qpos, rate.hz, "euler xyz", order.name, seen, notes, joints=len(order.places))]
