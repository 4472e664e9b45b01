"""The command writer: silent policies, dead ones, bad orders and bad states all end in damping for good."""

import socket
import threading
import time

import numpy as np
import pytest

from scaling.bridge.limiter import CommandLimits, Limiter, UnsafeCommand
from scaling.bridge.messages import MODE_MACHINE, command_message, command_of, state_message, state_of
from scaling.bridge.transport import MotorCommand, RobotState, damping_command, position_command
from scaling.bridge.wire import LOW_CMD, LOW_STATE, decode, encode, sign
from scaling.bridge.writer import COMMAND, END, ORDER, READING, CommandWriter, WriterConfig, serve
from scaling.robot.g1 import EFFORT_LIMIT, JOINT_NAMES, KNEES_BENT_JOINTS, KP, RANGE_HIGH, RANGE_LOW
from scaling.robot.rotations import from_rotation_vector
from tests.bridge.test_faults import READINGS, well

ZERO = np.zeros(29)


def robot_state(now, **fields):
    """The LowState of a robot at the bent-knees pose, as it comes off the wire."""
    state = RobotState(now, np.array([1.0, 0, 0, 0]), np.zeros(3), KNEES_BENT_JOINTS, ZERO)
    message = state_message(state._replace(**fields), np.zeros(35), ZERO, round(1e3 * now))
    sign(message)
    return decode(encode(message), LOW_STATE)


class PaperWire:
    """Keeps what was sent, and shows the state that it is given."""

    def __init__(self):
        self.rejected, self.sent, self.newest, self.charge = 0, [], None, None

    def send(self, message):
        sign(message)
        self.sent.append(decode(encode(message), LOW_CMD))

    def latest(self):
        return self.newest

    def battery(self):
        return self.charge

    @property
    def last(self):
        return command_of(self.sent[-1])


@pytest.fixture
def wire():
    return PaperWire()


@pytest.fixture
def obeying(wire):
    """A writer that has followed orders for 100 ms, at 500 Hz and 50 Hz; time is 0.1 s."""
    writer = CommandWriter(wire)
    for n in range(51):
        now = 0.002 * n
        wire.newest = (now, robot_state(now))
        if n % 10 == 0:
            writer.order(now, position_command(KNEES_BENT_JOINTS), 3, 2 * n)
        writer.step(now)
    assert writer.reason is None
    assert wire.last.kp.any()
    return writer


def is_damping(command):
    return not command.kp.any() and not command.tau.any() and (command.kd == 8).all()


def test_nothing_is_sent_before_the_robot_has_said_what_it_is(wire):
    writer = CommandWriter(wire)
    writer.order(0.0, position_command(KNEES_BENT_JOINTS), 1, 0)
    writer.step(0.002)
    assert wire.sent == []


def test_without_orders_it_damps_and_copies_the_machine(wire):
    writer = CommandWriter(wire)
    wire.newest = (0.0, robot_state(0.0))
    for n in range(5):
        writer.step(0.002 * n)
    assert len(wire.sent) == 5
    assert is_damping(wire.last)
    assert int(wire.sent[-1]["mode_machine"][0]) == MODE_MACHINE
    assert int(wire.sent[-1]["mode_pr"][0]) == 0
    assert writer.reason is None


def test_an_order_goes_out_at_once_and_is_repeated(wire, obeying):
    count = len(wire.sent)
    wire.newest = (0.102, robot_state(0.102))
    obeying.order(0.102, position_command(KNEES_BENT_JOINTS + 0.01), 3, 102)
    assert len(wire.sent) == count + 1
    np.testing.assert_allclose(wire.last.q, KNEES_BENT_JOINTS + 0.01, atol=1e-6)
    np.testing.assert_allclose(wire.last.kp, KP, rtol=1e-6)
    obeying.step(0.104)
    np.testing.assert_allclose(wire.last.q, KNEES_BENT_JOINTS + 0.01, atol=1e-6)
    assert wire.sent[-1]["reserve"][0, :2].tolist() == [3, 102]


def run_on(wire, writer, until=0.4, state=robot_state, start=0.102):
    """Steps without orders; the time of the first damping that is sent, None where there is none."""
    first = None
    for now in np.arange(start, until, 0.002):
        newest = state(now)
        if newest is not None:
            wire.newest = (now, newest)
        writer.step(now)
        if first is None and is_damping(wire.last):
            first = now
    return first


