"""Clips that hold the same motion, whatever their format, rate, crop, side or pace: found by stretches of legs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from scaling.motion.augment import MIRROR_JOINTS, MIRROR_SIGNS, SPEEDS
from scaling.motion.clip import Motion
from scaling.motion.nearest import Table
from scaling.record.progress import track
from scaling.robot.g1 import JOINT_NAMES

_MANY = 16  # clips from which a bar is worth showing
_EQUAL = 1e-5  # m and rad: what writing a clip as text may cost it
# The joints that every format holds: legs and the waist's yaw.
_COLUMNS = [place for place, name in enumerate(JOINT_NAMES) if place < 12 or name == "waist_yaw_joint"]
_PLACES = [7 + place for place in _COLUMNS]  # in qpos
_SWAP = [_COLUMNS.index(place) for place in MIRROR_JOINTS[_COLUMNS]]
_SIGN = MIRROR_SIGNS[_COLUMNS]
# How far from a coarse pace the exact one may be: half of the steps between them, in ever finer steps.
_PACES = (np.linspace(-0.025, 0.025, 11), np.linspace(-0.004, 0.004, 9))


@dataclass(frozen=True)
class DuplicateConfig:
    """When two clips are the same.

    The liveliest `seconds` of each `block_seconds` of one are laid over the other at `coarse_hz`; where they lie within
    `near_rad` (root mean square), they are compared at `fine_hz` to `same_rad` and to `same_part` of the stretch's own
    spread. A stretch that spreads less than `still_rad` tells nothing. So clips that share twice `block_seconds` of
    moving legs share a whole stretch. The liveliest of a clip is tried at each of `speeds`, and at the fine rate
    between them, as it is and mirrored.
    """

    seconds: float = 3.0
    block_seconds: float = 6.0
    coarse_hz: float = 10.0
    fine_hz: float = 60.0
    near_rad: float = 0.15
    same_rad: float = 0.02
    same_part: float = 0.25
    still_rad: float = 0.03
    speeds: tuple[float, ...] = SPEEDS

    def __post_init__(self) -> None:
        if not 0 < self.same_rad < self.near_rad or not 0 < self.coarse_hz <= self.fine_hz or self.seconds <= 0:
            raise ValueError(f"thresholds and rates must be positive and in order: {self}")
        if self.block_seconds < self.seconds:
            raise ValueError(f"block_seconds {self.block_seconds}: at least seconds {self.seconds}")
        if 1.0 not in self.speeds or min(self.speeds) <= 0.1:
            raise ValueError(f"speeds {self.speeds}: above .1, and 1 among them")


@dataclass(frozen=True)
class Match:
    """Clips `first` and `second` (indices): the same motion or its mirror image; `contained` if all of one lies in the
    other. The second is `speed` times as fast."""

    first: int
    second: int
    mirrored: bool
    contained: bool
    speed: float = 1.0

    @property
    def copy(self) -> bool:
        """Whether the two are one motion, neither mirrored nor warped, and one of them can be left out."""
        return self.contained and not self.mirrored and self.speed == 1.0


def _last(motion: Motion) -> float:
    """The second of a clip's last frame."""
    return (motion.frames - 1) / motion.rate_hz


