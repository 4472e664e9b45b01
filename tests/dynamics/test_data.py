"""Transitions go on from each other, failures are kept, and windows never cross an ending."""

import jax
import numpy as np
import pytest

from scaling.dynamics.data import CollectConfig, Transitions, collect, gather, join, window_starts
from scaling.errors import InputError
from tests.dynamics.conftest import COLLECT


def test_rows_go_on_from_each_other_and_failures_are_kept(data):
    goes_on = ~data.ends[:-1]
    np.testing.assert_array_equal(data.next_qpos[:-1][goes_on], data.qpos[1:][goes_on])
    np.testing.assert_array_equal(data.next_qvel[:-1][goes_on], data.qvel[1:][goes_on])
    assert data.failed.any() and not data.failed.all()
    # The step that failed is there, and what follows it until the episode is given up.
    first = np.flatnonzero(data.failed[1:] & ~data.failed[:-1] & ~data.ends[:-1]) + 1
    kept = [row for row in first if not data.ends[row]]
    assert kept and all(data.failed[row + 1] for row in kept)
    assert data.ends[COLLECT.steps - 1 :: COLLECT.steps].all()


def test_a_window_never_crosses_an_ending_or_a_state_that_is_not_finite(data):
    qpos = data.qpos.copy()
    qpos[10] = np.nan
    broken = data._replace(qpos=qpos)
    starts = window_starts(broken, 8)
    rows = starts[:, None] + np.arange(8)
    assert not data.ends[rows[:, :-1]].any()
    assert not (rows == 10).any()
    assert data.ends[rows[:, -1]].any()
    assert set(window_starts(data, 8)) - set(starts) <= set(range(3, 11))
    window = gather(data, starts, 8)
    np.testing.assert_array_equal(window.target.qpos[:, :-1], data.qpos[rows[:, 1:]])
    assert window.ctrl.shape == (len(starts), 8, 29)


def test_joined_collections_keep_their_windows_apart(data):
    both = join([data, data])
    assert len(window_starts(both, 8)) == 2 * len(window_starts(data, 8))


def test_the_same_key_collects_the_same(env, make_task, data):
    again = collect(jax.random.key(3), env, make_task(), COLLECT)
    for name, one, other in zip(Transitions._fields, data, again, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_what_the_model_could_not_see_is_refused(env, make_task, data):
    with pytest.raises(InputError, match=r"assist 0\.5"):
        collect(jax.random.key(0), env, make_task(0.5), COLLECT)
    with pytest.raises(InputError, match="no window of 76"):
        window_starts(data, 76)
    with pytest.raises(ValueError, match="noise -1"):
        CollectConfig(noise=-1)
