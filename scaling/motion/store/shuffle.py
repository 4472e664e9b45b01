"""Random permutations of any length that need no memory: an entry is computed from its place and a key."""

import numpy as np
from jaxtyping import UInt64

_ROUNDS = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)


def mix(x: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """Well mixed bits of a 64-bit number, one to one (SplitMix64's finaliser, Steele et al. 2014)."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def permuted(
    place: UInt64[np.ndarray, "n"], size: UInt64[np.ndarray, "n"], key: UInt64[np.ndarray, "n"]
) -> UInt64[np.ndarray, "n"]:
    """Entry `place` of the random permutation of 0 ... `size` - 1 that `key` names.

    A Feistel network on the next power of two (Luby and Rackoff 1988), walked on until it lands below `size`.
    """
    if np.any(place >= size):
        raise ValueError("every place must be below the size of its permutation")
    bits = np.frexp(np.maximum(size, 4).astype(np.float64) - 0.5)[1].astype(np.uint64)
    found = _feistel(place, bits, key)
    while len(out := np.flatnonzero(found >= size)):
        found[out] = _feistel(found[out], bits[out], key[out])
    return found


def _feistel(
    x: UInt64[np.ndarray, "n"], bits: UInt64[np.ndarray, "n"], key: UInt64[np.ndarray, "n"]
) -> UInt64[np.ndarray, "n"]:
    """A permutation of the numbers of `bits` bits: each half in turn is blurred by the other."""
    low_bits = bits // np.uint64(2)
    low_mask, high_mask = (_ONE << low_bits) - _ONE, (_ONE << (bits - low_bits)) - _ONE
    low, high = x & low_mask, x >> low_bits
    for turn in range(_ROUNDS):
        key = key + _GOLDEN
        if turn % 2:
            low = low ^ (mix(high ^ key) & low_mask)
        else:
            high = high ^ (mix(low ^ key) & high_mask)
    return (high << low_bits) | low
