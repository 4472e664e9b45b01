"""What an importer is told and what it hands back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion import naming
from scaling.motion.importers.content import Content
from scaling.motion.importers.evidence import CONVENTIONS
from scaling.motion.importers.joint_order import ORDERS, JointOrder
from scaling.robot.g1 import NUM_JOINTS

__all__ = ["Given", "Record", "number", "table", "texts", "timing", "unheeded"]


_LARGEST = 1e6  # m, rad: what lies beyond is damage
_SAME_RATE = 5e-4  # of a rate: 59.94 is not 60, and 29.998 is 30


@dataclass(frozen=True)
class Given:
    """What the caller says of files that cannot tell; a file that can is believed, and a remark says so.

    `rate_hz` positive, `quaternion` "xyzw" or "wxyz", `joint_order` one of `ORDERS` or its first word; else
    `InputError`. `body_model` is the file whose joints people in SMPL are given; None takes a mean skeleton.
    """

    rate_hz: float | None = None
    quaternion: str | None = None
    joint_order: str | None = None
    body_model: Path | None = None

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise InputError(f"a rate of {self.rate_hz} Hz was given; give a positive number of frames a second.")
        if self.quaternion not in (None, *CONVENTIONS):
            raise InputError(f"quaternion convention {self.quaternion!r} is unknown; choose 'xyzw' or 'wxyz'.")
        known = dict.fromkeys(name for order in ORDERS for name in (order.name.split()[0], order.name))
        if self.joint_order not in (None, *known):
            raise InputError(f"joint order {self.joint_order!r} is unknown; choose one of {', '.join(known)}.")


@dataclass(frozen=True)
class Record:
    """One clip of a file: `qpos` (m, wxyz, rad in MJCF order) as stored, and what was found in the file.

    `quaternion`, `joint_order` and `joints` are the file's own; `label` tells clips of one file apart; `retarget` has
    the figures of a clip that was made from a person's motion.
    """

    qpos: Float[np.ndarray, "T 36"]
    rate_hz: float
    quaternion: str
    joint_order: str
    evidence: tuple[str, ...]
    notes: tuple[str, ...] = ()
    label: str = ""
    joints: int = NUM_JOINTS
    retarget: Mapping[str, float | bool] | None = None


def number(value: Any, what: str, where: str) -> float:
    """One number, whether it stands alone or in an array."""
    flat = np.asarray(value).ravel()
    if flat.size != 1 or not np.issubdtype(flat.dtype, np.number):
        raise InputError(f"{where}: {what} is not one number; write the file again.")
    return float(flat[0])


def table(value: Any, what: str, width: int | None, where: str, rank: int = 2) -> np.ndarray:
    """Numbers as float64 [T, ...], checked for their rank and last size."""
    found = np.asarray(value)
    if not (np.issubdtype(found.dtype, np.floating) or np.issubdtype(found.dtype, np.integer)):
        raise InputError(f"{where}: {what} does not hold numbers; write the file again.")
    if found.ndim != rank or 0 in found.shape or (width is not None and found.shape[-1] != width):
        wanted = "frames" + ", n" * (rank - 2) + f", {width if width is not None else 'n'}"
        raise InputError(f"{where}: {what} has shape {list(found.shape)}, but [{wanted}] is needed; check the file.")
    if (np.abs(found[np.isfinite(found)]) > _LARGEST).any():
        raise InputError(
            f"{where}: {what} holds numbers beyond {_LARGEST:g}, which no motion has; fetch the file again."
        )
    return found.astype(np.float64)


def texts(value: Any) -> list[str]:
    """Names as text, whether they were kept as bytes, text or arrays of either."""
    return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in np.asarray(value).ravel()]


def timing(
    content: Content, given: Given, own: tuple[float, str] | None = None, documented: naming.Rate | None = None
) -> naming.Rate:
    """Frames a second: the file's `own` (Hz and the evidence), else the caller's, the `documented` one, or the name's.

    A caller who says otherwise than the file or the format's documentation is told so in a remark.
    """
    asked = given.rate_hz
    if own is not None:
        hz, words = own
        heard = asked is None or abs(asked - hz) <= _SAME_RATE * hz
        return naming.Rate(
            hz, words, True, "" if heard else f"the file says {hz:g} Hz: --rate is for files that do not"
        )
    if asked is not None:
        against = documented is not None and abs(asked - documented.hz) > _SAME_RATE * documented.hz
        remark = f"read at {asked:g} Hz as given, against: {documented.evidence}" if documented and against else ""
        return naming.Rate(float(asked), "rate given by the caller", True, remark)
    return documented or naming.rate_of(content.path)


def unheeded(given: Given, quaternion: str, order: JointOrder) -> tuple[str, ...]:
    """The remarks for a caller who says otherwise than a format that always has one convention and one order."""
    remarks = order.unheeded(given.joint_order, "the format documents")
    if given.quaternion in (None, quaternion):
        return remarks
    return (f"the format documents {quaternion}: --quaternion is for files that cannot tell", *remarks)
