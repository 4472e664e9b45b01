"""The twin obeys the motors' law at its own rate, stands held until released, and pulls as training's harness does."""

import mujoco
import numpy as np
import pytest

from scaling.bridge import sim
from scaling.bridge.clock import VirtualClock
from scaling.bridge.sim import SimRobot
from scaling.bridge.transport import MotorCommand, damping_command, position_command
from scaling.contract.action import decode_action
from scaling.robot.g1 import EFFORT_LIMIT
from scaling.robot.model import CONVERGED, STANDARD
from scaling.robot.rotations import quat_conj, quat_mul, rotate_inverse, rotation_vector
from scaling.tracking import assist
from scaling.tracking.physics import CPhysics, PhysicsState
from scaling.tracking.reference import make_store, reference_at


def pass_time(robot, clock, seconds):
    """Let the twin run on under its command."""
    clock.sleep_until(clock.now() + seconds)
    return robot.read()


def test_held_it_stands_at_the_start_of_the_clip(squats):
    clock = VirtualClock()
    robot = SimRobot(squats, clock)
    robot.write(position_command(squats.start_pose[7:]))
    state = pass_time(robot, clock, 2.0)
    np.testing.assert_allclose(robot.qpos[:7], squats.start_pose[:7], atol=1e-6)
    assert state.stamp == clock.now()
    np.testing.assert_allclose(state.joint_pos, squats.start_pose[7:], atol=0.01)
    robot.release()
    assert robot._model.opt.gravity[2] < -9.8
    state = pass_time(robot, clock, 0.1)
    assert np.abs(state.joint_pos - squats.start_pose[7:]).max() > 0.01


def test_released_and_damped_it_sinks(squats):
    clock = VirtualClock()
    robot = SimRobot(squats, clock)
    robot.release()
    pass_time(robot, clock, 2.0)
    assert robot.qpos[2] < squats.start_pose[2] - 0.3
    assert np.isfinite(robot.qpos).all()
    pass_time(robot, clock, 4.0)
    assert robot._data.xpos[1:, 2].min() > 0.0, "it lies on the floor, with whatever link touches it"


def test_torque_is_the_motors_law_within_its_effort(squats):
    """One inner step under a mixed command, against the law written out; huge errors saturate."""
    rng = np.random.default_rng(0)
    robot = SimRobot(squats, VirtualClock())
    model, data = robot._model, robot._data
    gains = rng.uniform(0, 30, 29), rng.uniform(0, 3, 29)
    command = MotorCommand(rng.normal(size=29), rng.normal(size=29), rng.normal(size=29), *gains)
    data.qvel[6:] = rng.normal(size=29)
    for scale in (1.0, 100.0):
        scaled = command._replace(q=scale * command.q)
        robot.write(scaled)
        mujoco.mj_forward(model, data)
        law = scaled.kp * (scaled.q - data.qpos[7:]) + scaled.kd * (scaled.dq - data.qvel[6:]) + scaled.tau
        np.testing.assert_allclose(data.qfrc_actuator[6:], np.clip(law, -EFFORT_LIMIT, EFFORT_LIMIT), atol=1e-9)
    assert (np.abs(law) > EFFORT_LIMIT).any()


def test_a_command_acts_from_when_it_is_written(squats):
    """Ten milliseconds late is ten milliseconds of the command before."""

    def joints_after(delay):
        clock = VirtualClock()
        robot = SimRobot(squats, clock)
        robot.write(position_command(squats.start_pose[7:]))
        clock.sleep_until(delay)
        robot.write(position_command(squats.start_pose[7:] + 0.2))
        return pass_time(robot, clock, 0.02 - delay).joint_pos

    assert np.abs(joints_after(0.0) - joints_after(0.01)).max() > 0.01


def test_it_steps_at_500_hz_or_faster_and_never_ahead_of_the_clock(squats):
    clock = VirtualClock()
    robot = SimRobot(squats, clock)
    for n in range(1, 40):
        clock.sleep_until(0.007 * n)
        robot.read()
        assert clock.now() - 0.002 < robot._time <= clock.now() + 1e-9
    with pytest.raises(ValueError, match="500 Hz"):
        SimRobot(squats, clock, options=STANDARD)
    with pytest.raises(ValueError, match="assist is 2"):
        SimRobot(squats, clock, assist=2.0)


