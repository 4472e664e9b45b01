"""Orders in which files list the G1's joints, by name or by count, and the lift of a part of them to all 29."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.robot.g1 import HOME_JOINTS, JOINT_NAMES, NUM_JOINTS, RANGE_HIGH, RANGE_LOW

# Isaac Lab lists joints breadth first: place in MJCF order of each joint of that order.
ISAAC = (0, 6, 12, 1, 7, 13, 2, 8, 14, 3, 9, 15, 22, 4, 10, 16, 23, 5, 11, 17, 24, 18, 25, 19, 26, 20, 27, 21, 28)
_WRISTS = tuple(place for place, name in enumerate(JOINT_NAMES) if "wrist" in name)
_ROLL_ONLY = tuple(
    place
    for place, name in enumerate(JOINT_NAMES)
    if name in ("waist_roll_joint", "waist_pitch_joint") or ("wrist" in name and "wrist_roll" not in name)
)
_FRAMES = 1000  # looked at, from all over a clip
# An order is doubted where joints are so far (rad) beyond their limits in more than this share of frames, and in a
# tenth of them in another. Read right, no clip at hand has any such frame; in the wrong order, the calmest has 4 %.
_BEYOND_RAD, _DOUBT_SHARE, _DOUBT_RATIO = 0.1, 0.02, 10.0
# Left out -> what the rest is called.
_SETS = {(): "", _WRISTS: " without wrists", _ROLL_ONLY: " with one waist and one wrist joint"}
# Names of the older G1 whose arms have an elbow of two joints.
_OLD_NAMES = {
    "torso": "waist_yaw",
    **{f"{side}_elbow_pitch": f"{side}_elbow" for side in ("left", "right")},
    **{f"{side}_elbow_roll": f"{side}_wrist_roll" for side in ("left", "right")},
}


@dataclass(frozen=True)
class JointOrder:
    """`places[i]` is the place in MJCF order of the file's joint column `columns[i]`."""

    name: str
    places: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Joints of the G1 that the file does not hold."""
        return tuple(name for place, name in enumerate(JOINT_NAMES) if place not in self.places)

    def is_called(self, given: str) -> bool:
        """Whether a caller means this order, by its full name or by "mjcf" or "isaac"."""
        return given in (self.name, self.name.split()[0])

    def unheeded(self, given: str | None, says: str) -> tuple[str, ...]:
        """The remark for a caller who named another order than the file tells."""
        if given is None or self.is_called(given):
            return ()
        return (f"{says} {self.name}: --joint-order is for files that cannot tell",)

    def lift(self, joints: Float[np.ndarray, "T n"]) -> Float[np.ndarray, "T 29"]:
        """All 29 joints (rad, MJCF order); those that the file does not hold are at their default."""
        if self.places == self.columns == tuple(range(NUM_JOINTS)):
            return joints
        full = np.tile(HOME_JOINTS, (len(joints), 1))
        full[:, self.places] = joints[:, self.columns]
        return full

    def notes(self) -> tuple[str, ...]:
        """What lifting assumed, in words."""
        if not self.missing:
            return ()
        short = ", ".join(name.removesuffix("_joint") for name in self.missing)
        return (f"lifted from {len(self.places)} to {NUM_JOINTS} joints: {short} at their default",)


def _orders() -> tuple[JointOrder, ...]:
    found = []
    for left_out, words in _SETS.items():
        for name, listed in (("mjcf", range(NUM_JOINTS)), ("isaac", ISAAC)):
            places = tuple(place for place in listed if place not in left_out)
            found.append(JointOrder(name + words, places, tuple(range(len(places)))))
    return tuple(found)


ORDERS = _orders()
"""Every order that a file without names may have."""


def orders_of(count: int, where: str) -> tuple[JointOrder, ...]:
    """The orders of `count` joints; `InputError` where a G1 has not so many."""
    found = tuple(order for order in ORDERS if len(order.places) == count)
    if not found:
        raise InputError(
            f"{where}: {count} joints, but a G1 has {NUM_JOINTS} or 23; this is another robot, so retarget it."
        )
    return found


def order_by_limits(
    joints: Float[np.ndarray, "T n"], documented: str | None, given: str | None, where: str, firm: bool = True
) -> tuple[JointOrder, str, tuple[str, ...]]:
    """The order of joints without names or bodies, the evidence, and remarks.

    The `documented` order stands unless the joints' limits speak clearly for another; then, or where none is documented
    for so many joints, the caller is asked. An order that is usual but not documented (`firm` False) yields to `given`.
    """
    orders = orders_of(joints.shape[1], where)
    beyond = {order: _beyond(order, joints) for order in orders}
    usual = next((order for order in orders if order.name == documented), None)
    asked = [order for order in orders if given is not None and order.is_called(given)]
    wanted = usual if usual is not None and (firm or not asked) else asked[0] if len(asked) == 1 else None
    if wanted is None:
        raise InputError(
            f"{where}: in which order are its {joints.shape[1]} joints? It has neither names nor bodies that tell, so "
            f"say which with --joint-order and one of {', '.join(repr(order.name) for order in orders)}."
        )
    best = min(orders, key=lambda order: beyond[order])
    shares = f"{100 * beyond[wanted]:.0f} % of frames beyond the joints' limits"
    words = f"{shares}, as {best.name} {100 * beyond[best]:.0f} %"
    doubted = beyond[wanted] > max(_DOUBT_SHARE, _DOUBT_RATIO * beyond[best])
    if not doubted:
        said = "the format documents it" if wanted is usual and firm else "given by the caller" if asked else "as usual"
        return wanted, f"joints {wanted.name}: {said}; {shares}", wanted.unheeded(given, "the format documents")
    if best in asked or (wanted in asked and wanted is usual):
        chosen = best if best in asked else wanted
        return chosen, f"joints {chosen.name}: given by the caller; as {wanted.name} {words}", ()
    if best is usual:
        return best, f"joints {best.name}: as {wanted.name} {words}", best.unheeded(given, "the joints' limits say")
    raise InputError(
        f"{where}: are its joints in {wanted.name} order, or is this file's {best.name}? As {wanted.name} {words}, so "
        f"say which with --joint-order {best.name.split()[0]}, or repair the file."
    )


def _beyond(order: JointOrder, joints: Float[np.ndarray, "T n"]) -> float:
    """Share of frames with a joint far beyond its limits, read in this order; frames from all over a long clip."""
    joints = joints[:: max(1, len(joints) // _FRAMES)]
    low, high = RANGE_LOW[list(order.places)] - _BEYOND_RAD, RANGE_HIGH[list(order.places)] + _BEYOND_RAD
    return float(((joints < low) | (joints > high)).any(axis=1).mean())


def order_by_name(names: Sequence[str], where: str) -> tuple[JointOrder, tuple[str, ...]]:
    """The order that names tell, and the names that are no joints of the G1; missing legs are another robot."""
    places: list[int] = []
    columns: list[int] = []
    strangers: list[str] = []
    for column, name in enumerate(names):
        bare = str(name).rsplit("/", 1)[-1].removesuffix("_joint")
        full = _OLD_NAMES.get(bare, bare) + "_joint"
        if full in JOINT_NAMES and JOINT_NAMES.index(full) not in places:
            places.append(JOINT_NAMES.index(full))
            columns.append(column)
        else:
            strangers.append(str(name))
    order = JointOrder("by name", tuple(places), tuple(columns))
    legs = [name for name in order.missing if "hip" in name or "knee" in name or "ankle" in name]
    if legs:
        raise InputError(
            f"{where}: no joint is named {legs[0]} (its joints are {', '.join(strangers[:3])}, ...); this is another "
            "robot, so retarget it to the G1."
        )
    known = next((one.name for one in ORDERS if one.places == order.places), None)
    return JointOrder(known or "by name", order.places, order.columns), tuple(strangers)
