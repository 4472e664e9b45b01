"""Nested data arms: each fraction of the training segments contains the smaller ones, stratified by one labelling."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from scaling.errors import InputError

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def stratified_order(labels: Int[np.ndarray, "n"], seed: int) -> Int[np.ndarray, "n"]:
    """A random order every prefix of which holds the strata in nearly their shares of the whole."""
    rng = np.random.default_rng([seed, 2])
    key = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        key[members] = (np.arange(len(members)) + rng.uniform()) / len(members)
    return np.argsort(key, kind="stable")


def nested_prefixes(
    order: Int[np.ndarray, "n"], frames: Float[np.ndarray, "n"], fractions: Sequence[float]
) -> dict[float, Int[np.ndarray, "m"]]:
    """Fraction -> sorted positions: the prefix of `order` whose frames come nearest to the fraction of all frames."""
    wanted = sorted(fractions)
    if not wanted or wanted[0] <= 0 or wanted[-1] > 1 or len(set(wanted)) != len(wanted):
        raise InputError(f"arm fractions {list(fractions)} must be distinct and in (0, 1].")
    if len(order) < len(wanted):
        raise InputError(
            f"{len(order)} training segments cannot make {len(wanted)} different nested arms; "
            "give more motion or cut shorter segments."
        )
    total = np.concatenate([[0.0], np.cumsum(frames[order])])
    arms: dict[float, np.ndarray] = {}
    taken = 0
    for place, fraction in enumerate(wanted):
        nearest = len(order) if fraction == 1.0 else int(np.argmin(np.abs(total - fraction * total[-1])))
        left = len(wanted) - 1 - place
        taken = int(np.clip(nearest, taken + 1, len(order) - left))
        arms[fraction] = np.sort(order[:taken])
    return arms
