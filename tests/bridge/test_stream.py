"""A stream is followed a little behind its sender, held where it stops, and led back to without a jump."""

import json

import numpy as np
import pytest

from scaling.bridge.clock import VirtualClock
from scaling.bridge.motion_message import HEADER, MessageError, MotionMessage, pack_message, unpack_message
from scaling.bridge.runtime import Runtime
from scaling.bridge.stream import StreamConfig, StreamReference
from scaling.contract.observation import LOOK_AHEAD
from scaling.robot.g1 import standing_qpos
from scaling.robot.rotations import angle_between, from_rotation_vector, quat_mul, rotate, yaw
from tests.bridge.conftest import PaperRobot, ZeroPolicy
from tests.bridge.test_runtime import QUICK, damped

DT = 0.02
SENDERS_CLOCK = 1e6  # s: nobody's clocks agree


def message(qpos, sequence=0, time=0.0, sent=None, rate=50.0):
    sent = time if sent is None else sent
    return MotionMessage(sequence, rate, SENDERS_CLOCK + time, SENDERS_CLOCK + sent, np.atleast_2d(qpos))


def as_json(told):
    return json.dumps(
        {
            "version": 1,
            "sequence": told.sequence,
            "rate": told.rate,
            "time": told.time,
            "sent": told.sent,
            "qpos": told.qpos.tolist(),
        }
    )


class Sender:
    """Streams a clip frame by frame at 50 Hz into a reference, as the clock goes."""

    def __init__(self, clip, config=None, ahead=1):
        self.clock, self.clip, self.ahead, self.sequence = VirtualClock(), clip, ahead, 0
        self.stream = StreamReference("test", self.clock, config or StreamConfig())

    def send(self, frame, qpos=None):
        last = min(frame + self.ahead, self.clip.frames)
        told = message(self.clip.qpos[frame:last] if qpos is None else qpos, self.sequence, frame * DT)
        self.sequence += 1
        return self.stream.take(pack_message(told))

    def play(self, frames, begin=None, silent=()):
        """The reference at each tick; tracking begins at frame `begin`, and nothing is sent in `silent`."""
        seen = []
        for frame in frames:
            self.clock.sleep_until(frame * DT)
            if frame not in silent:
                self.send(frame)
            if frame == begin:
                self.stream.begin(0)
            elif frame > begin:
                assert self.stream.follow(frame - begin) is None
            if frame >= begin:
                seen.append(self.stream.at(frame - begin))
        return seen


def test_both_forms_of_the_message_say_the_same(squats):
    told = message(squats.qpos[3:8], 7, 1.5, 1.4)
    for data in (pack_message(told), as_json(told), as_json(told).encode()):
        found = unpack_message(data)
        assert (found.sequence, found.rate, found.time, found.sent) == told[:4]
        np.testing.assert_allclose(found.qpos, told.qpos, atol=1e-6)
    assert HEADER.itemsize == 32
    assert len(pack_message(told)) == 32 + 5 * 144


def spoilt(change):
    qpos = standing_qpos()
    change(qpos)
    return pack_message(message(qpos))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (b"hello", "do not begin with G1MO"),
        (pack_message(message(standing_qpos()))[:-1], "1 frames take 176"),
        (pack_message(message(standing_qpos())).replace(b"G1MO\x01", b"G1MO\x02"), "version 2"),
        (pack_message(message(standing_qpos(), rate=0.0)), "rate 0.0"),
        (pack_message(message(standing_qpos(), time=np.nan)), "time nan"),
        (pack_message(message(standing_qpos(), rate=1e-40)), "rate"),
        (pack_message(message(standing_qpos(), time=1.7e18)), "sent 1.7"),
        (pack_message(message(standing_qpos(), time=1e5, sent=0.0)), "give both by one clock"),
        (b'{"qpos":' + b"[" * 200_000, "no JSON"),
        ('{"version":' * 200_000, "no JSON"),
        (b'{"version": "' + b"\xff\xfe" * 9, "no JSON"),
        (as_json(message(standing_qpos())).replace('"rate": 50.0', '"rate": 1' + "0" * 400), "is none"),
        (as_json(message(standing_qpos())).replace('"qpos": [[', '"qpos": [[[], '), "is none"),
        (spoilt(lambda q: q.__setitem__(12, np.nan)), "not finite"),
        (spoilt(lambda q: q.__setitem__(3, 0.5)), "quaternion of norm"),
        (spoilt(lambda q: q.__setitem__(10, 30.0)), "left_knee_joint is 27.12 rad out of its range: give radians"),
        ("{", "no JSON"),
        ("{}", "belongs here"),
        (as_json(message(standing_qpos())).replace('"sequence": 0', '"sequence": "x"'), "is none"),
        (as_json(message(standing_qpos()[:35])), "36 numbers"),
    ],
)
def test_what_is_no_motion_is_refused_and_counted(data, said):
    with pytest.raises(MessageError, match=said):
        unpack_message(data)
    stream = StreamReference("test", VirtualClock())
    assert said in stream.take(data)
    assert stream.report()["rejected"] == 1
    assert said in stream.report()["last_error"]
    assert not stream.ready


