"""Fault by fault: each one injected while the robot tracks, each in damping within a tick, none a traceback."""

import numpy as np
import pytest

from scaling.bridge.clock import VirtualClock
from scaling.bridge.runtime import Runtime
from scaling.bridge.safety import State
from scaling.bridge.transport import Health, RobotState
from scaling.bridge.watchdog import KEY_B, KEY_SELECT, Limits, Watchdog, _down
from scaling.contract.observation import gravity_direction
from scaling.robot.g1 import EFFORT_LIMIT, NUM_JOINTS, RANGE_HIGH, RANGE_LOW, VELOCITY_LIMIT
from scaling.robot.rotations import from_rotation_vector
from tests.bridge.conftest import PaperRobot, ZeroPolicy
from tests.bridge.test_runtime import QUICK, damped

AT = 0.7  # s: tracking has run for a while


def well(now):
    """The health of a robot with nothing wrong."""
    zero = np.zeros(NUM_JOINTS)
    return Health(zero, zero + 35, zero + 40, np.zeros(NUM_JOINTS, np.uint32), round(1e3 * now), 80.0, 0)


def test_a_calm_reading_is_passed_as_limit_by_limit_it_would_be(monkeypatch):
    """Drawn around every limit: the same verdicts and the same warnings with and without the short way."""
    rng = np.random.default_rng(0)

    def drawn(n, spread):
        zero = np.zeros(NUM_JOINTS)
        near = lambda scale: one(zero, rng.integers(NUM_JOINTS), scale * rng.uniform(0, spread))  # noqa: E731
        ill = well(0.002 * n)._replace(torque=near(EFFORT_LIMIT[0]), casing=near(80) + 5, winding=near(115) + 5)
        middle = (RANGE_LOW + RANGE_HIGH) / 2
        joints = middle + near(1.0) * (RANGE_HIGH - RANGE_LOW) / 2
        quat = from_rotation_vector(rng.normal(size=3) * 0.4) * rng.uniform(0.96, 1.0 + 0.05 * spread)
        return RobotState(0.002 * n, quat, np.zeros(3), joints, near(VELOCITY_LIMIT[0]), ill)

    states = [drawn(n, spread) for n, spread in enumerate(rng.uniform(0.2, 1.4, 2000))]
    level = np.array([1.0, 0.0, 0.0, 0.0])

    def verdicts():
        watchdogs = [Watchdog() for _ in states]
        said = [watchdog.check(state, state.stamp, level) for watchdog, state in zip(watchdogs, states, strict=True)]
        return said, [watchdog.warnings for watchdog in watchdogs]

    short = verdicts()
    calm = sum(Watchdog()._is_calm(state) for state in states)
    monkeypatch.setattr(Watchdog, "_is_calm", lambda self, state: False)
    assert short == verdicts()
    assert 200 < calm < 1500 and 200 < sum(said is None for said in short[0]) < 1900


@pytest.mark.parametrize(("limit", "field"), [("torque_share", "torque"), ("winding", "winding")])
def test_no_limit_lets_through_what_is_no_number(limit, field):
    """An infinite limit, as a fleet file may give it, is none; an infinite reading is still a fault."""
    near = {"torque_share": "torque_warning", "winding": "winding_warning"}[limit]
    watchdog = Watchdog(Limits(**{limit: np.inf, near: np.inf}))
    fields = {field: np.full(NUM_JOINTS, np.inf)}
    assert "not finite" in watchdog.check(well_state(1.0, **fields), 1.0)


def test_a_reading_is_looked_at_once_and_its_age_each_time():
    watchdog, state = Watchdog(), well_state(1.0, torque=EFFORT_LIMIT)
    assert [watchdog.check(state, now) for now in (1.0, 1.01, 1.03)] == [None] * 3
    assert watchdog.warnings == {"joint torque": 1, "state age": 1}
    assert "110 ms old" in watchdog.check(state, 1.11)


def test_the_tilt_is_the_angle_of_what_the_policy_is_shown():
    """Plain floats for `gravity_direction`, of quaternions that are not quite of length one."""
    for quat in np.random.default_rng(0).normal(size=(50, 4)):
        np.testing.assert_allclose(_down(quat), gravity_direction(quat / np.linalg.norm(quat)), atol=1e-12)


def well_state(now, **fields):
    """A robot that stands still."""
    zero = np.zeros(NUM_JOINTS)
    still = RobotState(now, np.array([1.0, 0, 0, 0]), np.zeros(3), (RANGE_LOW + RANGE_HIGH) / 2, zero)
    return still._replace(health=well(now)._replace(**fields))


def one(values, index, value):
    """A copy with one entry changed."""
    values = np.array(values, float)
    values[index] = value
    return values


