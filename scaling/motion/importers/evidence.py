"""What the data say of conventions: quaternion order by the feet, and joint order by the bodies stored in the file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.clip import has_pose
from scaling.motion.importers.joint_order import JointOrder
from scaling.robot.g1 import FOOT_SPHERE_RADIUS, NQ
from scaling.robot.kinematics import forward_kinematics, soles
from scaling.robot.rotations import rotate

CONVENTIONS = ("xyzw", "wxyz")
_SAMPLES = 192
_FEWEST, _A_SECOND = 48, 3.0  # of short clips, whose neighbouring frames say the same
_BODY_SAMPLES = 32
_STEP_S = 0.1
_UP = np.array([0.0, 0.0, 1.0])
# A convention is believed only if the other explains the feet at least this much worse (ratio, and metres).
_RATIO, _MARGIN_M = 1.5, 0.004
# A documented convention is doubted only where the other explains the feet far better.
_DOUBT_RATIO, _DOUBT_M = 3.0, 0.03
# Bodies fit if they lie this close on average, and a reading is believed if the next is this much farther away.
_FIT_M, _FIT_RATIO, _FIT_MARGIN_M = 0.03, 3.0, 0.002


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


def to_wxyz(quat: Float[np.ndarray, "*b 4"], convention: str) -> Float[np.ndarray, "*b 4"]:
    """Quaternions of the project (wxyz) from those of a file in `convention`."""
    if convention not in CONVENTIONS:
        raise InputError(f"quaternion convention {convention!r} is unknown; choose 'xyzw' or 'wxyz'.")
    return quat if convention == "wxyz" else quat[..., [3, 0, 1, 2]]


def reorder(rows: Float[np.ndarray, "T 36"], convention: str) -> Float[np.ndarray, "T 36"]:
    """`qpos` (wxyz) from rows whose columns 4-7 follow `convention`."""
    return np.concatenate([rows[:, :3], to_wxyz(rows[:, 3:7], convention), rows[:, 7:]], axis=1)


def weigh(qpos: Float[np.ndarray, "T 36"], rate_hz: float) -> Evidence:
    """How well the feet stand still, flat and level, and how upright the pelvis is, if `qpos` is right."""
    samples = _sampled(qpos, rate_hz)
    return _weigh(samples, samples[..., 3:7], _feet(samples))


def _sampled(rows: Float[np.ndarray, "T 36"], rate_hz: float) -> Float[np.ndarray, "2 n 36"]:
    """Frames from all over a clip, and beside each the frame a step later."""
    step = min(max(1, round(_STEP_S * rate_hz)), len(rows) - 1)
    wanted = min(_SAMPLES, max(_FEWEST, round(_A_SECOND * len(rows) / rate_hz)))
    starts = np.unique(np.linspace(0, len(rows) - 1 - step, min(wanted, len(rows) - step)).astype(int))
    return np.asarray(rows[np.stack([starts, starts + step])], np.float64)


def _feet(samples: Float[np.ndarray, "2 n 36"]) -> Float[np.ndarray, "2 n 2 4 3"]:
    """Centres of the sole spheres in the pelvis's frame: the same, however its orientation is read."""
    joints = samples.copy()
    joints[..., :7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    return soles(joints) + _UP * FOOT_SPHERE_RADIUS


def _weigh(
    samples: Float[np.ndarray, "2 n 36"], quat: Float[np.ndarray, "2 n 4"], feet: Float[np.ndarray, "2 n 2 4 3"]
) -> Evidence:
    """`weigh` of sampled frames whose root orientation is `quat` (wxyz)."""
    turn = np.broadcast_to(quat[:, :, None, None], (*feet.shape[:-1], 4))
    corners, later = samples[..., None, None, :3] + rotate(turn, feet) - _UP * FOOT_SPHERE_RADIUS
    moved = np.linalg.norm((later - corners)[..., :2], axis=-1).mean(axis=-1)  # [n, 2 feet]
    heights = corners[..., 2]
    lower = np.argmin(heights.min(axis=-1), axis=-1)
    on_lower = heights[np.arange(len(lower)), lower]
    lowest = on_lower.min(axis=-1)
    up = np.broadcast_to(_UP, (len(lower), 3))
    return Evidence(
        upright=float(rotate(quat[0], up)[:, 2].mean()),
        slide=float(np.median(moved.min(axis=-1))),
        tilt=float(np.median(on_lower.max(axis=-1) - lowest)),
        height_spread=float(np.median(np.abs(lowest - np.median(lowest)))),
    )


def _by_convention(rows: Float[np.ndarray, "T 36"], rate_hz: float) -> dict[str, Evidence]:
    posed = has_pose(rows)
    rows = rows if posed.all() or posed.sum() < 2 else rows[posed]
    samples = _sampled(rows, rate_hz)
    feet = _feet(samples)
    norms = np.linalg.norm(samples[..., 3:7], axis=-1, keepdims=True)
    quat = samples[..., 3:7] / np.where(norms > 0, norms, 1.0)
    return {name: _weigh(samples, to_wxyz(quat, name), feet) for name in CONVENTIONS}


def detect(rows: Float[np.ndarray, "T 36"], rate_hz: float, where: str) -> tuple[str, str]:
    """(convention, evidence) of rows in file order; raises `InputError` with the question where the data cannot tell.

    Reading the four numbers in the wrong order turns the robot over or around; then its feet slide, tilt and float.
    """
    found = _by_convention(rows, rate_hz)
    best, other = sorted(CONVENTIONS, key=lambda name: found[name].badness)
    right, wrong = found[best].badness, found[other].badness
    if wrong < _RATIO * right or wrong - right < _MARGIN_M:
        raise InputError(
            f"{where}: is the quaternion in columns 4-7 xyzw or wxyz? The data fit both (xyzw: {found['xyzw']}; "
            f"wxyz: {found['wxyz']}), so say which with --quaternion xyzw or --quaternion wxyz."
        )
    return best, f"{best}: {found[best]}; {other} would give: {found[other]}"


def _clearly(said: Evidence, rival: Evidence) -> bool:
    """Whether the feet speak so much for the rival that documentation or a caller must be wrong."""
    return said.badness > _DOUBT_RATIO * rival.badness and said.badness - rival.badness > _DOUBT_M


def convention_of(
    rows: Float[np.ndarray, "T 36"], rate_hz: float, documented: str, given: str | None, where: str
) -> tuple[str, str, tuple[str, ...]]:
    """(convention, evidence, remarks) of rows in file order; raises `InputError` with the question where in doubt.

    A `documented` convention stands unless the feet clearly say the other; without one ("") the feet tell, and where
    they cannot, the caller's `given`. A caller is not believed against the documentation or against clear feet.
    """
    if not documented and given is None:
        return *detect(rows, rate_hz, where), ()
    found = _by_convention(rows, rate_hz)
    said = documented or str(given)
    (other,) = (name for name in CONVENTIONS if name != said)
    figures = f"{found[said]}; {other} would give: {found[other]}"
    if _clearly(found[said], found[other]):
        if documented and given is None:
            raise InputError(
                f"{where}: this format stores quaternions as {documented}, but is this file's {other}? The data say so "
                f"({other}: {found[other]}; {documented}: {found[documented]}), so say which with --quaternion {other} "
                f"or --quaternion {documented}."
            )
        if not documented:
            remark = f"the feet say {other} ({found[other]}): --quaternion is for files that cannot tell"
            return other, f"{other}: {found[other]}; {said} would give: {found[said]}", (remark,)
        if given == other:
            return other, f"{other}: given by the caller, and the feet say so too, against the format's {said}", ()
        return said, f"{said}: documented and given by the caller, against the feet: {figures}", ()
    if not documented:
        return said, f"{said}: given by the caller: {figures}", ()
    heard = given in (None, documented)
    remarks = () if heard else (f"the format documents {documented}: --quaternion is for files that cannot tell",)
    return documented, f"{documented}, as the format documents: {figures}", remarks


@dataclass(frozen=True)
class Reading:
    """One way to read a file: joint order, quaternion convention, and how far its bodies then are (m, mean)."""

    order: JointOrder
    quaternion: str
    distance: float

    def words(self, told: bool) -> str:
        """The reading in words, with the quaternion's convention where bodies have `told` it."""
        return f"joints {self.order.name}" + (f", quaternion {self.quaternion}" if told else "")


def by_bodies(
    root: Float[np.ndarray, "T 3"],
    quat: Float[np.ndarray, "T 4"],
    joints: Float[np.ndarray, "T n"],
    bodies: Float[np.ndarray, "T b 3"],
    readings: Sequence[tuple[JointOrder, str]],
    asked: Callable[[JointOrder, str], bool],
    where: str,
) -> tuple[Reading, str]:
    """The reading under which forward kinematics puts the G1's bodies where the file has them, and the evidence.

    `bodies` are in the frame of `root` and `quat` and in any order: each is matched to the nearest. Where several
    readings fit alike, the one that the caller `asked` for is taken. Raises `InputError` where none fits (another
    robot, or an order nobody knows) or where it stays open.
    """
    posed = np.flatnonzero(np.isfinite(np.concatenate([root, quat, joints], axis=1)).all(axis=1) & quat.any(axis=1))
    posed = posed[np.isfinite(bodies[posed]).all(axis=(1, 2))]
    if not len(posed):
        raise InputError(f"{where}: no frame has a finite pose and finite bodies; fetch the file again.")
    frames = posed[np.unique(np.linspace(0, len(posed) - 1, min(_BODY_SAMPLES, len(posed))).astype(int))]
    found = []
    for order, convention in readings:
        qpos = np.empty((len(frames), NQ))
        qpos[:, :3] = root[frames]
        unit = to_wxyz(np.asarray(quat[frames], np.float64), convention)
        qpos[:, 3:7] = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
        qpos[:, 7:] = order.lift(joints[frames])
        gaps = np.linalg.norm(forward_kinematics(qpos)[0][:, :, None] - bodies[frames][:, None], axis=-1)
        nearest = gaps.min(axis=2 if bodies.shape[1] >= gaps.shape[1] else 1)
        found.append(Reading(order, convention, float(nearest.mean())))
    told = len({reading.quaternion for reading in found}) > 1
    found.sort(key=lambda one: one.distance)
    if not found[0].distance < _FIT_M:
        raise InputError(
            f"{where}: the bodies in the file fit the G1 in no known joint order (nearest: {found[0].words(told)}, "
            f"{found[0].distance:.3f} m off on average), so this is another robot or an unknown order; retarget it or "
            "give the joints' names."
        )
    limit = max(_FIT_RATIO * found[0].distance, found[0].distance + _FIT_MARGIN_M)
    alike = [one for one in found if one.distance < limit]
    wanted = [one for one in alike if asked(one.order, one.quaternion)] if len(alike) > 1 else alike
    if len(wanted) != 1:
        one, two = (wanted or alike)[:2]
        raise InputError(
            f"{where}: is it {one.words(told)} or {two.words(told)}? The bodies in the file fit both "
            f"({one.distance:.4f} and {two.distance:.4f} m), so say which with --joint-order mjcf or isaac and "
            "--quaternion xyzw or wxyz."
        )
    best, rival = wanted[0], next((one for one in found if one is not wanted[0]), None)
    words = f"{best.words(told)}: forward kinematics meets the stored bodies to {1e3 * best.distance:.2g} mm on average"
    return best, words + (f"; {rival.words(told)} would be {1e3 * rival.distance:.0f} mm off" if rival else "")
