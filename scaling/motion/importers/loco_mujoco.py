"""LocoMuJoCo trajectories: the new npz (`qpos` with joint names, several clips in one) and the old one by columns."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.importers import evidence
from scaling.motion.importers.content import Content
from scaling.motion.importers.joint_order import order_by_name
from scaling.motion.importers.record import Given, Record, number, table, texts, timing
from scaling.robot.rotations import from_rotation_vector, quat_mul

NAME, OLD_NAME = "loco-mujoco", "loco-mujoco old"
_NEW = frozenset({"qpos", "joint_names", "frequency", "split_points"})
_ROOT = ("pelvis_tx", "pelvis_tz", "pelvis_ty", "pelvis_tilt", "pelvis_list", "pelvis_rotation")
# The old G1's links stand turned in their parents where today's stand straight: angle that today's joint reads more.
_PITCH = 2.0 * np.arctan2(0.0873386, 0.996179)
_OFFSETS = {
    "hip_pitch": _PITCH - 2.0 * np.arctan2(0.17365, 0.984807),
    "knee": 2.0 * np.arctan2(0.252052, 0.967714) - _PITCH,
    "ankle_pitch": -2.0 * np.arctan2(0.0801788, 0.99678),
}
_HEIGHT_M = 0.755 + 0.030465  # pelvis at zero, and the hips that today hang lower under it
_COMMON_HZ = (30.0, 50.0, 60.0, 100.0, 120.0, 200.0, 240.0, 250.0, 500.0, 1000.0)


def claims(content: Content) -> bool:
    """The new trajectory file."""
    return content.keys >= _NEW


def claims_old(content: Content) -> bool:
    """The old data set: a column for each coordinate of the root."""
    return {f"q_{name}" for name in _ROOT} <= content.keys


def read(content: Content, given: Given) -> list[Record]:
    """Every trajectory between two split points, labelled by its number where there are several."""
    where, values = str(content), content.value
    qpos = table(values["qpos"], "qpos", None, where)
    names = texts(values["joint_names"])
    if len(names) == qpos.shape[1] - 6:  # the free joint is named as well
        names = names[1:]
    if len(names) != qpos.shape[1] - 7:
        raise InputError(f"{where}: {len(names)} joint names for {qpos.shape[1]} columns of qpos; write it again.")
    order, strangers = order_by_name(names, where)
    rate = timing(content, given, (number(values["frequency"], "frequency", where), "frequency in the file"))
    edges = np.asarray(values["split_points"]).ravel().astype(int)
    if len(edges) < 2 or edges[0] < 0 or edges[-1] > len(qpos) or (np.diff(edges) <= 0).any():
        raise InputError(f"{where}: split_points {edges.tolist()[:4]} do not cut {len(qpos)} frames; write it again.")
    notes = (*rate.notes, *order.unheeded(given.joint_order, "the joints' names say"), *order.notes())
    if strangers:
        notes = (*notes, f"{len(strangers)} joints that a G1 does not have were left out ({strangers[0]}, ...)")
    found = []
    for index, (start, end) in enumerate(pairwise(edges)):
        part = qpos[start:end]
        rows = np.concatenate([part[:, :7], order.lift(part[:, 7:])], axis=1)
        convention, told, remarks = evidence.convention_of(rows, rate.hz, "wxyz", given.quaternion, where)
        seen = (rate.evidence, "joint_names names the joints", told)
        label = f"{index:03d}" if len(edges) > 2 else ""
        rows = evidence.reorder(rows, convention)
        found.append(Record(rows, rate.hz, convention, order.name, seen, (*notes, *remarks), label, len(order.places)))
    return found


def read_old(content: Content, given: Given) -> list[Record]:
    """The one clip of an old file: its 23 joints by name, turned to today's zero, and the root from its angles."""
    where = str(content)
    columns = {key[2:]: table(value, key, None, where, 1) for key, value in content.value.items() if key[:2] == "q_"}
    if len({len(column) for column in columns.values()}) != 1:
        raise InputError(f"{where}: its columns differ in length; write the file again.")
    named = [name for name in columns if name.endswith("_joint")]
    strangers = [name for name in columns if name not in named and name not in _ROOT]
    order, others = order_by_name(named, where)
    joints = np.stack([columns[name] + _offset(name) for name in named], axis=1)
    x, y, z, tilt, lean, turn = (columns[name] for name in _ROOT)
    root = np.stack([x, y, z + _HEIGHT_M], axis=1)
    quat = quat_mul(quat_mul(_about(1, -tilt), _about(0, lean)), _about(2, turn))
    rate = timing(content, given, _rate(content, columns))
    qpos = np.concatenate([root, quat, order.lift(joints)], axis=1)
    notes = (
        *rate.notes,
        "the old G1's hip, knee and ankle were turned to today's zero and its root raised by 3.0 cm for the longer leg",
        *order.notes(),
    )
    if strangers or others:
        notes = (*notes, f"columns of no joint were left out ({', '.join([*strangers, *others])})")
    seen = (rate.evidence, "column names tell the joints", str(evidence.weigh(qpos, rate.hz)))
    return [Record(qpos, rate.hz, "euler", order.name, seen, notes, joints=len(order.places))]


def _offset(name: str) -> float:
    return next((angle for part, angle in _OFFSETS.items() if part in name), 0.0)


def _about(axis: int, angle: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T 4"]:
    """wxyz of turns (rad) about one axis."""
    return from_rotation_vector(angle[:, None] * np.eye(3)[axis])


def _rate(content: Content, columns: dict[str, np.ndarray]) -> tuple[float, str] | None:
    """The usual rate nearest to what positions and velocities of the file say together."""
    speeds = {name: content.value[f"dq_{name}"][1:] for name in columns if f"dq_{name}" in content.keys}
    pairs = [(np.diff(columns[name]), speed) for name, speed in speeds.items()]
    moved = sum(float((step * step).sum()) for step, _ in pairs)
    if moved <= 0.0:
        return None
    measured = sum(float((step * speed).sum()) for step, speed in pairs) / moved
    nearest = min(_COMMON_HZ, key=lambda hz: abs(np.log(hz / max(measured, 1e-9))))
    if abs(nearest / measured - 1.0) > 0.1:
        return None
    return nearest, f"velocities over steps give {measured:.0f} Hz, taken as {nearest:g} Hz"