def reading(**fields):
    """A fault that changes fields of the reading, each given as a function of the state."""
    return lambda s: s._replace(**{name: make(s) for name, make in fields.items()})


def health(**fields):
    """The same for its health."""
    return lambda s: s._replace(health=s.health._replace(**{name: make(s.health) for name, make in fields.items()}))


def turned(*vector):
    return reading(quat=lambda s: from_rotation_vector(np.array(vector, float)))


READINGS = {
    "silence": (lambda s: None, "no state"),
    "a state 101 ms old": (reading(stamp=lambda s: s.stamp - 0.101), "101 ms old"),
    "a state a minute old": (reading(stamp=lambda s: s.stamp - 60), "60000 ms old"),
    "a state from the future": (reading(stamp=lambda s: s.stamp + 1), "from the future"),
    "a stamp that is not a number": (reading(stamp=lambda s: np.nan), "stamp is not finite"),
    "an infinite stamp": (reading(stamp=lambda s: -np.inf), "stamp is not finite"),
    "a quaternion of NaN": (reading(quat=lambda s: s.quat * np.nan), "quat is not finite"),
    "one NaN in the quaternion": (reading(quat=lambda s: one(s.quat, 2, np.nan)), "quat is not finite"),
    "a quaternion of zeros": (reading(quat=lambda s: np.zeros(4)), "norm 0.000"),
    "a quaternion too long": (reading(quat=lambda s: 2 * s.quat), "norm 2.000"),
    "a NaN of the gyro": (reading(gyro=lambda s: one(s.gyro, 1, np.nan)), "gyro is not finite"),
    "an infinite gyro": (reading(gyro=lambda s: one(s.gyro, 0, np.inf)), "gyro is not finite"),
    "a NaN of the first joint": (reading(joint_pos=lambda s: one(s.joint_pos, 0, np.nan)), "joint_pos is not finite"),
    "a NaN of the last joint": (reading(joint_pos=lambda s: one(s.joint_pos, 28, np.nan)), "joint_pos is not finite"),
    "a NaN of a velocity": (reading(joint_vel=lambda s: one(s.joint_vel, 9, np.nan)), "joint_vel is not finite"),
    "an infinite velocity": (reading(joint_vel=lambda s: one(s.joint_vel, 9, -np.inf)), "joint_vel is not finite"),
    "fallen on its face": (turned(0, 1.2, 0), "tilted"),
    "fallen on its back": (turned(0, -1.2, 0), "tilted"),
    "fallen to the left": (turned(-1.2, 0, 0), "tilted"),
    "fallen to the right": (turned(1.2, 0, 0), "tilted"),
    "upside down": (turned(3.1, 0, 0), "tilted"),
    "a knee racing forwards": (
        reading(joint_vel=lambda s: one(s.joint_vel, 3, 1.01 * VELOCITY_LIMIT[3])),
        "left_knee_joint moves",
    ),
    "a knee racing backwards": (
        reading(joint_vel=lambda s: one(s.joint_vel, 3, -1.01 * VELOCITY_LIMIT[3])),
        "left_knee_joint moves",
    ),
    "a wrist racing": (reading(joint_vel=lambda s: one(s.joint_vel, 28, 99.0)), "right_wrist_yaw_joint moves"),
    "a hip above its range": (
        reading(joint_pos=lambda s: one(s.joint_pos, 1, RANGE_HIGH[1] + 0.16)),
        "left_hip_roll_joint stands",
    ),
    "a knee below its range": (
        reading(joint_pos=lambda s: one(s.joint_pos, 9, RANGE_LOW[9] - 0.16)),
        "right_knee_joint stands",
    ),
    "an encoder that has lost its zero": (reading(joint_pos=lambda s: s.joint_pos + 2 * np.pi), "out of range"),
    "a hip too strong": (
        health(torque=lambda h: one(h.torque, 0, 1.4 * EFFORT_LIMIT[0])),
        "left_hip_pitch_joint gives",
    ),
    "a wrist too strong, the other way": (
        health(torque=lambda h: one(h.torque, 28, -1.4 * EFFORT_LIMIT[28])),
        "right_wrist_yaw_joint gives",
    ),
    "a torque that is not a number": (health(torque=lambda h: one(h.torque, 4, np.nan)), "not finite"),
    "a hot winding": (health(winding=lambda h: one(h.winding, 3, 121)), "winding of left_knee_joint is at 121 C"),
    "a hot casing": (health(casing=lambda h: one(h.casing, 20, 86)), "casing of left_wrist_pitch_joint is at 86 C"),
    "a temperature that is not a number": (health(casing=lambda h: one(h.casing, 0, np.nan)), "not finite"),
    "an error word of one motor": (
        health(motor_error=lambda h: np.eye(NUM_JOINTS, dtype=np.uint32)[12] << 7),
        "motor of waist_yaw_joint reports error 0x80",
    ),
    "all motors lost": (
        health(motor_error=lambda h: np.full(NUM_JOINTS, 0xFFFFFFFF, np.uint32)),
        "motor of left_hip_pitch_joint reports error",
    ),
    "an empty battery": (health(battery=lambda h: 19.0), "battery is at 19 %"),
    "a battery that is not a number": (health(battery=lambda h: np.nan), "battery is at nan %"),
    "a clock that goes back": (health(tick=lambda h: h.tick - 500), "clock went back"),
    "a robot that has started anew": (health(tick=lambda h: 0), "clock went back"),
    "a gap in the sequence": (health(tick=lambda h: h.tick + 101), "ms are missing"),
    "the remote's B": (health(keys=lambda h: KEY_B), "stopped by the remote"),
    "the remote's select": (health(keys=lambda h: KEY_SELECT), "stopped by the remote"),
    "all keys of the remote": (health(keys=lambda h: 0xFFFF), "stopped by the remote"),
}

