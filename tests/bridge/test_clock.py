"""A rate that holds its grid whatever the work costs."""

import numpy as np
import pytest

from scaling.bridge.clock import FixedRate, VirtualClock, WallClock


def starts(work, ticks=100, period=0.02):
    """(rate, instants at which ticks began) when tick n then takes `work(n)` seconds."""
    clock = VirtualClock()
    rate = FixedRate(clock, period)
    began = []
    for n in range(ticks):
        rate.wait()
        began.append(clock.now())
        clock.sleep_until(clock.now() + work(n))
    return rate, np.array(began)


def test_work_within_the_period_does_not_drift():
    rng = np.random.default_rng(0)
    rate, began = starts(lambda n: 0.019 * rng.random(), ticks=1000)
    np.testing.assert_allclose(began, 0.02 * np.arange(1, 1001), atol=1e-9)
    assert (rate.overruns, rate.skipped) == (0, 0)


def test_a_late_tick_runs_at_once_and_the_grid_is_kept():
    rate, began = starts(lambda n: 0.025 if n == 10 else 0.001)
    grid = 0.02 * np.arange(1, 101)
    late = began - grid
    assert late[11] == pytest.approx(0.005)
    np.testing.assert_allclose(np.delete(late, 11), 0, atol=1e-9)
    assert (rate.overruns, rate.skipped) == (1, 0)
    assert max(rate.lateness) == pytest.approx(0.005)


def test_ticks_that_have_gone_by_are_skipped_and_counted():
    rate, began = starts(lambda n: 0.075 if n == 10 else 0.001)
    assert rate.skipped == 2
    assert rate.overruns == 1
    assert rate.tick == 102
    np.testing.assert_allclose(began[12:], 0.02 * np.arange(15, 103), atol=1e-9)


def test_always_too_slow_is_always_an_overrun():
    rate, _ = starts(lambda n: 0.03, ticks=50)
    assert rate.overruns == 49


def test_the_wall_clock_passes_in_seconds():
    clock = WallClock()
    rate = FixedRate(clock, 0.005)
    for _ in range(20):
        rate.wait()
    assert clock.now() >= 0.1
    assert rate.tick == 20 + rate.skipped
