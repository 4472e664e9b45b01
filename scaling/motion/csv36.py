"""Headerless 36-column CSV (root xyz, quaternion, 29 joints): parsing, and xyzw told apart from wxyz by the data."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.robot.g1 import NQ
from scaling.robot.kinematics import soles
from scaling.robot.rotations import rotate

CONVENTIONS = ("xyzw", "wxyz")
_SAMPLES = 192
_STEP_S = 0.1
# A convention is believed only if the other explains the feet at least this much worse (ratio, and metres).
_RATIO, _MARGIN_M = 1.5, 0.004


@dataclass(frozen=True)
class Evidence:
    """How plausible a clip is under one quaternion convention: all in metres but `upright` (-1 to 1)."""

    upright: float
    slide: float
    tilt: float
    height_spread: float

    @property
    def badness(self) -> float:
        """One figure (m): feet that slide, tilt or wander in height, and a robot that is upside-down."""
        return self.slide + self.tilt + self.height_spread + 0.1 * (1.0 - self.upright)

    def __str__(self) -> str:
        return (
            f"upright {self.upright:.2f}, stance foot slides {1e3 * self.slide:.1f} mm in {_STEP_S:g} s, "
            f"sole tilts {1e3 * self.tilt:.1f} mm, lowest sole varies {1e3 * self.height_spread:.1f} mm"
        )


def parse(text: str, where: str) -> Float[np.ndarray, "T 36"]:
    """Numbers of a CSV text as they stand; a wrong column count, a header or a bad cell raises `InputError`."""
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise InputError(f"{where}: the file is empty; give a CSV with {NQ} columns a frame.")
    try:
        rows = np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError:
        raise InputError(f"{where}: {_complaint(lines)}") from None
    if rows.shape[1] != NQ:
        raise InputError(f"{where}: {_columns(rows.shape[1])}")
    return rows


def _columns(found: int) -> str:
    """What a wrong column count most likely means."""
    other = {34: " (34 is Unitree's H1_2 with 27 joints: another robot)", 30: " (30 is a G1 with 23 joints)"}
    return (
        f"{found} columns{other.get(found, '')}, but {NQ} are expected (root xyz, quaternion, 29 joints of the G1); "
        "retarget or export it for the 29-joint G1."
    )


def _complaint(lines: list[str]) -> str:
    """Why NumPy could not read these lines, in the words of one line."""
    first = next(line for line in lines if line.strip())
    width = first.count(",") + 1
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) != width:
            return f"line {number} has {len(cells)} columns where the first has {width}; the file may be cut short."
        for column, cell in enumerate(cells, start=1):
            try:
                float(cell)
            except ValueError:
                if line is first and column == 1:
                    return (
                        f"the first line is a header ({line[:40].strip()!r}...), and only headerless CSV with {NQ} "
                        "numbers a line is readable; convert it (root in m, quaternion, joints in rad)."
                    )
                return f"line {number}, column {column} holds {cell.strip()[:20]!r}, not a number; repair the file."
    return f"it is not a table of numbers; give a CSV with {NQ} columns a frame."


def reorder(rows: Float[np.ndarray, "T 36"], convention: str) -> Float[np.ndarray, "T 36"]:
    """`qpos` (wxyz) from rows whose columns 4-7 follow `convention`."""
    if convention not in CONVENTIONS:
        raise InputError(f"quaternion convention {convention!r} is unknown; choose 'xyzw' or 'wxyz'.")
    if convention == "wxyz":
        return rows
    return rows[:, [0, 1, 2, 6, 3, 4, 5, *range(7, NQ)]]


def weigh(qpos: Float[np.ndarray, "T 36"], rate_hz: float) -> Evidence:
    """How well the feet stand still, flat and level, and how upright the pelvis is, if `qpos` is right."""
    step = min(max(1, round(_STEP_S * rate_hz)), len(qpos) - 1)
    starts = np.unique(np.linspace(0, len(qpos) - 1 - step, min(_SAMPLES, len(qpos) - step)).astype(int))
    corners, later = soles(qpos[starts]), soles(qpos[starts + step])
    moved = np.linalg.norm((later - corners)[..., :2], axis=-1).mean(axis=-1)  # [n, 2 feet]
    heights = corners[..., 2]
    lower = np.argmin(heights.min(axis=-1), axis=-1)
    on_lower = heights[np.arange(len(lower)), lower]
    lowest = on_lower.min(axis=-1)
    up = np.zeros((len(starts), 3))
    up[:, 2] = 1.0
    return Evidence(
        upright=float(rotate(qpos[starts, 3:7], up)[:, 2].mean()),
        slide=float(np.median(moved.min(axis=-1))),
        tilt=float(np.median(on_lower.max(axis=-1) - lowest)),
        height_spread=float(np.median(np.abs(lowest - np.median(lowest)))),
    )


def detect(rows: Float[np.ndarray, "T 36"], rate_hz: float, where: str) -> tuple[str, str]:
    """(convention, evidence) of rows in file order; raises `InputError` with the question where the data cannot tell.

    Reading the four numbers in the wrong order turns the robot over or around; then its feet slide, tilt and float.
    """
    norms = np.linalg.norm(rows[:, 3:7], axis=1, keepdims=True)
    unit = rows.copy()
    unit[:, 3:7] /= np.where(norms > 0, norms, 1.0)
    found = {name: weigh(reorder(unit, name), rate_hz) for name in CONVENTIONS}
    best, other = sorted(CONVENTIONS, key=lambda name: found[name].badness)
    right, wrong = found[best].badness, found[other].badness
    if wrong < _RATIO * right or wrong - right < _MARGIN_M:
        raise InputError(
            f"{where}: is the quaternion in columns 4-7 xyzw or wxyz? The data fit both (xyzw: {found['xyzw']}; "
            f"wxyz: {found['wxyz']}), so say which with quaternion='xyzw' or quaternion='wxyz'."
        )
    return best, f"{best}: {found[best]}; {other} would give: {found[other]}"
