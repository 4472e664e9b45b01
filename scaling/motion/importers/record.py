"""What an importer is told and what it hands back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion import naming
from scaling.motion.importers.content import Content
from scaling.robot.g1 import NUM_JOINTS

__all__ = ["Given", "Record", "number", "table", "texts", "timing"]


_LARGEST = 1e6  # m, rad: what lies beyond is damage


@dataclass(frozen=True)
class Given:
    """What the caller says of a file; None where the file shall speak for itself.

    `body_model` is the file whose joints people in SMPL are given; None takes a mean skeleton.
    """

    rate_hz: float | None = None
    quaternion: str | None = None
    joint_order: str | None = None
    body_model: Path | None = None


@dataclass(frozen=True)
class Record:
    """One clip of a file: `qpos` (m, wxyz, rad in MJCF order) as stored, and what was found in the file.

    `quaternion`, `joint_order` and `joints` are the file's own; `label` tells clips of one file apart.
    """

    qpos: Float[np.ndarray, "T 36"]
    rate_hz: float
    quaternion: str
    joint_order: str
    evidence: tuple[str, ...]
    notes: tuple[str, ...] = ()
    label: str = ""
    joints: int = NUM_JOINTS


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
    if (np.abs(found) > _LARGEST).any():
        raise InputError(
            f"{where}: {what} holds numbers beyond {_LARGEST:g}, which no motion has; fetch the file again."
        )
    return found.astype(np.float64)


def texts(value: Any) -> list[str]:
    """Names as text, whether they were kept as bytes, text or arrays of either."""
    return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in np.asarray(value).ravel()]


def timing(content: Content, given: Given, own: tuple[float, str] | None = None) -> naming.Rate:
    """Frames a second: the caller's, else the file's `own` (Hz and the evidence), else what names and lists say."""
    if given.rate_hz is not None:
        return naming.Rate(float(given.rate_hz), "rate given by the caller", True)
    if own is not None:
        return naming.Rate(own[0], own[1], True)
    return naming.rate_of(content.path)
