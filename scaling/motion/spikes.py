"""Speeds that no robot and no person reaches: found, repaired where short, cut off at the ends of a clip, else told."""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from scaling.motion.clip import Motion, continuous, velocities
from scaling.motion.ends import grounded
from scaling.motion.glitches import GlitchConfig, find_glitches
from scaling.robot.g1 import VELOCITY_LIMIT
from scaling.robot.rotations import slerp


@dataclass(frozen=True)
class SpikeConfig:
    """What a spike is, and what may be done about it.

    A step is a spike above `root_speed` (m/s), `root_spin` (rad/s) or `joint_speed` (times the motor's limit). It is
    replaced by a straight line over at most `repair_seconds`, if the line is no faster than `calm` times the clip's
    99th percentile and than the motors; else, in the first or last `trim_seconds`, it is cut off with all beyond it.
    So are frames there whose lowest sole is above `floats` or below -`sinks` (m). Slower leaps of one or two frames are
    `glitches`; more than `glitches_share` of the frames are not repaired but told as left.
    """

    root_speed: float = 8.0
    root_spin: float = 40.0
    joint_speed: float = 2.0
    trim_seconds: float = 1.0
    repair_seconds: float = 0.2
    calm: float = 1.5
    floats: float = 0.15
    sinks: float = 0.20
    glitches: GlitchConfig = field(default_factory=GlitchConfig)
    glitches_share: float = 0.02

    def __post_init__(self) -> None:
        for name in ("root_speed", "root_spin", "joint_speed", "calm", "floats", "sinks"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
        if self.trim_seconds < 0 or self.repair_seconds < 0:
            raise ValueError(f"trim {self.trim_seconds} s and repair {self.repair_seconds} s must not be negative")


@dataclass(frozen=True)
class Mended:
    """The clip after trimming and repair, what was done to it in words, and the spikes that are left (seconds)."""

    motion: Motion
    done: tuple[str, ...]
    left: tuple[float, ...]


def _speeds(qpos: Float[np.ndarray, "T 36"], rate_hz: float) -> Float[np.ndarray, "t 3"]:
    """Of each step: root speed (m/s), root spin (rad/s), fastest joint over its motor's limit."""
    qvel = velocities(qpos, rate_hz)[:-1]
    spin = np.linalg.norm(qvel[:, 3:6], axis=1)
    joints = (np.abs(qvel[:, 6:]) / VELOCITY_LIMIT).max(axis=1)
    return np.stack([np.linalg.norm(qvel[:, :3], axis=1), spin, joints], axis=1)


def find_spikes(motion: Motion, config: SpikeConfig) -> np.ndarray:
    """Steps (i: from frame i to i + 1) that are faster than the thresholds."""
    limits = np.array([config.root_speed, config.root_spin, config.joint_speed])
    return np.flatnonzero((_speeds(motion.qpos, motion.rate_hz) > limits).any(axis=1))


def mend(motion: Motion, config: SpikeConfig) -> Mended:
    """Repair what is short, then trim the ends; every change is told, and so is what is left."""
    found, done, left = motion, tuple[str, ...](), tuple[float, ...]()
    for step in (_without_spikes, _without_glitches, _on_floor):
        mended = step(found, config)
        found, done, left = mended.motion, done + mended.done, left + mended.left
    return Mended(replace(found, notes=(*motion.notes, *done)) if done else motion, done, left)


def _on_floor(motion: Motion, config: SpikeConfig) -> Mended:
    """The clip without a first and last second that float or sink."""
    start, end = grounded(motion.qpos, motion.rate_hz, config.trim_seconds, config.floats, config.sinks)
    cut = {"first": start, "last": motion.frames - end}
    done = tuple(f"the {which} {n} frames were cut off: they float or sink" for which, n in cut.items() if n)
    return Mended(replace(motion, qpos=motion.qpos[start:end]) if done else motion, done, ())


def _without_glitches(motion: Motion, config: SpikeConfig) -> Mended:
    """The clip with every leap of one or two frames replaced by a straight line, or told as left if they are many."""
    found = find_glitches(motion.qpos, motion.rate_hz, config.glitches)
    if len(found) > max(1.0, config.glitches_share * motion.frames):
        return Mended(motion, (), tuple(glitch.first / motion.rate_hz for glitch in found))
    qpos, done = motion.qpos.copy(), []
    for glitch in found:
        start, end = glitch.first - 1, glitch.first + glitch.frames
        qpos[start + 1 : end] = _line(qpos[start], qpos[end], end - start)[1:-1]
        at = glitch.first / motion.rate_hz
        done.append(f"a glitch at {at:.2f} s ({glitch}) was replaced by a straight line")
    return Mended(replace(motion, qpos=qpos) if done else motion, tuple(done), ())


def _without_spikes(motion: Motion, config: SpikeConfig) -> Mended:
    """The clip without steps that are faster than the thresholds, which are repaired, cut off at the ends, or left."""
    rate = motion.rate_hz
    spikes = find_spikes(motion, config)
    if not len(spikes):
        return Mended(motion, (), ())
    speeds = _speeds(motion.qpos, rate)
    steady = np.delete(speeds, spikes, axis=0)
    usual = np.percentile(steady, 99, axis=0) if len(steady) else np.zeros(3)
    limits = np.array([*np.minimum(config.calm * usual[:2], [config.root_speed, config.root_spin]), 1.0])
    qpos = motion.qpos.copy()
    longest = max(1, int(config.repair_seconds * rate))
    done: list[str] = []
    stuck: list[tuple[int, int]] = []
    for first, last in _runs(spikes, longest):
        window = _window(qpos, rate, first, last, longest, limits)
        if window is None:
            stuck.append((first, last))
            continue
        start, end = window
        qpos[start : end + 1] = _line(qpos[start], qpos[end], end - start)
        done.append(f"a spike at {first / rate:.2f} s was replaced by a straight line over {end - start - 1} frames")
    margin = int(config.trim_seconds * rate)
    last_step = motion.frames - 2
    start = max((last + 1 for _, last in stuck if last < margin), default=0)
    end = min((first + 1 for first, _ in stuck if first > last_step - margin), default=motion.frames)
    if end - start < 2:
        start, end = 0, motion.frames
    if start:
        done.append(
            f"the first {start} frames were cut off: they jump (root at up to {speeds[:start, 0].max():.0f} m/s)"
        )
    if end < motion.frames:
        done.append(f"the last {motion.frames - end} frames were cut off: they jump")
    qpos = qpos[start:end]
    qpos[:, 3:7] = continuous(qpos[:, 3:7])
    left = tuple(first / rate for first, last in stuck if start <= first and last < end - 1)
    return Mended(replace(motion, qpos=qpos), tuple(done), left)


def _runs(spikes: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """First and last step of each cluster of spikes that lie closer than `gap` steps."""
    breaks = np.flatnonzero(np.diff(spikes) > gap)
    starts, ends = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(spikes) - 1]])
    return [(int(spikes[a]), int(spikes[b])) for a, b in zip(starts, ends, strict=True)]


def _window(
    qpos: np.ndarray, rate_hz: float, first: int, last: int, longest: int, limits: np.ndarray
) -> tuple[int, int] | None:
    """The smallest stretch of frames around a cluster over which a straight line keeps the limits."""
    for margin in range(longest + 1):
        start, end = first - margin, last + 1 + margin
        if start < 0 or end >= len(qpos) or end - start > longest + 1:
            return None
        line = _line(qpos[start], qpos[end], end - start)
        if (_speeds(line, rate_hz) <= limits).all():
            return start, end
    return None


def _line(before: np.ndarray, after: np.ndarray, steps: int) -> np.ndarray:
    """`steps` + 1 frames from one pose to another: straight in position and joints, slerp in orientation."""
    part = np.linspace(0.0, 1.0, steps + 1)
    found = before + part[:, None] * (after - before)
    found[:, 3:7] = slerp(np.tile(before[3:7], (steps + 1, 1)), np.tile(after[3:7], (steps + 1, 1)), part)
    return found