def test_a_silent_policy_damps_within_a_tenth_of_a_second(wire, obeying):
    at = run_on(wire, obeying)
    assert at - 0.1 <= 0.1 + 0.0041
    assert "no command for 10" in obeying.reason
    obeying.order(0.41, position_command(KNEES_BENT_JOINTS), 3, 0)
    obeying.step(0.412)
    assert is_damping(wire.last), "and a late order brings nothing back"


def test_a_silent_robot_damps_after_its_time(wire, obeying):
    for now in np.arange(0.102, 0.3, 0.002):
        obeying.order(now, position_command(KNEES_BENT_JOINTS), 3, 0)
        obeying.step(now)
        if obeying.reason:
            break
    assert now == pytest.approx(0.202, abs=0.0021)
    assert "ms old" in obeying.reason
    assert is_damping(wire.last)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quat": np.array([2.0, 0, 0, 0])}, "norm 2.0"),
        ({"gyro": np.array([0, np.nan, 0])}, "gyro is not finite"),
        ({"joint_vel": np.full(29, 60.0)}, "beyond its limit"),
        ({"joint_pos": np.full(29, 9.0)}, "out of range"),
    ],
)
def test_a_bad_state_damps_in_its_own_period(wire, obeying, fields, said):
    assert run_on(wire, obeying, state=lambda now: robot_state(now, **fields)) == pytest.approx(0.102)
    assert said in obeying.reason


# The control loop's alone: the reference that a tilt is measured from is not known here. An int16 holds no NaN.
NOT_HERE = {"silence", "a temperature that is not a number"} | {
    name for name in READINGS if READINGS[name][1] == "tilted"
}


@pytest.mark.parametrize("name", sorted(set(READINGS) - NOT_HERE))
def test_every_fault_that_a_message_can_bring_damps_in_its_own_period(wire, obeying, name):
    """All but what only the control loop can see, off the wire, by the process that speaks to the motors."""
    fault, said = READINGS[name]
    for now in np.arange(0.102, 0.3, 0.002):
        state = RobotState(now, np.array([1.0, 0, 0, 0]), np.zeros(3), KNEES_BENT_JOINTS, ZERO, well(now))
        state = fault(state)
        told = state.health
        message = state_message(state, np.zeros(35), told.torque, told.tick)
        motors = message["motor_state"][0, :29]
        motors["temperature"] = np.stack([told.casing, told.winding], axis=1)
        motors["motorstate"] = told.motor_error
        message["wireless_remote"][0, 2:4] = told.keys & 0xFF, told.keys >> 8
        sign(message)
        wire.newest, wire.charge = (state.stamp, decode(encode(message), LOW_STATE)), (told.battery, now)
        if now < 0.2:
            obeying.order(now, position_command(KNEES_BENT_JOINTS), 3, 0)
        obeying.step(now)
        assert is_damping(wire.last), now
    assert said in obeying.reason
    assert obeying.damped_at == pytest.approx(0.102)


def test_they_are_more_than_thirty():
    assert len(set(READINGS) - NOT_HERE) > 30


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (position_command(KNEES_BENT_JOINTS * np.nan), "q is not finite"),
        (position_command(KNEES_BENT_JOINTS)._replace(tau=ZERO + np.inf), "tau is not finite"),
        (position_command(KNEES_BENT_JOINTS)._replace(kp=3 * KP), "above those of training"),
        (position_command(KNEES_BENT_JOINTS)._replace(kd=ZERO - 1), "negative gain"),
        (position_command(KNEES_BENT_JOINTS)._replace(kp=-KP), "negative gain"),
        (position_command(KNEES_BENT_JOINTS)._replace(kd=ZERO + 99), "above those of training"),
    ],
)
def test_a_bad_order_is_not_sent(wire, obeying, command, said):
    obeying.order(0.102, command, 3, 0)
    assert said in obeying.reason
    assert is_damping(wire.last)


def test_an_empty_battery_damps_in_its_own_period(wire, obeying):
    for n, charge in ((1, 90.0), (2, 19.0)):
        now = 0.1 + 0.002 * n
        wire.newest, wire.charge = (now, robot_state(now)), (charge, now)
        obeying.step(now)
        assert is_damping(wire.last) == (charge < 20)
    assert obeying.reason == "the battery is at 19 % (limit 20 %)"
    assert obeying.battery == 19.0