ANSWERS = {
    "an action of NaN": (lambda: np.full(29, np.nan), "action is not finite"),
    "one infinite action": (lambda: one(np.zeros(29), 5, np.inf), "action is not finite"),
    "28 actions": (lambda: np.zeros(28), "no 29 actions"),
    "30 actions": (lambda: np.zeros(30), "no 29 actions"),
    "a batch of actions": (lambda: np.zeros((1, 29)), "no 29 actions"),
    "a scalar": (lambda: 0.0, "no 29 actions"),
    "None": (lambda: None, "no 29 actions"),
    "a text": (lambda: "left", "ValueError in the control loop"),
    "a division by zero": (lambda: 1 / 0, "ZeroDivisionError in the control loop"),
    "a policy out of memory": (
        lambda: exec("raise MemoryError('no more')"),
        "MemoryError in the control loop: no more",
    ),
}


def track(clip, spoil=lambda robot, state: state, policy=None, config=QUICK):
    """(report, robot, time of the first spoilt reading) of a run with a healthy robot otherwise."""
    clock = VirtualClock()
    struck = []

    def spoilt(robot, state):
        state = state._replace(health=well(state.stamp))
        if clock.now() < AT:
            return state
        struck.append((clock.now(), len(robot.commands)))
        return spoil(robot, state)

    robot = PaperRobot(clip, clock, spoilt)
    policy = policy or ZeroPolicy()
    report = Runtime(policy, clip, robot, clock, config, may_leave=lambda state: True).run()
    return report, robot, struck


def assert_damped_within_a_tick(report, robot, when, said):
    reason = report["ended"]
    assert said in reason
    assert "\n" not in reason
    assert report["faults"] == ([] if "remote" in said else [reason])
    assert report["state"] == "damping"
    last = report["transitions"][-1]
    assert (last["from"], last["to"], last["reason"]) == ("track", "damping", reason)
    assert when[0] <= last["time_s"] + 1e-9 <= when[0] + 0.02
    assert all(not command.kp.any() and not command.tau.any() for command in robot.commands[when[1] :])
    assert damped(robot)


@pytest.mark.parametrize("name", READINGS)
def test_a_bad_reading_damps_at_once_and_for_good(standing, name):
    fault, said = READINGS[name]
    report, robot, struck = track(standing, lambda robot, state: fault(state))
    assert_damped_within_a_tick(report, robot, struck[0], said)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_bad_answer_damps_at_once_and_for_good(standing, name):
    answer, said = ANSWERS[name]
    struck = []

    class Breaking(ZeroPolicy):
        def act(self, obs, first):
            super().act(obs, first)
            if len(self.seen) < 10:
                return np.zeros(29)
            struck.append((clock.now(), len(robot.commands)))
            return answer()

    clock = VirtualClock()
    robot = PaperRobot(standing, clock, lambda robot, state: state._replace(health=well(state.stamp)))
    report = Runtime(Breaking(), standing, robot, clock, QUICK, may_leave=lambda state: True).run()
    assert_damped_within_a_tick(report, robot, struck[0], said)


def test_there_are_at_least_forty_faults():
    assert len(READINGS) + len(ANSWERS) >= 40
    assert len({said for _, said in READINGS.values()}) > 20


def test_a_healthy_robot_has_none_of_them(standing):
    report, _, struck = track(standing)
    assert report["faults"] == []
    assert report["ended"] == "the clip has ended"
    assert report["warnings"] == {}
    assert struck


