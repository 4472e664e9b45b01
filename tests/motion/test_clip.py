"""The Motion value: velocities are MuJoCo's, resampling is exact where motion is simple, bad clips are refused."""

from dataclasses import replace

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.clip import Motion, clean, continuous, resample, validate, velocities
from scaling.robot.g1 import standing_qpos
from scaling.robot.model import build_model
from scaling.robot.rotations import angle_between, from_rotation_vector, normalise, quat_mul


def tumbling(frames: int = 40, seed: int = 0) -> np.ndarray:
    """A clip whose root turns about all axes with random quaternion signs."""
    rng = np.random.default_rng(seed)
    qpos = np.tile(standing_qpos(), (frames, 1)) + 0.1 * rng.standard_normal((frames, 36)).cumsum(axis=0)
    quat = normalise(rng.standard_normal(4))
    for frame in range(frames):
        quat = quat_mul(quat, from_rotation_vector(0.2 * rng.standard_normal(3)))
        qpos[frame, 3:7] = quat * rng.choice([-1.0, 1.0])
    return qpos


def still(frames: int = 40, rate_hz: float = 50.0, name: str = "still") -> Motion:
    return Motion(np.tile(standing_qpos(), (frames, 1)), rate_hz, name)


def test_velocities_are_mujocos_finite_differences() -> None:
    qpos, rate = tumbling(), 60.0
    model, expected = build_model(), np.empty((len(qpos) - 1, 35))
    for frame in range(len(qpos) - 1):
        mujoco.mj_differentiatePos(model, expected[frame], 1.0 / rate, qpos[frame], qpos[frame + 1])
    found = velocities(qpos, rate)
    np.testing.assert_allclose(found[:-1], expected, atol=1e-9 * rate)
    np.testing.assert_array_equal(found[-1], found[-2])


def test_velocities_are_the_same_in_jax() -> None:
    qpos = tumbling()
    found = velocities(jnp.asarray(qpos, dtype=jnp.float32), 50.0)
    np.testing.assert_allclose(np.asarray(found), velocities(qpos, 50.0), atol=2e-4)


def test_velocity_of_a_single_frame_is_zero() -> None:
    np.testing.assert_array_equal(velocities(standing_qpos()[None], 50.0), np.zeros((1, 35)))


def test_resampling_steady_motion_is_exact() -> None:
    """A root that moves and turns at constant rates is the same motion at any frame rate."""

    def at(time: np.ndarray) -> np.ndarray:
        qpos = np.tile(standing_qpos(), (len(time), 1))
        qpos[:, 0] += 0.7 * time
        qpos[:, 10] -= 0.3 * time
        qpos[:, 3:7] = from_rotation_vector(np.outer(time, [0.5, -1.0, 2.0]))
        return qpos

    slow = Motion(at(np.arange(31) / 30.0), 30.0, "turn")
    fast = resample(slow, 50.0)
    assert fast.rate_hz == 50.0
    assert fast.frames == 51  # both ends of one second
    expected = at(np.arange(51) / 50.0)
    np.testing.assert_allclose(
        fast.qpos[:, [0, 1, 2, *range(7, 36)]], expected[:, [0, 1, 2, *range(7, 36)]], atol=1e-12
    )
    assert angle_between(fast.qpos[:, 3:7], expected[:, 3:7]).max() < 1e-9


@pytest.mark.parametrize("rate", [29.76, 30.0, 59.99999, 60.0, 120.0])
def test_resampling_keeps_ends_and_every_frame_in_between(rate: float) -> None:
    motion = Motion(tumbling(101), rate, "tumble")
    there = resample(motion, 50.0)
    assert 0 <= (motion.frames - 1) / rate - (there.frames - 1) / 50.0 < 1 / 50.0
    np.testing.assert_allclose(there.qpos[0, 7:], motion.qpos[0, 7:])
    np.testing.assert_allclose(np.linalg.norm(there.qpos[:, 3:7], axis=1), 1.0, atol=1e-12)
    assert np.all(np.sum(there.qpos[1:, 3:7] * there.qpos[:-1, 3:7], axis=1) > 0)


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    motion = Motion(tumbling(), 50.0, "tumble")
    assert resample(motion, 50.0) is motion


def test_signs_are_made_continuous_without_changing_the_rotation() -> None:
    quat = tumbling()[:, 3:7]
    smooth = continuous(quat)
    assert np.all(np.sum(smooth[1:] * smooth[:-1], axis=1) > 0)
    assert angle_between(quat, smooth).max() < 1e-7


def test_small_norm_errors_are_repaired_and_noted() -> None:
    motion = still()
    qpos = motion.qpos.copy()
    qpos[:, 3:7] *= 1.02
    repaired = clean(replace(motion, qpos=qpos))
    np.testing.assert_allclose(repaired.qpos, motion.qpos, atol=1e-12)
    assert "2.0 %" in repaired.notes[0]


@pytest.mark.parametrize("wrong", ["nan", "inf", "norm", "zero norm", "columns", "rate", "one frame"])
def test_a_bad_clip_is_refused_in_a_sentence_that_names_it(wrong: str) -> None:
    qpos, rate = np.tile(standing_qpos(), (20, 1)), 50.0
    if wrong in ("nan", "inf"):
        qpos[7, 12] = float(wrong)
    elif wrong == "norm":
        qpos[7, 3:7] *= 1.2
    elif wrong == "zero norm":
        qpos[7, 3:7] = 0.0
    elif wrong == "columns":
        qpos = qpos[:, :-2]
    elif wrong == "rate":
        rate = 0.0
    else:
        qpos = qpos[:1]
    with pytest.raises(InputError, match=r"^folder/walk\.csv: ") as caught:
        validate(Motion(qpos, rate, "walk", source="folder/walk.csv"))
    if wrong in ("nan", "inf"):
        assert "frame 7" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_group_of_a_clip_is_itself_unless_told() -> None:
    assert still().group == "still"
    assert replace(still(), group="session").group == "session"
