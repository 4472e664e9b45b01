"""Aggregation keeps an even sample of all rounds, and the stream of batches is a function of the update alone."""

import numpy as np
import pytest

from scaling.distill.buffer import Batch, Buffer
from scaling.distill.data import Stream
from scaling.errors import InputError


def numbered(first, count=6, runs=2):
    """A round whose every value is the number of its sequence (a thousand more in the second run)."""
    number = first + np.arange(count)[None] + 1000 * np.arange(runs)[:, None]
    obs = np.broadcast_to(number[..., None, None], (runs, count, 3, 5)).astype(np.float32)
    return Batch(obs, np.zeros((runs, count, 3), bool), obs[..., :2].copy())


def held(buffer):
    index = np.broadcast_to(np.arange(len(buffer)), (2, len(buffer)))
    return np.asarray(buffer.take(index).obs)[:, :, 0, 0].astype(int)


def test_all_rounds_stay_while_there_is_room():
    buffer = Buffer(limit_mb=1.0, most=18)
    for round_ in range(3):
        buffer.add(numbered(10 * round_))
    assert list(held(buffer)[0]) == [*range(6), *range(10, 16), *range(20, 26)]


def test_a_full_buffer_is_an_even_sample_of_all_rounds():
    size = 3 * (5 + 2) * 4 + 3
    kept = np.zeros(4)
    for seed in range(40):
        buffer = Buffer(8 * size / 2**20, 24, seed=seed)
        for round_ in range(4):
            buffer.add(numbered(10 * round_))
        assert len(buffer) == 8
        numbers = held(buffer)
        np.testing.assert_array_equal(numbers[0] + 1000, numbers[1])
        kept += np.bincount(numbers[0] // 10, minlength=4)
    share = kept / kept.sum()
    assert np.abs(share - 0.25).max() < 0.08


def test_on_policy_the_latest_round_alone_is_held():
    buffer = Buffer(1.0, 6, "on_policy")
    for round_ in range(3):
        buffer.add(numbered(10 * round_))
        assert list(held(buffer)[0]) == [*range(10 * round_, 10 * round_ + 6)]
    assert buffer.rounds == 3


def test_a_budget_that_holds_no_sequence_is_refused():
    with pytest.raises(InputError, match=r"raise dagger\.buffer_mb or lower dagger\.steps"):
        Buffer(80 / 2**20, 6).add(numbered(0))


def test_each_epoch_visits_every_sequence_once_in_an_order_of_the_runs_own():
    buffer = Buffer(1.0, 6)
    buffer.add(numbered(0))
    stream = Stream(buffer, [3, 4], batch=4)
    seen = np.concatenate([stream.indices(position) for position in range(6)], axis=1)
    for epoch in range(4):
        for run in range(2):
            assert sorted(seen[run, 6 * epoch : 6 * epoch + 6]) == list(range(6))
    assert (seen[0] != seen[1]).any()
    assert (seen[0, :6] != seen[0, 6:12]).any()


@pytest.mark.parametrize("threads", [1, 3])
def test_grain_reads_ahead_in_order(threads):
    buffer = Buffer(1.0, 6)
    buffer.add(numbered(0))
    stream = Stream(buffer, [3, 4], batch=4)
    read = list(stream.batches(2, 9, threads))
    assert len(read) == 7
    for position, batch in enumerate(read, start=2):
        for found, wanted in zip(batch, stream.at(position), strict=True):
            np.testing.assert_array_equal(found, wanted)
