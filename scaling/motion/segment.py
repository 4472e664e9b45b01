"""Takes cut into segments at calm frames, and the names of the splits that they are dealt to."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion.clip import velocities

TEST_FAMILY = "test_family"  # families held out as wholes (`holdout`); recordings are dealt to the others
DEALT = ("train", "val", "test")
SPLITS = (*DEALT, TEST_FAMILY)
# A cut may move this share of a piece's length away from where equal pieces would have it, to a calmer frame.
_FREEDOM = 0.2


@dataclass(frozen=True)
class SegmentConfig:
    """Lengths (s) of segments; a take shorter than `min_seconds` or `min_frames` (at 50 Hz) is refused by name.

    `min_frames` is what the student needs: its context.
    """

    min_seconds: float = 4.0
    target_seconds: float = 10.0
    max_seconds: float = 20.0
    min_frames: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds <= self.target_seconds <= self.max_seconds:
            raise ValueError(
                f"segment lengths min {self.min_seconds}, target {self.target_seconds}, max {self.max_seconds} s "
                "must be positive and in this order"
            )
        if self.max_seconds < 2 * self.min_seconds:
            raise ValueError(
                f"max_seconds {self.max_seconds} must be at least twice min_seconds {self.min_seconds}, "
                "or some takes cannot be cut"
            )
        if self.min_frames < 2:
            raise ValueError(f"min_frames {self.min_frames} must be at least 2")


def cut(qpos: Float[np.ndarray, "T 36"], rate_hz: float, config: SegmentConfig) -> list[tuple[int, int]]:
    """(start, length) in frames of the segments that cover a take; `InputError` if it is too short."""
    count = len(qpos)
    if count < config.min_frames:
        raise InputError(
            f"{count} frames at {rate_hz:g} Hz, fewer than the {config.min_frames} of the student's context; "
            "give a longer clip."
        )
    shortest, longest = int(np.ceil(config.min_seconds * rate_hz)), int(config.max_seconds * rate_hz)
    if count < shortest:
        raise InputError(
            f"{count / rate_hz:.2f} s, shorter than the shortest segment of {config.min_seconds:g} s; "
            "give a longer clip or lower min_seconds (of an import --min-seconds)."
        )
    pieces = round(count / (config.target_seconds * rate_hz))
    pieces = int(np.clip(pieces, int(np.ceil(count / longest)), count // shortest))
    stir = np.abs(velocities(qpos, rate_hz)[:, 6:]).mean(axis=1)
    edges = [0]
    for piece in range(1, pieces):
        even = piece * count / pieces
        freedom = _FREEDOM * count / pieces
        left = pieces - piece
        low = max(even - freedom, edges[-1] + shortest, count - left * longest)
        high = min(even + freedom, edges[-1] + longest, count - left * shortest)
        low, high = int(np.ceil(low)), int(np.floor(high))
        edges.append(low + int(np.argmin(stir[low : high + 1])) if high > low else low)
    edges.append(count)
    return [(start, end - start) for start, end in pairwise(edges)]
