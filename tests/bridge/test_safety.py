"""One way to tracking, every fault to damping, no way back."""

import numpy as np
import pytest

from scaling.bridge.safety import SafetyMachine, State
from scaling.bridge.transport import RobotState, damping_command
from scaling.bridge.watchdog import Limits, Watchdog, start_fault
from scaling.robot.g1 import VELOCITY_LIMIT
from scaling.robot.rotations import from_rotation_vector

UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])
GOOD = RobotState(10.0, UPRIGHT, np.zeros(3), np.zeros(29), np.zeros(29))
LIMITS = Limits()


def test_the_way_to_tracking_is_one_and_it_ends_in_damping():
    machine = SafetyMachine()
    for n, state in enumerate((State.RAMP, State.STANDBY, State.TRACK)):
        machine.advance(float(n), "go")
        assert machine.state is state
    with pytest.raises(RuntimeError):
        machine.advance(3.0, "go")
    machine.stop(4.0, "the clip has ended")
    assert [t.after for t in machine.transitions] == [State.RAMP, State.STANDBY, State.TRACK, State.DAMPING]
    assert machine.transitions[-1].reason == "the clip has ended"
    assert machine.faults == []


@pytest.mark.parametrize("steps", range(4))
def test_a_fault_in_any_state_damps_for_good(steps):
    machine = SafetyMachine()
    for n in range(steps):
        machine.advance(float(n), "go")
    machine.fault(9.0, "smoke")
    assert machine.state is State.DAMPING
    assert machine.ended
    assert machine.faults == ["smoke"]
    with pytest.raises(RuntimeError):
        machine.advance(10.0, "go")
    machine.fault(11.0, "more smoke")
    assert machine.faults == ["smoke"]
    assert machine.transitions[-1].reason == "smoke"


def broken(name, value, index=None):
    array = np.array(getattr(GOOD, name), dtype=float)
    array[() if index is None else index] = value
    return GOOD._replace(**{name: array})


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "no state"),
        (broken("quat", np.nan, 0), "quat is not finite"),
        (broken("gyro", np.inf, 2), "gyro is not finite"),
        (broken("joint_pos", np.nan, 28), "joint_pos is not finite"),
        (broken("joint_vel", -np.inf, 0), "joint_vel is not finite"),
        (broken("stamp", np.nan), "stamp is not finite"),
        (GOOD._replace(stamp=9.89), "110 ms old"),
        (GOOD._replace(quat=np.zeros(4)), "norm 0.000"),
        (GOOD._replace(quat=from_rotation_vector(np.array([1.01, 0, 0]))), "tilted 1.01"),
        (GOOD._replace(quat=from_rotation_vector(np.array([0, -1.2, 0]))), "tilted 1.20"),
        (broken("joint_vel", 1.01 * VELOCITY_LIMIT[3], 3), "left_knee_joint"),
        (broken("joint_vel", -1.01 * VELOCITY_LIMIT[3], 3), "left_knee_joint"),
    ],
)
def test_what_is_wrong_with_a_reading_is_named(state, said):
    assert said in Watchdog(LIMITS).check(state, 10.0, UPRIGHT)


@pytest.mark.parametrize(
    "state",
    [
        GOOD,
        GOOD._replace(stamp=9.91),
        GOOD._replace(quat=from_rotation_vector(np.array([0.99, 0, 0]))),
        GOOD._replace(quat=from_rotation_vector(np.array([0, 0, 3.0]))),
        broken("joint_vel", 0.99 * VELOCITY_LIMIT[3], 3),
    ],
)
def test_what_is_within_the_limits_passes(state):
    assert Watchdog(LIMITS).check(state, 10.0, UPRIGHT) is None


def test_tilt_is_measured_from_the_reference_not_from_upright():
    lying = from_rotation_vector(np.array([0.0, 1.5, 0.0]))
    assert Watchdog(LIMITS).check(GOOD._replace(quat=lying), 10.0, lying) is None
    assert "tilted" in Watchdog(LIMITS).check(GOOD, 10.0, lying)


def test_tracking_starts_only_near_the_start_pose():
    near, far = np.full(29, 0.39), np.zeros(29)
    far[7] = -0.41
    assert start_fault(GOOD._replace(joint_pos=near), np.zeros(29), LIMITS) is None
    assert "right_hip_roll_joint" in start_fault(GOOD._replace(joint_pos=far), np.zeros(29), LIMITS)


def test_damping_has_no_stiffness():
    command = damping_command()
    assert not command.kp.any()
    assert not command.tau.any()
    np.testing.assert_array_equal(command.kd, 8.0)


def test_a_limit_of_zero_is_refused():
    with pytest.raises(ValueError, match="tilt is 0"):
        Limits(tilt=0.0)