def test_whatever_comes_a_stream_stays_one_of_finite_poses(squats):
    """Bytes of good messages changed at random: each is refused or can be followed, and none raises."""
    rng, sender = np.random.default_rng(0), Sender(squats, StreamConfig(delay=0.1, blend=0.1))
    sender.play(range(20), begin=10)
    refused = 0
    for frame in range(20, 620):
        sender.clock.sleep_until(frame * DT)
        told = message(squats.qpos[frame % 100 : frame % 100 + 3], sender.sequence + 2 * frame, frame * DT)
        data = bytearray(pack_message(told) if frame % 2 else as_json(told).encode())
        for place in rng.integers(0, len(data), rng.integers(0, 4)):
            data[place] = rng.integers(0, 256)
        refused += sender.stream.take(bytes(data)) is not None
        assert sender.stream.follow(frame - 10) is None
        for part in sender.stream.at(frame - 10):
            assert np.isfinite(part).all(), frame
    assert 100 < refused < 500


def assert_same(ours, theirs):
    """Equal but for where on the floor it happens, which nobody tells a robot."""
    for name, wanted in theirs._asdict().items():
        found, wanted = np.copy(getattr(ours, name)), np.copy(wanted)
        if name.endswith("qpos"):
            found[..., :2] -= ours.qpos[:2]
            wanted[..., :2] -= theirs.qpos[:2]
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_streamed_clip_is_the_clip_delayed(squats):
    """Frame by frame from a sender of another clock: the policy sees what the clip itself would show."""
    sender = Sender(squats, StreamConfig(delay=0.24, blend=0.1))
    behind = 12
    for n, seen in enumerate(sender.play(range(150), begin=40)):
        if n < 10:  # the way from the start pose into the stream
            continue
        assert_same(seen, squats.at(40 + n - behind))
    assert max(LOOK_AHEAD) < behind
    assert sender.stream.report()["buffered_s"] == pytest.approx(0.24)


def test_a_plan_of_the_future_needs_no_delay(squats):
    sender = Sender(squats, StreamConfig(delay=0.0, blend=0.1), ahead=20)
    for n, seen in enumerate(sender.play(range(100), begin=40)):
        if n >= 10:
            assert_same(seen, squats.at(40 + n))


def test_between_frames_it_interpolates():
    clock = VirtualClock()
    stream = StreamReference("test", clock, StreamConfig(delay=0.0, blend=0.02))
    poses = np.tile(standing_qpos(), (11, 1))
    poses[:, 7] = np.linspace(0.0, 0.5, 11)
    poses[:, 3:7] = from_rotation_vector(np.linspace(0, 1, 11)[:, None] * np.array([0.0, 0.4, 0.0]))
    stream.take(pack_message(message(poses, rate=10.0)))
    stream.begin(0)
    for frame in range(1, 14):
        clock.sleep_until(frame * DT)
        stream.follow(frame)
        now = stream.at(frame)
        assert now.qpos[7] == pytest.approx(0.5 * frame * DT, abs=1e-6)
        assert now.qvel[6] == pytest.approx(0.5, abs=1e-4)
        assert now.qvel[3:6] == pytest.approx([0, 0.4, 0], abs=1e-4)


def steps(seen):
    """Largest change of a joint (rad) and of the orientation (rad) from tick to tick."""
    qpos = np.stack([reference.qpos for reference in seen])
    return np.abs(np.diff(qpos[:, 7:], axis=0)).max(), angle_between(qpos[1:, 3:7], qpos[:-1, 3:7]).max()


