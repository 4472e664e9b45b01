"""Generated motion: deterministic, on the floor, within limits, and balanced by C MuJoCo's inverse dynamics."""

from functools import lru_cache

import mujoco
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.balance import centre_of_mass, mass_points, pendulum, quat_from_rpy
from scaling.motion.clip import Motion, velocities
from scaling.motion.legs import leg_chain, solve_leg
from scaling.motion.quality import quality
from scaling.motion.synthetic import FAMILIES, corpus_motions, generate
from scaling.robot.g1 import FEET_INDEX, RANGE_HIGH, RANGE_LOW, standing_qpos
from scaling.robot.kinematics import forward_kinematics, soles
from scaling.robot.model import FULL, build_model
from scaling.robot.rotations import matrix, yaw

SEEDS = (0, 1, 2, 3)
BEARING_M = 0.003


@lru_cache(maxsize=64)
def take(family: str, seed: int) -> Motion:
    return generate(family, 10.0, seed)


def pressure_points(motion: Motion, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Zero-moment point (m) and vertical force over weight by inverse dynamics, without contacts."""
    model = build_model()
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    data = mujoco.MjData(model)
    speed = velocities(motion.qpos, motion.rate_hz)
    points, lift = [], []
    for frame in frames:
        data.qpos[:] = motion.qpos[frame]
        data.qvel[:] = 0.5 * (speed[frame] + speed[frame - 1])
        data.qacc[:] = (speed[frame] - speed[frame - 1]) * motion.rate_hz
        mujoco.mj_inverse(model, data)
        force = data.qfrc_inverse[:3]
        moment = data.xmat[1].reshape(3, 3) @ data.qfrc_inverse[3:6] + np.cross(data.qpos[:3], force)
        points.append([-moment[1] / force[2], moment[0] / force[2]])
        lift.append(force[2] / (model.body_subtreemass[0] * 9.81))
    return np.array(points), np.array(lift)


def outside(point: np.ndarray, corners: np.ndarray) -> float:
    """Distance (m, about) by which a point lies outside the convex hull of corners; negative inside."""
    angles = np.linspace(0.0, 2.0 * np.pi, 180, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    return float((point @ directions - (corners @ directions).max(axis=0)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pressure_point_stays_under_the_bearing_soles(family: str) -> None:
    for seed in SEEDS:
        motion = take(family, seed)
        frames = np.arange(2, motion.frames - 2, 4)
        points, lift = pressure_points(motion, frames)
        corners = soles(motion.qpos[frames])
        bearing = corners[..., 2].min(axis=-1) < BEARING_M
        assert bearing.any(axis=1).all()
        worst = [
            outside(point, feet[down].reshape(-1, 3)[:, :2])
            for point, feet, down in zip(points, corners, bearing, strict=True)
        ]
        assert max(worst) < 0.005
        assert np.mean(np.array(worst) < 0) > 0.99
        assert 0.8 < lift.min() < lift.max() < 1.2


@pytest.mark.parametrize("family", FAMILIES)
def test_feet_neither_float_nor_sink_nor_slide(family: str) -> None:
    for seed in SEEDS:
        motion = take(family, seed)
        corners = soles(motion.qpos)
        lowest = corners[..., 2].min(axis=-1)
        assert np.abs(lowest.min(axis=1)).max() < 2e-3  # one foot is always down
        assert np.ptp(corners[..., 2], axis=-1).max() < 2e-3  # soles stay level
        both = (lowest[1:] < BEARING_M) & (lowest[:-1] < BEARING_M)
        moved = np.linalg.norm((corners[1:] - corners[:-1])[..., :2], axis=-1).max(axis=-1)
        assert moved[both].max() < 1e-3
        assert quality(motion)["foot_slide_m_s"] < 0.005


@pytest.mark.parametrize("family", FAMILIES)
def test_joints_stay_within_limits_and_move_moderately(family: str) -> None:
    for seed in SEEDS:
        joints = take(family, seed).qpos[:, 7:]
        assert np.all(joints > RANGE_LOW)
        assert np.all(joints < RANGE_HIGH)
        metrics = quality(take(family, seed))
        assert 0.01 < metrics["joint_speed_worst"] < 0.5
        assert metrics["frozen_joints"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_takes_start_and_end_in_the_stance_at_rest(family: str) -> None:
    for seed in SEEDS:
        motion = take(family, seed)
        speed = velocities(motion.qpos, motion.rate_hz)
        assert np.abs(speed[[0, -1]]).max() < 0.02
        for end in (0, -1):
            assert np.abs(motion.qpos[end, 19:] - standing_qpos()[19:]).max() < 1e-3
            assert abs(motion.qpos[end, 2] - standing_qpos()[2]) < 0.01
        assert np.abs(motion.qpos[0] - standing_qpos())[2:].max() < 0.12


@pytest.mark.parametrize("family", FAMILIES)
def test_the_robot_does_not_touch_itself(family: str) -> None:
    model = build_model(FULL)
    data = mujoco.MjData(model)
    for seed in SEEDS:
        for qpos in take(family, seed).qpos[::10]:
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            mujoco.mj_collision(model, data)
            bodies = [model.geom_bodyid[pair].tolist() for pair in data.contact.geom]
            assert all(0 in pair for pair in bodies)


def test_families_do_what_their_names_say() -> None:
    squat, shift, step, turn = (take(name, 3).qpos for name in ("squat", "weight_shift", "step_in_place", "turn"))
    wave, reach = take("arm_wave", 3).qpos, take("reach", 3).qpos
    assert np.ptp(squat[:, 2]) > 0.05
    assert np.ptp(shift[:, 1]) > 0.05
    assert soles(shift)[..., 2].max() < BEARING_M
    lifted = soles(step)[..., 2].min(axis=-1) > 0.01
    assert lifted.any(axis=0).all()
    assert not lifted.all(axis=1).any()
    assert np.ptp(np.unwrap(yaw(turn[:, 3:7]))) > 0.3
    assert np.ptp(wave[:, 22:], axis=0).max() > 0.5
    hands = forward_kinematics(reach)[0][:, [22, 29]] - reach[:, None, :3]
    assert np.ptp(hands, axis=0).max() > 0.3


def test_the_same_seed_gives_the_same_take_and_another_seed_another() -> None:
    first, again = generate("reach", 6.0, 5), generate("reach", 6.0, 5)
    np.testing.assert_array_equal(first.qpos, again.qpos)
    assert np.abs(first.qpos - generate("reach", 6.0, 6).qpos).max() > 0.1
    assert (first.name, first.group, first.family, first.licence) == ("reach_0005", "reach_0005", "reach", "Apache-2.0")


def test_a_longer_corpus_begins_with_the_shorter_one() -> None:
    short, long = corpus_motions(48.0, 3, take_seconds=8.0), corpus_motions(72.0, 3, take_seconds=8.0)
    assert [motion.name for motion in short] == [f"{family}_0000" for family in FAMILIES]
    assert len(long) == 9
    for one, other in zip(short, long, strict=False):
        np.testing.assert_array_equal(one.qpos, other.qpos)
    assert not np.array_equal(short[0].qpos, corpus_motions(48.0, 4, take_seconds=8.0)[0].qpos)


def test_a_take_has_the_length_and_rate_asked_for() -> None:
    motion = generate("squat", 7.0, 0, rate_hz=30.0)
    assert (motion.frames, motion.rate_hz) == (210, 30.0)


@pytest.mark.parametrize(("family", "seconds", "seed"), [("moonwalk", 10.0, 0), ("squat", 1.0, 0), ("squat", 9.0, -1)])
def test_impossible_requests_are_told(family: str, seconds: float, seed: int) -> None:
    with pytest.raises(InputError):
        generate(family, seconds, seed)


def test_leg_chain_agrees_with_forward_kinematics_and_the_solver_inverts_it() -> None:
    rng = np.random.default_rng(0)
    qpos = np.tile(standing_qpos(), (50, 1))
    qpos[:, :3] = 0.0
    qpos[:, 7:19] += rng.uniform(-0.25, 0.25, (50, 12))
    position, quat = forward_kinematics(qpos)
    for side in range(2):
        angles = qpos[:, 7 + 6 * side : 13 + 6 * side]
        origins, _, rotation = leg_chain(angles, side)
        np.testing.assert_allclose(origins[:, 5], position[:, FEET_INDEX[side]], atol=1e-9)
        np.testing.assert_allclose(rotation, matrix(quat[:, FEET_INDEX[side]]), atol=1e-9)
        np.testing.assert_allclose(solve_leg(origins[:, 5], rotation, side), angles, atol=2e-5)
        with pytest.raises(ValueError, match="out of the leg's reach"):
            solve_leg(origins[:, 5] - np.array([0.0, 0.0, 0.5]), rotation, side)


def test_centre_of_mass_is_mujocos() -> None:
    motion, model = take("reach", 0), build_model()
    data = mujoco.MjData(model)
    data.qpos[:] = motion.qpos[200]
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(centre_of_mass(mass_points(motion.qpos[200:201]))[0], data.subtree_com[0], atol=1e-9)


def test_pendulum_solves_its_equation() -> None:
    """zmp = com - (h/g) com'' for a sinusoid has gain 1/(1 + w^2 h/g)."""
    rate, height, frequency = 200.0, 0.7, 0.5
    time = np.arange(4000) / rate
    zmp = np.stack([np.sin(2 * np.pi * frequency * time), np.ones_like(time)], axis=1)
    com = pendulum(zmp, height, rate)
    gain = 1.0 / (1.0 + (2 * np.pi * frequency) ** 2 * height / 9.81)
    middle = slice(1000, 3000)
    np.testing.assert_allclose(com[middle, 0], gain * zmp[middle, 0], atol=2e-3)
    np.testing.assert_allclose(com[:, 1], 1.0, atol=1e-12)


def test_roll_pitch_yaw_has_mujocos_meaning() -> None:
    rpy = np.array([[0.1, -0.2, 0.7]])
    expected = np.zeros(4)
    mujoco.mju_euler2Quat(expected, rpy[0], "XYZ")
    np.testing.assert_allclose(quat_from_rpy(rpy)[0], expected, atol=1e-12)
