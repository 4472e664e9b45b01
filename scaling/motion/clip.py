"""The `Motion` value: one clip of G1 `qpos` at a rate, with where it came from; velocities and resampling."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from scaling.errors import InputError
from scaling.robot.g1 import NQ
from scaling.robot.rotations import namespace, quat_conj, quat_mul, rotation_vector, slerp

Array = Any

CONTROL_RATE_HZ = 50.0
NORM_TOLERANCE = 0.05  # quaternion norms off by 2 % are in the wild (float16 pickles) and harmless once rescaled

_ZERO_QUAT = 1e-3


@dataclass(frozen=True)
class Motion:
    """`qpos` [T, 36]: root xyz (m), root quaternion (wxyz), 29 joints (rad, MJCF order), at `rate_hz`.

    `group` is the recording that the clip belongs to (everything recorded or derived together stays on one side of a
    split); `family` is "" where unknown; `notes` say what the reader assumed or repaired.
    """

    qpos: Float[np.ndarray, "T 36"]
    rate_hz: float
    name: str
    source: str = ""
    licence: str = "unknown"
    group: str = ""
    family: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        qpos = np.ascontiguousarray(self.qpos, dtype=np.float64)
        if qpos.ndim != 2:
            raise InputError(f"{self._where()}: qpos has shape {qpos.shape}; give [frames, {NQ}].")
        object.__setattr__(self, "qpos", qpos)
        object.__setattr__(self, "group", self.group or self.name)

    def _where(self) -> str:
        return self.source or self.name

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.qpos)

    @property
    def seconds(self) -> float:
        """Duration: frames over rate."""
        return self.frames / self.rate_hz


def clean(motion: Motion) -> Motion:
    """The same clip with exactly unit quaternions, signs continuous over time; raises `InputError` as `validate`.

    Frames at its ends that are not finite or have no rotation are cut off, which a note says.
    """
    motion = trimmed(motion)
    validate(motion)
    qpos = motion.qpos.copy()
    norms = np.linalg.norm(qpos[:, 3:7], axis=1)
    worst = float(np.abs(norms - 1.0).max())
    notes = motion.notes
    if worst > 1e-3:
        notes = (*notes, f"quaternion norms were off by up to {100 * worst:.1f} % and were rescaled to one")
    if worst > 1e-12:  # else a clean clip comes back bit for bit
        qpos[:, 3:7] /= norms[:, None]
    qpos[:, 3:7] = continuous(qpos[:, 3:7])
    return replace(motion, qpos=qpos, notes=notes)


def trimmed(motion: Motion) -> Motion:
    """The clip without frames at its ends that hold no pose; whole where more than half of it has none."""
    if motion.qpos.shape[1] != NQ:
        return motion
    poses = np.flatnonzero(has_pose(motion.qpos))
    if not len(poses) or poses[-1] + 1 - poses[0] == motion.frames or 2 * len(poses) < motion.frames:
        return motion
    start, end = int(poses[0]), int(poses[-1]) + 1
    cut = [("first", start), ("last", motion.frames - end)]
    notes = tuple(
        f"the {which} {count} frames were cut off: they hold no pose (not finite, or a zero quaternion)"
        for which, count in cut
        if count
    )
    return replace(motion, qpos=motion.qpos[start:end], notes=(*motion.notes, *notes))


def has_pose(qpos: Float[np.ndarray, "T 36"]) -> Bool[np.ndarray, "T"]:
    """Frames that are finite and have a root quaternion that is not zero."""
    return np.isfinite(qpos).all(axis=1) & (np.abs(qpos[:, 3:7]).max(axis=1) > _ZERO_QUAT)


def validate(motion: Motion) -> None:
    """Raises `InputError` for a wrong column count, a rate that is not positive, NaN or a quaternion far from unit."""
    where = motion._where()
    if motion.qpos.shape[1] != NQ:
        raise InputError(
            f"{where}: {motion.qpos.shape[1]} columns, but a G1 clip has {NQ} "
            "(root xyz, quaternion, 29 joints); export it for the 29-joint G1."
        )
    if not (np.isfinite(motion.rate_hz) and motion.rate_hz > 0):
        raise InputError(f"{where}: frame rate {motion.rate_hz} Hz; give a positive rate.")
    if motion.frames < 2:
        raise InputError(f"{where}: {motion.frames} frame(s); a clip needs at least two, so remove or lengthen it.")
    finite = np.isfinite(motion.qpos).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise InputError(
            f"{where}: {len(bad)} of {motion.frames} frames hold NaN or infinity, first in frame {bad[0]}; "
            "repair or cut these frames."
        )
    norms = np.linalg.norm(motion.qpos[:, 3:7], axis=1)
    far = np.flatnonzero(np.abs(norms - 1.0) > NORM_TOLERANCE)
    if len(far):
        raise InputError(
            f"{where}: the root quaternion of frame {far[0]} has norm {norms[far[0]]:.3f} "
            f"({len(far)} of {motion.frames} frames are not near 1); check that columns 4-7 are a unit quaternion."
        )


def continuous(quat: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 4"]:
    """The same rotations with signs chosen so that neighbours lie on one hemisphere, the first with w >= 0."""
    flips = np.sum(quat[1:] * quat[:-1], axis=1) < 0
    sign = np.concatenate([[1.0 if quat[0, 0] >= 0 else -1.0], np.where(flips, -1.0, 1.0)])
    return quat * np.cumprod(sign)[:, None]


def velocities(qpos: Float[Array, "T 36"], rate_hz: float) -> Float[Array, "T 35"]:
    """`qvel` [T, 35] by forward differences (the last row repeats), NumPy or JAX: `mj_differentiatePos` over 1/rate.

    World linear (m/s), body-frame angular (rad/s), joints (rad/s); zero for a single frame.
    """
    xp = namespace(qpos)
    if qpos.shape[0] < 2:
        return xp.zeros((qpos.shape[0], qpos.shape[1] - 1), dtype=qpos.dtype)
    linear = qpos[1:, :3] - qpos[:-1, :3]
    angular = rotation_vector(quat_mul(quat_conj(qpos[:-1, 3:7]), qpos[1:, 3:7]))
    joints = qpos[1:, 7:] - qpos[:-1, 7:]
    qvel = xp.concatenate([linear, angular, joints], axis=-1) * rate_hz
    return xp.concatenate([qvel, qvel[-1:]], axis=0)


def resample(motion: Motion, rate_hz: float = CONTROL_RATE_HZ) -> Motion:
    """The clip at another rate from the same first frame: linear in position and joints, slerp in orientation."""
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise InputError(f"{motion._where()}: cannot resample to {rate_hz} Hz; give a positive rate.")
    if abs(rate_hz - motion.rate_hz) < 1e-9:
        return motion
    ratio = motion.rate_hz / rate_hz
    count = int(np.floor((motion.frames - 1) / ratio + 1e-9)) + 1
    at = np.minimum(np.arange(count) * ratio, motion.frames - 1)
    low = np.minimum(np.floor(at + 1e-9).astype(int), motion.frames - 2) if motion.frames > 1 else at.astype(int)
    high = np.minimum(low + 1, motion.frames - 1)
    fraction = np.clip(at - low, 0.0, 1.0)
    qpos, after = motion.qpos[low], motion.qpos[high]
    quat = continuous(slerp(qpos[:, 3:7], after[:, 3:7], fraction))
    after -= qpos  # in place: long clips are bound by memory
    after *= fraction[:, None]
    qpos += after
    qpos[:, 3:7] = quat
    return replace(motion, qpos=qpos, rate_hz=float(rate_hz))
