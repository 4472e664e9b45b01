"""Orders of segments: every one a permutation, each with the property that it is chosen for."""

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.arms import stratified_order
from scaling.motion.selection import SELECTIONS, complex_order, farthest_order, selection_order


def blobs() -> np.ndarray:
    """Ninety rows in one place and five loners, far from it and from each other."""
    near = 0.1 * np.random.default_rng(0).standard_normal((90, 3))
    return np.concatenate([near, [[10, 0, 0], [-10, 0, 0], [0, 10, 0], [0, -10, 0], [0, 0, 10]]])


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_order_is_a_permutation_and_its_seeds(selection: str) -> None:
    labels, features = np.arange(95) % 4, blobs()
    effort = np.arange(1.0, 96.0)
    one, again, other = (selection_order(selection, labels, features, effort, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(np.sort(one), np.arange(95))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_farthest_covers_what_chance_would_miss() -> None:
    for seed in range(5):
        assert set(range(90, 95)) <= set(farthest_order(blobs(), seed)[:6].tolist())


def test_copies_come_last_by_distance() -> None:
    features = np.concatenate([np.eye(6), np.eye(6)])
    order = farthest_order(features, 0)
    assert {index % 6 for index in order[:6]} == set(range(6))


def test_complexity_is_a_chance_and_none_comes_last() -> None:
    effort = np.repeat([0.0, 1.0, 4.0], 200)
    first = np.concatenate([complex_order(effort, seed)[:60] for seed in range(20)])
    counts = np.array([(effort[first] == value).sum() for value in (0.0, 1.0, 4.0)])
    assert counts[0] == 0
    assert 3.0 < counts[2] / counts[1] < 5.0
    assert set(complex_order(effort, 0)[400:].tolist()) == set(range(200))


def test_stratified_is_what_it_was() -> None:
    labels = np.arange(40) % 3
    chosen = selection_order("stratified", labels, None, np.zeros(40), 5)
    np.testing.assert_array_equal(chosen, stratified_order(labels, 5))


def test_what_cannot_be_ordered_is_told() -> None:
    with pytest.raises(InputError, match="no features"):
        selection_order("farthest", np.zeros(3, int), None, np.zeros(3), 0)
    with pytest.raises(InputError, match="'best' is unknown; choose one of stratified"):
        selection_order("best", np.zeros(3, int), None, np.zeros(3), 0)
    with pytest.raises(InputError, match="not negative"):
        complex_order(np.array([1.0, -1.0]), 0)
