"""The value of human motion: seventeen points of a body over time, upright along z, in any unit of length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError

_SIDES = ("left", "right")
_LIMBS = ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "wrist")
NAMES = (*(f"{side}_{limb}" for side in _SIDES for limb in _LIMBS), "neck")

# What skeletons call the joint at the top of each limb, lower case; {s} is the side's initial, {side} the whole word.
_CALLED = {
    "hip": ("{side}upleg", "upperleg_{s}", "{side}hip", "{s}femur.start"),
    "knee": ("{side}leg", "lowerleg_{s}", "{side}knee", "{s}femur"),
    "ankle": ("{side}foot", "foot_{s}", "{side}ankle", "{s}tibia"),
    "toe": ("{side}toebase", "{side}toe", "toes_{s}", "{s}foot", "{side}ankle.end", "{side}foot.end"),
    "shoulder": ("{side}arm", "upperarm_{s}", "{side}shoulder", "{s}humerus.start"),
    "elbow": ("{side}forearm", "lowerarm_{s}", "{side}elbow", "{s}humerus"),
    "wrist": ("{side}hand", "hand_{s}", "{side}wrist", "{s}radius"),
}
_NECK = ("neck", "thorax")
# The axis that points up -> the order of axes that makes it z without mirroring.
_UPRIGHT = {1: [2, 0, 1], 2: [0, 1, 2], 0: [1, 2, 0]}


@dataclass(frozen=True)
class Keypoints:
    """`points[name]` is [T, 3] for each of `NAMES`, z up; `skeleton` says whose bones they are."""

    points: Mapping[str, Float[np.ndarray, "T 3"]]
    rate_hz: float
    skeleton: str

    def __post_init__(self) -> None:
        missing = [name for name in NAMES if name not in self.points]
        if missing:
            raise ValueError(f"key points without {missing}")

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.points["neck"])


def from_joints(
    names: Sequence[str], positions: Float[np.ndarray, "T j 3"], rate_hz: float, skeleton: str, where: str
) -> Keypoints:
    """Key points from the joints of a skeleton by their names, turned upright; `InputError` for an unknown skeleton."""
    place = {name.lower(): index for index, name in enumerate(names)}
    points = {}
    for side in _SIDES:
        for limb in _LIMBS:
            # "leftfoot" is the ankle, so the toe is looked for under the names that no other joint has.
            called = [text.format(side=side, s=side[0]) for text in _CALLED[limb]]
            found = next((name for name in called if name in place), None)
            if found is None:
                raise InputError(f"{where}: no joint is the {side} {limb} (looked for {', '.join(called)}); rename it.")
            points[f"{side}_{limb}"] = positions[:, place[found]]
    neck = next((name for name in _NECK if name in place), None)
    if neck is None:
        raise InputError(f"{where}: no joint is the neck (looked for {', '.join(_NECK)}); rename it.")
    points["neck"] = positions[:, place[neck]]
    if not all(np.isfinite(point).all() for point in points.values()):
        raise InputError(f"{where}: some joints are at NaN or infinity; repair or cut these frames.")
    axis = _up(points)
    return Keypoints({name: point[:, _UPRIGHT[axis]] for name, point in points.items()}, rate_hz, skeleton)


def _up(points: Mapping[str, np.ndarray]) -> int:
    """The axis along which the neck is above the ankles most of the time."""
    ankles = 0.5 * (points["left_ankle"] + points["right_ankle"])
    return int(np.argmax(np.median(points["neck"] - ankles, axis=0)))