def test_a_battery_that_has_gone_quiet_is_warned_of(wire, obeying):
    wire.newest, wire.charge = (0.102, robot_state(0.102)), (90.0, -10.5)
    obeying.step(0.102)
    assert obeying.watchdog.warnings["battery silent"] == 1
    assert obeying.reason is None


def test_a_real_robot_is_sent_no_words_of_the_twins(wire):
    for twin in (True, False):
        writer = CommandWriter(wire, WriterConfig(twin=twin))
        wire.newest = (0.0, robot_state(0.0))
        writer.step(0.0)
        writer.order(0.0, position_command(KNEES_BENT_JOINTS), 3, 8)
        assert wire.sent[-1]["reserve"][0].tolist() == ([3, 8, 0, 0] if twin else [0, 0, 0, 0])


def test_it_damps_for_two_seconds_and_is_over(wire, obeying):
    obeying.end(0.2, "the run is over")
    assert is_damping(wire.last)
    assert not obeying.over(2.19)
    assert obeying.over(2.2)


def order_bytes(kind, command=None, phase=3):
    order = np.zeros(1, ORDER)
    order["kind"], order["phase"] = kind, phase
    if command is not None:
        order["motors"][0] = command
    return order.tobytes()


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (lambda link: link.close(), "the policy's process has ended"),
        (lambda link: link.send(order_bytes(END)), "the run is over"),
        (lambda link: link.send(b"nonsense"), "an order of 8 bytes"),
    ],
)
def test_the_loop_of_the_process_ends_in_damping(wire, ending, said):
    """With a real socket and the real clock: closing it, ending it, and nonsense on it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    writer = CommandWriter(wire, WriterConfig(damping=0.1, hold=5.0))
    began = time.monotonic()

    class Living(PaperWire):
        def latest(self):
            now = time.monotonic()
            return now, robot_state(now - began)

    writer.wire = living = Living()
    thread = threading.Thread(target=serve, args=(theirs, writer, None))
    thread.start()
    ours.send(order_bytes(COMMAND, position_command(KNEES_BENT_JOINTS)))
    reading = np.frombuffer(ours.recv(READING.itemsize), READING)[0]
    assert reading["kind"] == b"s"
    time.sleep(0.1)
    ending(ours)
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert writer.reason.startswith(said)
    stiff = [command_of(message).kp.any() for message in living.sent]
    assert any(stiff)
    assert not stiff[-1]
    assert sum(np.diff(np.array(stiff, int)) == -1) == 1, "and it never came back"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("times", [1, 10**6])
def test_a_wire_that_breaks_is_damped_as_soon_as_it_mends_and_ends_nobody(wire, times):
    """An exception in the writer's own process: no traceback, no last command kept, and an end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broken = []

    class Breaking(PaperWire):
        def latest(self):
            now = time.monotonic()
            return now, robot_state(now - began)

        def send(self, message):
            if len(self.sent) >= 20 and len(broken) < times:
                broken.append(1)
                raise OSError("the cable is out")
            super().send(message)

    began, breaking = time.monotonic(), Breaking()
    writer = CommandWriter(breaking, WriterConfig(damping=0.2, hold=50.0))
    thread = threading.Thread(target=serve, args=(theirs, writer, None))
    thread.start()
    ours.send(order_bytes(COMMAND, position_command(KNEES_BENT_JOINTS)))
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert writer.reason == "OSError in the command writer: the cable is out"
    stiff = [command_of(message).kp.any() for message in breaking.sent]
    assert any(stiff[:20])
    assert not any(stiff[20:])
    assert len(stiff) > 20 or times > 1
    ours.close()
    theirs.close()


def test_joints_and_slots_are_one_order():
    """Every joint's own number in its own slot, there and back; nothing in the slots that drive nothing."""
    q = np.arange(29) / 100
    message = command_message(MotorCommand(q, q + 1, q + 2, q + 3, q + 4), 5)
    motors = message["motor_cmd"][0]
    for slot, name in enumerate(JOINT_NAMES):
        assert motors[slot]["q"] == np.float32(slot / 100), name
        assert motors[slot]["mode"] == 1
    assert not motors[29:].view(np.uint8).any()
    for name, values in zip(MotorCommand._fields, command_of(message), strict=True):
        offset = MotorCommand._fields.index(name)
        np.testing.assert_allclose(values, q + offset, atol=1e-6)
    assert JOINT_NAMES[:6] == tuple(
        f"left_{joint}_joint" for joint in ["hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll"]
    )
    assert JOINT_NAMES[12] == "waist_yaw_joint"