def test_the_harness_is_the_one_of_training(squats):
    names = ("LINEAR_STIFFNESS", "LINEAR_DAMPING", "ANGULAR_STIFFNESS", "ANGULAR_DAMPING")
    assert [getattr(sim, name) for name in names] == [getattr(assist, name) for name in names]
    qpos = squats.qpos[40].copy()
    qpos[:3] += 0.1, -0.2, 0.05
    qpos[3:7] += 0.0, 0.1, -0.2, 0.3
    qpos[3:7] /= np.linalg.norm(qpos[3:7])
    store = make_store(squats.qpos, np.array([0]), np.array([squats.frames]))
    reference = reference_at(store, np.array(0), np.array(43))
    trained = assist.harness_force(1.0, qpos.astype(np.float32), reference.qpos, reference.qvel)
    ours = sim.harness_force(qpos, squats.qpos[43], squats.qvel[43])
    np.testing.assert_allclose(ours, trained[:6], rtol=1e-3, atol=0.05)
    robot = SimRobot(squats, VirtualClock(), assist=0.5)
    robot.release()
    np.testing.assert_allclose(robot._model.dof_damping[:6], 0.5 * assist.ROOT_DAMPING)


def test_the_torsos_imu_measures_what_its_place_goes_through(squats):
    """Against differences over a hundredth of a step: turning, and specific force, which is gravity's at rest."""
    robot = SimRobot(squats, VirtualClock())
    robot.release()
    model, data = robot._model, robot._data
    model.opt.timestep = dt = 2e-5
    data.qvel[:] = np.random.default_rng(0).normal(size=35) * 0.5
    site = model.site("imu_in_torso").id
    mujoco.mj_step(model, data, 3)

    def place():
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, data.site_xmat[site])
        return data.site_xpos[site].copy(), quat

    seen = []
    for _ in range(3):
        seen.append(place())
        if len(seen) == 2:
            mujoco.mj_forward(model, data)
            imu = robot.torso()
        mujoco.mj_step(model, data)
    (a, qa), (b, qb), (c, qc) = seen
    np.testing.assert_allclose(np.abs(imu.quat @ qb), 1.0, atol=1e-9)
    np.testing.assert_allclose(imu.gyro, rotation_vector(quat_mul(quat_conj(qa), qc)) / (2 * dt), atol=0.02)
    force = rotate_inverse(qb, (c - 2 * b + a) / dt**2 + np.array([0.0, 0.0, 9.81]))
    np.testing.assert_allclose(imu.force, force, rtol=0.05, atol=0.5)


def test_held_by_the_gantry_the_torsos_imu_feels_its_weight(squats):
    clock = VirtualClock()
    robot = SimRobot(squats, clock)
    robot.write(position_command(squats.start_pose[7:]))
    pass_time(robot, clock, 2.0)
    imu = robot.torso()
    np.testing.assert_allclose(imu.force, rotate_inverse(imu.quat, np.array([0.0, 0.0, 9.81])), atol=0.05)
    np.testing.assert_allclose(imu.gyro, 0.0, atol=0.01)


def test_joint_limits_are_the_robots(squats):
    """The twin's model has its ranges in radians: half a radian of knee is no end stop."""
    from scaling.robot.g1 import RANGE_HIGH, RANGE_LOW

    ranges = SimRobot(squats, VirtualClock())._model.jnt_range[1:]
    np.testing.assert_allclose(ranges, np.stack([RANGE_LOW, RANGE_HIGH], axis=1))


def test_damping_command_brakes(squats):
    """Joints set spinning lose most of it in a fifth of a second, without being driven anywhere."""
    clock = VirtualClock()
    robot = SimRobot(squats, clock)
    robot.write(damping_command())
    robot._data.qvel[6:] = 2.0
    mujoco.mj_forward(robot._model, robot._data)
    np.testing.assert_allclose(robot._data.qfrc_actuator[6:], np.clip(-16.0, -EFFORT_LIMIT, EFFORT_LIMIT))
    state = pass_time(robot, clock, 0.2)
    assert np.abs(state.joint_vel).max() < 1.0


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_released_it_moves_as_the_environment_of_training_does(squats, strength):
    """The same commands and harness from the same state: half a second apart by the solver's warm start alone."""
    clock = VirtualClock()
    robot = SimRobot(squats, clock, assist=strength)
    robot.release()
    trained = CPhysics(CONVERGED)
    state = PhysicsState(squats.qpos[:1].astype(np.float32), np.zeros((1, 35), np.float32))
    amount, variant = np.full(1, strength, np.float32), np.zeros(1, np.int32)
    for frame in range(25):
        target = decode_action(np.full(29, 0.2 * (-1) ** frame), squats.qpos[frame], squats.qvel[frame])
        robot.write(position_command(target))
        reading = pass_time(robot, clock, 0.02)
        reference = squats.qpos[frame : frame + 1], squats.qvel[frame : frame + 1]
        force = assist.harness_force(amount, state.qpos, *(x.astype(np.float32) for x in reference))
        state = trained.step(state, target[None].astype(np.float32), force, amount, variant)
        np.testing.assert_allclose(robot.qpos, np.asarray(state.qpos[0]), atol=2e-3)
    assert np.abs(reading.joint_pos - squats.start_pose[7:]).max() > 0.05
