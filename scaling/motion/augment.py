"""More motion from the same: time-warped, mirrored and turned copies, which stay with their origin and count apart."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import ceil
from zlib import crc32

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.clip import Motion, continuous, resample
from scaling.motion.corpus import Corpus, Segment, pack
from scaling.motion.segment import SegmentConfig
from scaling.robot.figures import JOINTS
from scaling.robot.g1 import JOINT_NAMES
from scaling.robot.rotations import from_rotation_vector, quat_mul, rotate

SPEEDS = (0.9, 0.95, 1.0, 1.05, 1.1)
"""How much faster a copy is played; 1 alone warps nothing."""


def _other_side(name: str) -> str:
    for side, other in (("left", "right"), ("right", "left")):
        if name.startswith(f"{side}_"):
            return other + name.removeprefix(side)
    return name


MIRROR_JOINTS = np.array([JOINT_NAMES.index(_other_side(name)) for name in JOINT_NAMES])
"""Of each joint, the one whose angle it takes in the mirror."""
# A mirror turns rotations about x and z round and leaves those about y, which is the plane's normal.
MIRROR_SIGNS = np.array([1.0 if joint.axis == (0, 1, 0) else -1.0 for joint in JOINTS])
_ROOT_SIGNS = np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0])  # x, y, z and w, x, y, z


@dataclass(frozen=True)
class AugmentConfig:
    """Which copies of a training segment are made: one of each of `speeds` times each side times each heading.

    `headings` is how often each copy is turned about the vertical, by an angle drawn by its name and `seed`, beside the
    heading that it has. As it stands nothing is made. Copies of fewer than `min_frames` frames at 50 Hz are left out.
    """

    speeds: tuple[float, ...] = (1.0,)
    mirror: bool = False
    headings: int = 0
    min_frames: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.speeds or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise ValueError(f"speeds {self.speeds}: between half and twice the speed, at least one")
        if len(set(self.speeds)) != len(self.speeds):
            raise ValueError(f"speeds {self.speeds}: each once")
        if self.headings < 0 or self.min_frames < 2:
            raise ValueError(f"headings {self.headings}: 0 or more; min_frames {self.min_frames}: at least 2")

    def copies(self) -> list[tuple[float, bool, int]]:
        """(speed, mirrored, heading) of every copy that a segment gets."""
        every = product(self.speeds, (False, True) if self.mirror else (False,), range(self.headings + 1))
        return [copy for copy in every if copy != (1.0, False, 0)]


def time_warp(qpos: Float[np.ndarray, "T 36"], speed: float) -> Float[np.ndarray, "N 36"]:
    """The clip played `speed` times as fast, at the same rate: N is about T / speed, the first frame is the same."""
    if speed == 1.0:
        return qpos
    return resample(Motion(qpos, speed, "warped"), 1.0).qpos


def mirror(qpos: Float[np.ndarray, "T 36"]) -> Float[np.ndarray, "T 36"]:
    """The clip in a mirror that stands along x: left is right, and twice is the clip itself to the last bit."""
    joints = qpos[:, 7:][:, MIRROR_JOINTS] * MIRROR_SIGNS
    return np.concatenate([qpos[:, :7] * _ROOT_SIGNS, joints], axis=1)


def turn(qpos: Float[np.ndarray, "T 36"], angle: float) -> Float[np.ndarray, "T 36"]:
    """The clip turned by `angle` (rad) about the vertical through its first root position."""
    spin = np.broadcast_to(from_rotation_vector(np.array([0.0, 0.0, angle])), (len(qpos), 4))
    here = np.array([*qpos[0, :2], 0.0])
    root = rotate(spin, qpos[:, :3] - here) + here
    return np.concatenate([root, continuous(quat_mul(spin, qpos[:, 3:7])), qpos[:, 7:]], axis=1)


def augment(corpus: Corpus, config: AugmentConfig) -> Corpus:
    """The corpus in memory with the copies of `augmented`."""
    if not config.copies():
        return corpus
    return pack(augmented(corpus, config), corpus.refused, settings(corpus, config))


def settings(corpus: Corpus, config: AugmentConfig) -> dict:
    """How the corpus was built, with the copies that were made of it, if any."""
    return corpus.config | ({"augment": asdict(config)} if config.copies() else {})


def augmented(corpus: Corpus, config: AugmentConfig) -> Iterator[Segment]:
    """The segments of a corpus and, behind them, copies of its training segments, one at a time.

    A copy has its origin's split, recording group, family and licence, and the arms take it with its origin. It keeps
    to the bounds of segments: what is slower ends where the longest segment does, and of one that is too short there is
    none. Copies of copies are an `InputError`.
    """
    if config.copies() and not corpus.unique.all():
        raise InputError("the corpus holds augmented segments already; build it anew with the copies that you want")
    yield from corpus.segments()
    bounds = SegmentConfig(**corpus.config.get("segments", {}))
    shortest = max(config.min_frames, bounds.min_frames, ceil(bounds.min_seconds * corpus.rate_hz))
    longest = int(bounds.max_seconds * corpus.rate_hz)
    if config.copies():
        for segment in corpus.segments():
            if segment.split == "train":
                for name, qpos in _copies(segment.name, segment.qpos, config):
                    if len(qpos) >= shortest:
                        frames = qpos[:longest].astype(np.float32)
                        yield replace(segment, qpos=frames, name=name, origin=segment.name)


def _copies(
    name: str, qpos: Float[np.ndarray, "T 36"], config: AugmentConfig
) -> Iterator[tuple[str, Float[np.ndarray, "N 36"]]]:
    """Name and frames of each copy of a segment; the name says what was done to it."""
    for speed, mirrored, heading in config.copies():
        words = [f"x{speed:.2f}"] if speed != 1.0 else []
        words += ["mirrored"] if mirrored else []
        words += [f"turned{heading}"] if heading else []
        called = f"{name}~{'~'.join(words)}"
        copy = time_warp(qpos.astype(np.float64), speed)
        copy = mirror(copy) if mirrored else copy
        if heading:
            copy = turn(copy, np.random.default_rng([config.seed, 5, crc32(called.encode())]).uniform(-np.pi, np.pi))
        yield called, copy
