"""wbc_fsm clips: a folder of raw arrays, joints in one and bodies in others, at 50 Hz in Isaac order."""

from pathlib import Path

import numpy as np

from scaling.errors import InputError
from scaling.motion.importers.content import Content, open_content
from scaling.motion.importers.layouts import Layout
from scaling.motion.importers.record import Given, Record
from scaling.motion.naming import Rate

NAME = "wbc_fsm"
_RATE = Rate(50.0, "the format has no rate; its player steps through it at 50 Hz", True)
_LAYOUT = Layout(
    NAME,
    frozenset(),
    rate="",
    documented_rate=_RATE,
    quaternion="wxyz",
    joints="joints",
    bodies="body positions",
    body_quats="body rotations",
)


def claims(content: Content) -> bool:
    """Any array under wbc_fsm's header."""
    return content.container == NAME


def read(content: Content, given: Given) -> list[Record]:
    """The clip of a joint array, with its root from the body arrays beside it."""
    where = str(content)
    joints = content.value
    if joints.ndim != 2:
        raise InputError(
            f"{where}: {list(joints.shape)} numbers of bodies, a part of the clip whose joints lie in another file of "
            "this folder; give that file."
        )
    beside = [raw for path in _companions(content.path) if (raw := _bodies(path, len(joints))) is not None]
    parts = {name: raw for name, width in (("body positions", 3), ("body rotations", 4)) for raw in beside
             if raw.shape[2] == width}  # fmt: skip
    if len(parts) < 2:
        raise InputError(
            f"{where}: joints without a root, because no body positions and rotations of {len(joints)} frames lie "
            "beside it; put body_pos_w.bin and body_quat_w.bin into its folder."
        )
    whole = Content(content.path, NAME, {"joints": joints, **parts})
    return _LAYOUT.read(whole, given)


def _companions(path: Path) -> list[Path]:
    """The other files of a clip's folder."""
    return sorted(file for file in path.parent.iterdir() if file.is_file() and file != path)


def _bodies(path: Path, frames: int) -> np.ndarray | None:
    """The body array [frames, b, 3 or 4] in a file, gzip or not, if it holds one."""
    try:
        found = open_content(path)
    except InputError:
        return None
    raw = found.value
    return raw if found.container == NAME and raw.ndim == 3 and len(raw) == frames else None
