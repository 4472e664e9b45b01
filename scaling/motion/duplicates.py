"""Clips that hold the same motion, whatever their format, rate, crop or side: found by a stretch of leg angles."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from scaling.motion.clip import Motion, resample
from scaling.robot.g1 import JOINT_NAMES

_EQUAL = 1e-5  # m and rad: what writing a clip as text may cost it
# The joints that every format holds: legs and the waist's yaw.
_COLUMNS = [place for place, name in enumerate(JOINT_NAMES) if place < 12 or name == "waist_yaw_joint"]
# Mirrored, left and right change places, and rolls and yaws their sign.
_SWAP = [*range(6, 12), *range(6), 12]
_SIGN = np.array([-1.0 if "roll" in JOINT_NAMES[place] or "yaw" in JOINT_NAMES[place] else 1.0 for place in _COLUMNS])


@dataclass(frozen=True)
class DuplicateConfig:
    """When two clips are the same.

    The liveliest `seconds` of one are laid over the other at `coarse_hz`; where they lie within `near_rad` (root mean
    square), they are compared at `fine_hz` to `same_rad` and to `same_part` of the stretch's own spread. A stretch that
    spreads less than `still_rad` tells nothing.
    """

    seconds: float = 3.0
    coarse_hz: float = 10.0
    fine_hz: float = 60.0
    near_rad: float = 0.15
    same_rad: float = 0.02
    same_part: float = 0.25
    still_rad: float = 0.03

    def __post_init__(self) -> None:
        if not 0 < self.same_rad < self.near_rad or not 0 < self.coarse_hz <= self.fine_hz or self.seconds <= 0:
            raise ValueError(f"thresholds and rates must be positive and in order: {self}")


@dataclass(frozen=True)
class Match:
    """Clips `first` and `second` (indices): the same motion, or its mirror image; `contained` if all of one lies in
    the other."""

    first: int
    second: int
    mirrored: bool
    contained: bool


def _legs(motion: Motion, rate_hz: float) -> Float[np.ndarray, "T 13"]:
    return resample(motion, rate_hz).qpos[:, 7:][:, _COLUMNS]


def mirror_legs(legs: Float[np.ndarray, "T 13"]) -> Float[np.ndarray, "T 13"]:
    """The angles of the mirrored motion."""
    return legs[:, _SWAP] * _SIGN


def _liveliest(legs: Float[np.ndarray, "T 13"], count: int) -> int:
    """First frame of the stretch of `count` frames that moves most."""
    stir = np.concatenate([[0.0], np.cumsum(np.square(np.diff(legs, axis=0)).sum(axis=1))])
    return int(np.argmax(stir[count - 1 :] - stir[: len(stir) - count + 1]))


def find_matches(motions: Sequence[Motion], config: DuplicateConfig | None = None) -> list[Match]:
    """Pairs of clips that share motion; those too short or too still to tell match only their equals."""
    config = config or DuplicateConfig()
    coarse = [_legs(motion, config.coarse_hz) for motion in motions]
    fine = [_legs(motion, config.fine_hz) for motion in motions]
    count = round(config.seconds * config.coarse_hz)
    probes: list[tuple[int, bool, int, np.ndarray]] = []
    for index, legs in enumerate(coarse):
        length = min(count, len(legs))
        if length < count // 2:
            continue
        start = _liveliest(legs, length)
        probe = legs[start : start + length]
        if probe.std(axis=0).max() < config.still_rad:
            continue
        probes += [(index, False, start, probe), (index, True, start, mirror_legs(probe))]
    found = {(match.first, match.second): match for match in _identical(motions)}
    for other, legs in enumerate(coarse):
        for index, mirrored, start, probe in probes:
            pair = (min(index, other), max(index, other))
            if index == other or pair in found or len(probe) > len(legs):
                continue
            place, gap = _nearest(probe, legs)
            if gap > config.near_rad:
                continue
            shift = _aligned(fine[index], fine[other], start, place, len(probe), mirrored, config)
            if shift is not None:
                found[pair] = Match(*pair, mirrored, _contained(fine[index], fine[other], shift, mirrored, config))
    return list(found.values())


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


def _nearest(probe: Float[np.ndarray, "n 13"], legs: Float[np.ndarray, "T 13"]) -> tuple[int, float]:
    """Where a stretch fits best, and the root mean square of what is left (rad), by the convolution theorem."""
    size, total = len(probe), len(legs)
    length = 1 << (total + size).bit_length()
    product = np.fft.rfft(legs, length, axis=0) * np.conj(np.fft.rfft(probe, length, axis=0))
    cross = np.fft.irfft(product.sum(axis=1), length)[: total - size + 1]
    energy = np.concatenate([[0.0], np.cumsum(np.square(legs).sum(axis=1))])
    squares = energy[size:] - energy[: total - size + 1] - 2.0 * cross + np.square(probe).sum()
    place = int(np.argmin(squares))
    return place, float(np.sqrt(max(squares[place], 0.0) / probe.size))


def _aligned(
    first: np.ndarray, second: np.ndarray, start: int, place: int, size: int, mirrored: bool, config: DuplicateConfig
) -> int | None:
    """Frames by which the second runs behind the first, at the fine rate, if the stretch is the same there."""
    ratio = config.fine_hz / config.coarse_hz
    begin, count = int(start * ratio), int((size - 1) * ratio)
    probe = first[begin : begin + count]
    probe = mirror_legs(probe) if mirrored else probe
    reach = int(1.5 * ratio)
    low = max(0, int(place * ratio) - reach)
    windows = sliding_window_view(second[low : int(place * ratio) + reach + count], len(probe), axis=0)
    gaps = np.sqrt(np.square(windows - probe.T).mean(axis=(1, 2)))
    best = int(np.argmin(gaps))
    spread = float(np.sqrt(probe.var(axis=0).mean()))
    return low + best - begin if gaps[best] < min(config.same_rad, config.same_part * spread) else None


def _contained(first: np.ndarray, second: np.ndarray, shift: int, mirrored: bool, config: DuplicateConfig) -> bool:
    """Whether the shorter lies in the longer (but for a tenth at its ends) and is the same all along."""
    start, end = max(0, -shift), min(len(first), len(second) - shift)
    if end - start < 0.9 * min(len(first), len(second)):
        return False
    ours = mirror_legs(first[start:end]) if mirrored else first[start:end]
    return bool(np.sqrt(np.square(ours - second[start + shift : end + shift]).mean()) < 2.0 * config.same_rad)


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