def test_a_disabled_motor_gives_no_torque():
    message = command_message(position_command(KNEES_BENT_JOINTS)._replace(tau=ZERO + 1), 5)
    message["motor_cmd"]["mode"][0, 3] = 0
    command = command_of(message)
    assert (command.kp[3], command.kd[3], command.tau[3]) == (0, 0, 0)
    assert command.kp[2] > 0


def test_a_state_comes_back_from_the_wire():
    rng = np.random.default_rng(0)
    quat = from_rotation_vector(np.array([0.1, -0.2, 2.5]))
    state = RobotState(3.0, quat, rng.normal(size=3), rng.normal(size=29), rng.normal(size=29))
    message = state_message(state, rng.normal(size=35), rng.normal(size=29), 1234)
    message["wireless_remote"][0, 2:4] = 0x08, 0x02
    message["motor_state"]["motorstate"][0, 7] = 5
    sign(message)
    found = state_of(decode(encode(message), LOW_STATE), 3.0)
    for name in ("quat", "gyro", "joint_pos", "joint_vel"):
        np.testing.assert_allclose(getattr(found, name), getattr(state, name), atol=1e-6)
    assert (found.stamp, found.health.tick, found.health.keys) == (3.0, 1234, 0x0208)
    assert found.health.motor_error.tolist() == [0] * 7 + [5] + [0] * 21
    np.testing.assert_array_equal(found.health.casing, 35)
    np.testing.assert_array_equal(found.health.winding, 40)
    roll, pitch, yaw = message["imu_state"]["rpy"][0]
    turn = from_rotation_vector(np.array([0, 0, yaw])), from_rotation_vector(np.array([0, pitch, 0]))
    from scaling.robot.rotations import angle_between, quat_mul

    again = quat_mul(quat_mul(*turn), from_rotation_vector(np.array([roll, 0, 0])))
    assert angle_between(again, quat) < 1e-4


def test_at_rest_the_accelerometer_shows_gravity():
    message = robot_state(0.0)
    np.testing.assert_allclose(message["imu_state"]["accelerometer"][0], [0, 0, 9.81], atol=1e-5)


def test_targets_are_clipped_to_the_range_the_rate_and_the_effort():
    limiter = Limiter(CommandLimits(target_rate=5.0, effort_share=1.0))
    high = limiter(position_command(ZERO + 9), 0.0, RANGE_HIGH.copy(), ZERO)
    np.testing.assert_allclose(high.q, RANGE_HIGH)
    there = Limiter(CommandLimits(target_rate=5.0, effort_share=1e9))
    there(position_command(ZERO), 0.0, ZERO, ZERO)
    moved = there(position_command(ZERO + 0.5), 0.02, ZERO, ZERO)
    assert moved.q.max() <= 5.0 * 0.02 + 1e-12
    assert there.clipped == 1
    strong = Limiter(CommandLimits(target_rate=1e3, effort_share=1.0))
    found = strong(position_command(RANGE_LOW), 0.0, ZERO, ZERO + 0.5)
    torque = found.kp * found.q - found.kd * 0.5
    inside = (found.q > RANGE_LOW + 1e-9) & (found.q < RANGE_HIGH - 1e-9)
    assert (np.abs(torque[inside]) <= EFFORT_LIMIT[inside] * (1 + 1e-9)).all()
    assert inside.any()


@pytest.mark.filterwarnings("ignore:overflow")
def test_next_to_no_gain_is_still_a_finite_target():
    faint = position_command(KNEES_BENT_JOINTS)._replace(kp=np.full(29, 1e-310))
    assert np.isfinite(Limiter()(faint, 0.0, KNEES_BENT_JOINTS, np.full(29, 1.0)).q).all()


def test_damping_passes_every_limit_and_forgets_the_target():
    limiter = Limiter()
    assert is_damping(limiter(damping_command(), 0.0, ZERO, ZERO))
    with pytest.raises(UnsafeCommand, match="shape"):
        limiter(position_command(np.zeros(28)), 0.1, ZERO, ZERO)


def test_a_hold_shorter_than_its_own_period_is_refused():
    with pytest.raises(ValueError, match=r"hold is 0\.001"):
        WriterConfig(hold=0.001)
