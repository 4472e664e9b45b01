"""Takes cut into segments at calm frames, and recording groups dealt to train, val and test."""

from collections.abc import Sequence
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
            f"{count / rate_hz:.1f} s, shorter than the shortest segment of {config.min_seconds:g} s; "
            "give a longer clip or lower min_seconds."
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


def split_groups(
    groups: Sequence[str], families: Sequence[str], *, val: float, test: float, seed: int
) -> dict[str, str]:
    """Split of each recording group: at least one group each from three groups on, spread evenly over families.

    Groups are shuffled within their family, families laid end to end, and every n-th group is held out. Each family
    keeps one group for training as long as the others suffice. One group is all train; two are train and val.
    """
    family_of: dict[str, str] = {}
    for group, family in zip(groups, families, strict=True):
        family_of.setdefault(group, family)
    rng = np.random.default_rng([seed, 1])
    order: list[str] = []
    kept: list[str] = []
    for family in sorted(set(family_of.values())):
        members = sorted(group for group, its in family_of.items() if its == family)
        shuffled = [members[index] for index in rng.permutation(len(members))]
        kept.append(shuffled[0])
        order += shuffled[1:]
    split = dict.fromkeys(family_of, "train")
    count = len(family_of)
    wanted = {name: max(1, round(share * count)) if share > 0 else 0 for name, share in (("val", val), ("test", test))}
    if count < 3:
        wanted = {"val": min(wanted["val"], count - 1), "test": 0}
    elif sum(wanted.values()) > count - 1:
        wanted = {name: min(number, 1) for name, number in wanted.items()}
    if sum(wanted.values()) > len(order):
        order += [kept[index] for index in rng.permutation(len(kept))]
    for shift, (name, number) in zip((0.0, 0.5), wanted.items(), strict=True):
        for index in range(number):
            place = int((index + shift + 0.25) * len(order) / number)
            while split[order[place % len(order)]] != "train":
                place += 1
            split[order[place % len(order)]] = name
    return split