def test_one_blink_is_enough(standing):
    """A fault of a single reading is not forgotten when the next one is good again."""
    count = []

    def blink(robot, state):
        count.append(1)
        return state._replace(quat=2 * state.quat) if len(count) == 1 else state

    report, robot, struck = track(standing, blink)
    assert_damped_within_a_tick(report, robot, struck[0], "norm 2.000")


def test_a_slow_policy_is_damped(standing):
    class Slow(ZeroPolicy):
        def act(self, obs, first):
            super().act(obs, first)
            if len(self.seen) == 10:
                clock.sleep_until(clock.now() + 0.15)
            return np.zeros(29)

    clock = VirtualClock()
    robot = PaperRobot(standing, clock)
    report = Runtime(Slow(), standing, robot, clock, QUICK, may_leave=lambda state: True).run()
    assert report["ended"] == "the policy took 150 ms (limit 100 ms)"
    assert damped(robot)


def test_a_policy_that_is_always_a_little_late_is_damped(standing):
    class Late(ZeroPolicy):
        def act(self, obs, first):
            super().act(obs, first)
            clock.sleep_until(clock.now() + 0.03)
            return np.zeros(29)

    clock = VirtualClock()
    robot = PaperRobot(standing, clock)
    report = Runtime(Late(), standing, robot, clock, QUICK, may_leave=lambda state: True).run()
    assert "late for 11 ticks in a row" in report["ended"]
    assert damped(robot)


def test_the_guard_of_the_wire_ends_it(standing):
    def guarded(robot, state):
        robot.guard = "the command writer has ended"
        return state

    report, robot, _ = track(standing, guarded)
    assert report["faults"] == ["the command writer has ended"]
    assert damped(robot)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (reading(stamp=lambda s: s.stamp - 0.03), "state age"),
        (turned(0.8, 0, 0), "tilt"),
        (reading(joint_vel=lambda s: one(s.joint_vel, 3, 0.9 * VELOCITY_LIMIT[3])), "joint velocity"),
        (reading(joint_pos=lambda s: one(s.joint_pos, 4, RANGE_LOW[4] - 0.05)), "joint position"),
        (health(torque=lambda h: one(h.torque, 0, EFFORT_LIMIT[0])), "joint torque"),
        (health(winding=lambda h: one(h.winding, 0, 110)), "winding temperature"),
        (health(casing=lambda h: one(h.casing, 0, 80)), "casing temperature"),
        (health(battery=lambda h: 25.0), "battery"),
    ],
)
def test_near_a_limit_it_warns_and_goes_on(standing, fault, name):
    report, _, _ = track(standing, lambda robot, state: fault(state))
    assert report["faults"] == []
    assert report["warnings"][name] >= 10
    assert set(report["warnings"]) == {name}


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("phase", [State.DAMPING, State.RAMP, State.STANDBY])
def test_no_fault_leads_to_torque_in_any_phase(standing, name, phase):
    """Struck in any phase, the robot gets no stiffness from that reading on, whoever allows whatever."""
    fault, _ = READINGS[name]
    clock = VirtualClock()
    from_here = []

    def spoilt(robot, state):
        state = state._replace(health=well(state.stamp))
        if not from_here and runtime.machine.state is phase and clock.now() > 0.05:
            from_here.append(len(robot.commands))
        return fault(state) if from_here else state

    robot = PaperRobot(standing, clock, spoilt)
    runtime = Runtime(
        ZeroPolicy(), standing, robot, clock, QUICK, may_leave=lambda s: s is not phase or clock.now() > 0.3
    )
    report = runtime.run()
    assert report["state"] == "damping"
    assert runtime.machine.ended
    assert all(not command.kp.any() for command in robot.commands[from_here[0] :])


def test_the_same_state_again_and_again_is_noticed():
    zero = np.zeros(NUM_JOINTS)
    dog = Watchdog(Limits())
    frozen = well(1.0)
    upright = np.array([1.0, 0, 0, 0])
    said = [
        dog.check(RobotState(1.0 + 0.002 * n, upright, np.zeros(3), zero, zero, frozen), 1.0 + 0.002 * n)
        for n in range(80)
    ]
    assert said[49] is None
    assert "the same state for 10" in said[51]


def test_the_robots_clock_may_wrap():
    zero = np.zeros(NUM_JOINTS)
    dog, upright = Watchdog(), np.array([1.0, 0, 0, 0])
    for n, tick in enumerate((2**32 - 20, 2**32 - 1, 19)):
        assert (
            dog.check(RobotState(n * 0.02, upright, zero[:3], zero, zero, well(0)._replace(tick=tick)), n * 0.02)
            is None
        )


def test_limits_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="winding is 90"):
        Limits(winding=90.0)
    with pytest.raises(ValueError, match="battery is -1"):
        Limits(battery=-1.0)
