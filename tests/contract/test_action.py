"""A zero action is the reference at the end of the step; nothing leaves the joints' limits."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.action import ACTION_LIMIT, decode_action
from scaling.motion.clip import velocities
from scaling.motion.synthetic import generate
from scaling.robot.g1 import ACTION_SCALE, RANGE_HIGH, RANGE_LOW


@pytest.fixture(scope="module")
def clip():
    """`qpos` and `qvel` of half a second of squats."""
    qpos = generate("squat", 4.0, 0).qpos[25:50]
    return qpos, velocities(qpos, 50.0)


def test_zero_action_plays_the_next_frame(clip):
    qpos, qvel = clip
    target = decode_action(np.zeros((24, 29)), qpos[:-1], qvel[:-1])
    assert np.abs(qpos[1:] - qpos[:-1]).max() > 0.01
    np.testing.assert_allclose(target, np.clip(qpos[1:, 7:], RANGE_LOW, RANGE_HIGH), atol=1e-12)


def test_an_action_is_a_share_of_the_motors_reach(clip):
    qpos, qvel = clip[0][0], np.zeros(35)
    np.testing.assert_allclose(decode_action(np.full(29, 0.1), qpos, qvel) - qpos[7:], 0.1 * ACTION_SCALE, atol=1e-12)


@pytest.mark.parametrize(("sign", "limit"), [(1.0, RANGE_HIGH), (-1.0, RANGE_LOW)])
def test_no_target_leaves_the_limits(clip, sign, limit):
    qpos, qvel = clip[0][0].copy(), np.zeros(35)
    qpos[7:] = limit
    np.testing.assert_allclose(decode_action(np.full(29, sign), qpos, qvel), limit)
    qpos[7:] = 0.5 * (RANGE_LOW + RANGE_HIGH)
    far, farther = (decode_action(np.full(29, sign * size), qpos, qvel) for size in (ACTION_LIMIT, 1e6))
    np.testing.assert_array_equal(far, farther)


def test_numpy_and_jax_decode_alike(clip):
    qpos, qvel = (x.astype(np.float32) for x in clip)
    action = np.random.default_rng(0).normal(size=(25, 29)).astype(np.float32) * 3
    np.testing.assert_allclose(
        decode_action(*map(jnp.asarray, (action, qpos, qvel))), decode_action(action, qpos, qvel), atol=1e-6
    )
