"""Headerless table of 36 columns (root xyz, quaternion, 29 joints), with the quaternion's order told by the data."""

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.clip import Motion, trimmed, validate
from scaling.motion.importers import evidence
from scaling.motion.importers.content import Content
from scaling.motion.importers.joint_order import order_by_limits
from scaling.motion.importers.record import Given, Record, timing
from scaling.robot.g1 import NQ

NAME = "csv36"


def claims(content: Content) -> bool:
    """Any text that may be a table of numbers, and bare arrays of two dimensions."""
    if content.container == "npy":
        return isinstance(content.value, np.ndarray) and content.value.ndim == 2
    if content.container != "text":
        return False
    text = content.value[:4096].lstrip("\ufeff \t\r\n")  # the first line is enough, and files are long
    first = text.splitlines()[0] if text else ""
    return not text or "," in first or _is_number(first)


def read(content: Content, given: Given) -> list[Record]:
    """The one clip of a table."""
    where = str(content)
    value = content.value
    rows = parse(value, where) if isinstance(value, str) else _checked(np.asarray(value, np.float64), where)
    rate = timing(content, given)
    # NaN, too few rows and bad norms are told before the convention is asked.
    validate(trimmed(Motion(rows, rate.hz, content.path.stem, source=where)))
    quaternion, words, remarks = evidence.convention_of(rows, rate.hz, "", given.quaternion, where)
    order, told, doubts = order_by_limits(rows[:, 7:], "mjcf", given.joint_order, where, firm=False)
    qpos = evidence.reorder(rows, quaternion)
    qpos = np.concatenate([qpos[:, :7], order.lift(qpos[:, 7:])], axis=1)
    notes = (*rate.notes, *remarks, *doubts)
    return [Record(qpos, rate.hz, quaternion, order.name, (rate.evidence, words, told), notes)]


def parse(text: str, where: str) -> Float[np.ndarray, "T 36"]:
    """Numbers of a CSV text as they stand; a wrong column count, a header or a bad cell raises `InputError`."""
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise InputError(f"{where}: the file is empty; give a CSV with {NQ} columns a frame.")
    try:
        rows = np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError:
        raise InputError(f"{where}: {_complaint(lines)}") from None
    return _checked(rows, where)


def _checked(rows: np.ndarray, where: str) -> Float[np.ndarray, "T 36"]:
    if rows.shape[1] == NQ:
        return rows
    other = {34: " (34 is Unitree's H1_2 with 27 joints: another robot)", 30: " (30 is a G1 with 23 joints)"}
    raise InputError(
        f"{where}: {rows.shape[1]} columns{other.get(rows.shape[1], '')}, but {NQ} are expected (root xyz, quaternion, "
        "29 joints of the G1); retarget or export it for the 29-joint G1."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
            if _is_number(cell):
                continue
            if line is first and column == 1:
                return (
                    f"the first line is a header ({line[:40].strip()!r}...) of no known format; give {NQ} numbers a "
                    "line without a header (root in m, quaternion, joints in rad)."
                )
            return f"line {number}, column {column} holds {cell.strip()[:20]!r}, not a number; repair the file."
    return f"it is not a table of numbers; give a CSV with {NQ} columns a frame."