def test_silence_holds_the_pose_and_the_way_back_is_no_jump(squats):
    sender = Sender(squats, StreamConfig(delay=0.24, timeout=0.3, blend=0.5))
    silent = range(80, 140)
    seen = sender.play(range(200), begin=40, silent=silent)
    held = seen[110 - 40 : 140 - 40]
    for reference in held:
        np.testing.assert_array_equal(reference.qpos, held[0].qpos)
        np.testing.assert_array_equal(reference.ahead_qpos[1], held[0].qpos)
        assert not reference.qvel.any()
        assert not reference.ahead_qvel.any()
    assert np.abs(held[0].qpos - squats.qpos[79]).max() < 0.02, "the last frame that came"
    live, _ = steps(seen[10:40])
    assert np.abs(squats.qpos[139 - 12, 7:] - held[0].qpos[7:]).max() > 5 * live, "a jump would show"
    assert steps(seen[95:])[0] < 3 * live
    np.testing.assert_allclose(seen[-1].qpos[7:], squats.qpos[199 - 12, 7:], atol=1e-4)
    report = sender.stream.report()
    assert report["losses"] == 1
    assert not report["lost"]


def test_a_new_sender_is_turned_to_where_the_robot_faces(squats):
    """Another clock, another place, another heading: after a silence the motion goes on from where it was held."""
    sender = Sender(squats, StreamConfig(timeout=0.2, blend=0.2))
    sender.play(range(60), begin=40)
    stream, turn = sender.stream, from_rotation_vector(np.array([0, 0, 2.0]))
    held = stream.at(20).qpos
    elsewhere = squats.qpos.copy()
    elsewhere[:, :3] = rotate(turn, elsewhere[:, :3]) + np.array([3.0, -2.0, 0.0])
    elsewhere[:, 3:7] = quat_mul(np.tile(turn, (len(elsewhere), 1)), elsewhere[:, 3:7])
    seen = []
    for frame in range(60, 140):
        sender.clock.sleep_until(frame * DT)
        if frame >= 80:
            told = message(elsewhere[frame - 20], frame, frame * DT - 5e5)
            stream.take(pack_message(told))
        assert stream.follow(frame - 40) is None
        seen.append(stream.at(frame - 40).qpos)
    assert stream.report()["losses"] == 1
    assert np.linalg.norm(seen[-1][:2] - held[:2]) < 0.2
    assert abs(yaw(seen[-1][3:7]) - yaw(held[3:7])) < 0.2
    qpos = np.stack(seen)
    assert np.abs(np.diff(qpos[:, 7:], axis=0)).max() < 0.1
    np.testing.assert_allclose(seen[-1][7:], elsewhere[139 - 20 - 12, 7:], atol=1e-3)


def test_late_and_doubled_messages_are_dropped(squats):
    sender = Sender(squats)
    sender.play(range(50), begin=40)
    known = sender.stream.at(9)
    sender.sequence = 20
    assert sender.send(5, qpos=squats.qpos[100]) is None
    assert sender.stream.report()["late"] == 1
    np.testing.assert_array_equal(sender.stream.at(9).qpos, known.qpos)


def test_a_drifting_clock_is_followed(squats):
    """A sender whose second is half a percent longer: the delay stays what it was."""
    clock = VirtualClock()
    stream = StreamReference("test", clock, StreamConfig())
    standing = np.tile(standing_qpos(), (1, 1))
    for frame in range(3000):
        clock.sleep_until(frame * DT)
        stream.take(pack_message(message(standing, frame, 0.995 * frame * DT)))
        if frame == 50:
            stream.begin(0)
        elif frame > 50:
            stream.follow(frame - 50)
    assert stream.report()["buffered_s"] == pytest.approx(0.24, abs=0.03)


def test_the_runtime_follows_a_stream_and_ends_where_it_is_told_to(squats):
    """The whole loop: held through a silence, and damped once the silence is longer than `give_up`."""
    clock = VirtualClock()
    stream = StreamReference("test", clock, StreamConfig(give_up=1.0))
    frame = iter(range(10_000))

    def feed(robot, state):
        n = next(frame)
        if n < 100:
            stream.take(pack_message(message(squats.qpos[n], n, n * DT)))
        return state

    stream.take(pack_message(message(squats.qpos[0], 2**32 - 1, -DT)))
    robot = PaperRobot(squats, clock, feed)
    runtime = Runtime(ZeroPolicy(), stream, robot, clock, QUICK, may_leave=lambda state: True)
    report = runtime.run()
    assert report["faults"] == []
    assert report["ended"] == "nothing has been streamed for 1.0 s"
    assert report["reference"]["losses"] == 1
    assert report["frames"] is None
    assert damped(robot)
    stiff = np.stack([command.q for command in robot.commands if command.kp.any()])
    np.testing.assert_allclose(stiff[-1], squats.qpos[99, 7:], atol=0.02)


@pytest.mark.parametrize("wrong", [{"timeout": 0.0}, {"blend": -1.0}, {"delay": 11.0}, {"give_up": 0.1}])
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StreamConfig(**wrong)
