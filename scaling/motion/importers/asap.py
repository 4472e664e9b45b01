"""ASAP and PBHC joblib files: clips by name, 23 joints whose order the axes of `pose_aa` prove, quaternion xyzw."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.importers import evidence
from scaling.motion.importers.content import Content
from scaling.motion.importers.joint_order import JointOrder, orders_of
from scaling.motion.importers.record import Given, Record, number, table, timing
from scaling.robot.figures import JOINTS

NAME = "asap"
_NEEDS = frozenset({"root_trans_offset", "pose_aa", "dof", "root_rot"})
_AXIS = np.array([np.argmax(np.abs(joint.axis)) for joint in JOINTS])
_AGREES_RAD = 1e-3


def _is_clip(value: Any) -> bool:
    return isinstance(value, Mapping) and frozenset(map(str, value)) >= _NEEDS


def claims(content: Content) -> bool:
    """One clip, or a mapping of names to clips."""
    if _is_clip(content.value):
        return True
    return bool(content.keys) and all(_is_clip(value) for value in content.value.values())


def read(content: Content, given: Given) -> list[Record]:
    """Every clip of a file, labelled by its name where there are several."""
    if _is_clip(content.value):
        return [_clip(content.value, "", content, given)]
    several = len(content.value) > 1
    return [_clip(clip, name if several else "", content, given) for name, clip in content.value.items()]


def _clip(clip: Mapping[str, Any], label: str, content: Content, given: Given) -> Record:
    where = f"{content} ({label})" if label else str(content)
    root = table(clip["root_trans_offset"], "root_trans_offset", 3, where)
    quat = table(clip["root_rot"], "root_rot", 4, where)
    joints = table(clip["dof"], "dof", None, where)
    turns = table(clip["pose_aa"], "pose_aa", 3, where, 3)
    if not len(root) == len(quat) == len(joints) == len(turns):
        raise InputError(f"{where}: its arrays differ in their number of frames; write the file again.")
    own = (number(clip["fps"], "fps", where), "fps in the file") if "fps" in clip else None
    rate = timing(content, given, own)
    order, words = _order(joints, turns, orders_of(joints.shape[1], where), where)
    rows = np.concatenate([root, quat, order.lift(joints)], axis=1)
    convention, told, remarks = evidence.convention_of(rows, rate.hz, "xyzw", given.quaternion, where)
    remarks += order.unheeded(given.joint_order, "the axes of pose_aa say")
    notes = (*rate.notes, *remarks, *order.notes())
    qpos = evidence.reorder(rows, convention)
    seen = (rate.evidence, words, told)
    return Record(qpos, rate.hz, convention, order.name, seen, notes, label, joints.shape[1])


def _order(
    joints: Float[np.ndarray, "T n"], turns: Float[np.ndarray, "T m 3"], orders: tuple[JointOrder, ...], where: str
) -> tuple[JointOrder, str]:
    """The order in which each joint's angle lies on the axis that `pose_aa` has for it (body 0 is the root)."""
    count = joints.shape[1]
    if turns.shape[1] <= count:
        raise InputError(f"{where}: pose_aa has {turns.shape[1]} bodies for {count} joints; write the file again.")
    found = []
    for order in orders:
        axes = _AXIS[list(order.places)]
        found.append(float(np.abs(turns[:, np.arange(1, count + 1), axes] - joints).max()))
    best = int(np.argmin(found))
    if found[best] > _AGREES_RAD:
        raise InputError(
            f"{where}: in which order are its {count} joints? None of {', '.join(order.name for order in orders)} "
            f"matches the axes of pose_aa (nearest: {found[best]:.3f} rad off); give the joints' names."
        )
    rivals = [f"{order.name} {gap:.2f} rad" for order, gap in zip(orders, found, strict=True) if order != orders[best]]
    words = f"joints {orders[best].name}: each angle is on its axis of pose_aa to {found[best]:.1g} rad"
    return orders[best], words + (f"; off otherwise: {', '.join(rivals)}" if rivals else "")