def _legs_at(motion: Motion, seconds: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 13"]:
    """The angles at some times, linear between frames; before the first frame and behind the last as there."""
    at = np.clip(seconds * motion.rate_hz, 0.0, motion.frames - 1)
    low = np.minimum(np.floor(at + 1e-9).astype(int), max(motion.frames - 2, 0))
    high = np.minimum(low + 1, motion.frames - 1)
    below, above = (motion.qpos[rows][:, _PLACES] for rows in (low, high))
    return below + np.clip(at - low, 0.0, 1.0)[:, None] * (above - below)


def _legs(motion: Motion, rate_hz: float) -> Float[np.ndarray, "T 13"]:
    """The angles of a whole clip at another rate, in single precision: for the coarse search."""
    return _legs_at(motion, np.arange(int(_last(motion) * rate_hz + 1e-9) + 1) / rate_hz).astype(np.float32)


def mirror_legs(legs: Float[np.ndarray, "T 13"]) -> Float[np.ndarray, "T 13"]:
    """The angles of the mirrored motion."""
    return legs[:, _SWAP] * _SIGN


def _liveliest(legs: Float[np.ndarray, "T 13"], count: int, block: int) -> list[int]:
    """First frames of the stretches of `count` frames that move most in each `block` frames, the liveliest first."""
    stir = np.concatenate([[0.0], np.cumsum(np.square(np.diff(legs, axis=0)).sum(axis=1))])
    moved = stir[count - 1 :] - stir[: len(stir) - count + 1]
    edges = range(0, len(moved), block)
    firsts = [edge + int(np.argmax(moved[edge : max(edge + 1, edge + block - count + 1)])) for edge in edges]
    whole = int(np.argmax(moved))
    return [whole, *(first for first in firsts if first != whole)]


@dataclass(frozen=True)
class _Probe:
    """A lively stretch of a clip as it would be played `speed` times as fast, from second `start` of the clip."""

    clip: int
    mirrored: bool
    speed: float
    start: float
    legs: Float[np.ndarray, "n 13"]


def _tabled(alike: list[_Probe]) -> tuple[Table, list[_Probe]]:
    """Probes of one length and their table, whose rows they then are: stretches are in memory once."""
    stretches = np.stack([probe.legs for probe in alike]).astype(np.float32, copy=False)
    for number, legs in enumerate(stretches):
        alike[number] = replace(alike[number], legs=legs)
    return Table(stretches), alike


def find_matches(motions: Sequence[Motion], config: DuplicateConfig | None = None) -> list[Match]:
    """Pairs of clips that share motion; those too short or too still to tell match only their equals."""
    config = config or DuplicateConfig()
    probes = [probe for clip, motion in enumerate(motions) for probe in _probes(clip, motion, config)]
    sizes: dict[int, list[_Probe]] = {}
    for probe in probes:
        sizes.setdefault(len(probe.legs), []).append(probe)
    del probes
    tables = [_tabled(alike) for alike in sizes.values()]
    del sizes
    found = {(match.first, match.second): (0.0, match) for match in _identical(motions)}
    for other, motion in enumerate(track(motions, "looking for copies") if len(motions) > _MANY else motions):
        legs = _legs(motion, config.coarse_hz)
        for table, alike in tables:
            for number, place in table.near(legs, config.near_rad):
                probe = alike[number]
                pair = (min(probe.clip, other), max(probe.clip, other))
                if probe.clip == other or (pair in found and found[pair][0] == 0.0):
                    continue
                fitted = _match(motions, probe, other, place, config)
                # Of several ways to be alike the closest counts: a gait is nearly its own mirror image.
                if fitted is not None and (pair not in found or fitted[0] < found[pair][0]):
                    found[pair] = fitted
    return [match for _, match in found.values()]


def _probes(clip: int, motion: Motion, config: DuplicateConfig) -> list[_Probe]:
    """What to look for in other clips; nothing of a clip that is too short or too still."""
    count, block = (round(seconds * config.coarse_hz) for seconds in (config.seconds, config.block_seconds))
    found = []
    for speed in sorted(config.speeds, key=lambda speed: abs(speed - 1.0)):
        legs = _legs(motion, config.coarse_hz / speed)
        length = min(count, len(legs))
        if length < count // 2:
            continue
        for place, start in enumerate(_liveliest(legs, length, block)):
            probe = legs[start : start + length].copy()  # a view would keep the whole clip
            if (place and speed != 1.0) or probe.std(axis=0).max() < config.still_rad:
                continue
            second = start * speed / config.coarse_hz
            found += [_Probe(clip, False, speed, second, probe), _Probe(clip, True, speed, second, mirror_legs(probe))]
    return found


def _match(
    motions: Sequence[Motion], probe: _Probe, other: int, place: int, config: DuplicateConfig
) -> tuple[float, Match] | None:
    """What is left (rad) of a candidate at the fine rate, if it is a match; a warped one at the pace that fits best."""
    first, second = motions[probe.clip], motions[other]
    steps = np.arange(round((len(probe.legs) - 1) * config.fine_hz / config.coarse_hz)) / config.fine_hz
    reach = 1.5 / config.coarse_hz
    earliest = max(0.0, place / config.coarse_hz - reach)
    near = _legs_at(second, np.arange(earliest, place / config.coarse_hz + reach + steps[-1], 1.0 / config.fine_hz))
    windows = sliding_window_view(near, len(steps), axis=0)

    def fit(speed: float) -> tuple[float, float, int]:
        """What is left (rad), the pace, and the frame of `near` where the stretch fits best at this pace."""
        stretch = _legs_at(first, probe.start + steps * speed)
        stretch = mirror_legs(stretch) if probe.mirrored else stretch
        gaps = np.sqrt(np.square(windows - stretch.T).mean(axis=(1, 2)))
        return float(gaps.min()), speed, int(gaps.argmin())

    spread = float(np.sqrt(probe.legs.var(axis=0).mean()))
    same = min(config.same_rad, config.same_part * spread)
    best = fit(probe.speed)
    if probe.speed != 1.0:
        # Another pace moves the ends against the middle by so many seconds: what is left cannot fall by more.
        hurry = float(np.sqrt(np.square(np.diff(probe.legs, axis=0)).mean())) * config.coarse_hz
        if best[0] >= same + hurry * (_PACES[0][-1] + _PACES[1][-1]) * steps[-1] / 2.0:
            return None
        for closer in _PACES:
            best = min(fit(best[1] + step) for step in closer)
    gap, speed, frame = best
    if gap >= same:
        return None
    contained = _contained(first, second, probe, speed, earliest + frame / config.fine_hz, config)
    pair = (min(probe.clip, other), max(probe.clip, other))
    return gap, Match(*pair, probe.mirrored, contained, speed if probe.clip < other else 1.0 / speed)


def _contained(first: Motion, second: Motion, probe: _Probe, speed: float, at: float, config: DuplicateConfig) -> bool:
    """Whether the shorter lies in the longer (but for a tenth at its ends) and is the same all along.

    Second `probe.start` of the first clip is second `at` of the other.
    """
    lengths = (_last(first) / speed, _last(second))
    begin = max(0.0, at - probe.start / speed)
    end = min(lengths[1], at + (_last(first) - probe.start) / speed)
    if end - begin < 0.9 * min(lengths):
        return False
    times = np.arange(begin, end, 1.0 / config.fine_hz)
    ours = _legs_at(first, probe.start + (times - at) * speed)
    gap = (mirror_legs(ours) if probe.mirrored else ours) - _legs_at(second, times)
    return bool(np.sqrt(np.square(gap).mean()) < 2.0 * config.same_rad)


def _identical(motions: Sequence[Motion]) -> list[Match]:
    """Pairs with the same frames, which may stand still and be short."""
    by_length: dict[int, list[int]] = {}
    for index, motion in enumerate(motions):
        by_length.setdefault(motion.frames, []).append(index)
    return [
        Match(first, second, mirrored=False, contained=True)
        for alike in by_length.values()
        for first, second in combinations(alike, 2)
        if np.abs(motions[first].qpos - motions[second].qpos).max() < _EQUAL
    ]


def groups_of(count: int, matches: Sequence[Match]) -> list[list[int]]:
    """Sets of clips (by index, two or more) that matches tie together."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for match in matches:
        first, second = sorted((root(match.first), root(match.second)))
        parent[second] = first
    members: dict[int, list[int]] = {}
    for index in range(count):
        members.setdefault(root(index), []).append(index)
    return [group for group in members.values() if len(group) > 1]
