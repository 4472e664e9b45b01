"""The loop shows the policy what training showed it, commands what it answers, and damps on every way out."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.bridge.clock import VirtualClock
from scaling.bridge.reference import ClipReference
from scaling.bridge.runtime import Runtime, RuntimeConfig
from scaling.bridge.safety import State
from scaling.contract.observation import STUDENT_TERMS, Inputs, Sensors, observe
from scaling.motion.clip import Motion
from scaling.robot.g1 import KD, KP, RANGE_HIGH, RANGE_LOW, standing_qpos
from scaling.robot.rotations import from_rotation_vector, quat_mul, yaw
from scaling.tracking.reference import make_store, reference_at
from tests.bridge.conftest import PaperRobot, ZeroPolicy

QUICK = RuntimeConfig(ramp=0.1, standby=0.1, linger=0.1, damping=0.5)


def drive(clip, policy=None, spoil=lambda robot, state: state, config=QUICK, **watchers):
    """(report, robot, policy) of one run that everybody allows."""
    clock = VirtualClock()
    robot, policy = PaperRobot(clip, clock, spoil), policy or ZeroPolicy()
    runtime = Runtime(policy, clip, robot, clock, config, may_leave=lambda state: True, **watchers)
    return runtime.run(), robot, policy


def damped(robot, seconds=QUICK.damping):
    """The last `seconds` of commands are damping, sent at 50 Hz."""
    last = robot.commands[-round(seconds * 50) :]
    return len(last) == round(seconds * 50) and all(not c.kp.any() and (c.kd == 8).all() for c in last)


def test_reference_is_the_one_of_training(squats):
    store = make_store(squats.qpos, np.array([0]), np.array([squats.frames]))
    for frame in (0, 17, squats.frames - 7, squats.frames - 1, squats.frames + 5):
        trained = reference_at(store, jnp.array(0), jnp.array(frame))
        for ours, theirs in zip(squats.at(frame), trained, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert np.abs(squats.qvel).max() > 0.5
    assert not squats.at(squats.frames + 3).qvel.any()


def test_a_clip_runs_to_its_end_and_then_damps(squats):
    report, robot, policy = drive(squats)
    assert report["faults"] == []
    assert report["state"] == "damping"
    assert report["ended"] == "the clip has ended"
    assert [t["to"] for t in report["transitions"]] == ["ramp", "stand-by", "track", "damping"]
    assert all(t["reason"] for t in report["transitions"])
    assert report["ticks"] == squats.frames + round(QUICK.linger * 50)
    assert report["overruns"] == 0
    assert damped(robot)
    assert policy.firsts == [True] + [False] * (report["ticks"] - 1)


def test_the_policy_sees_what_training_shows(squats):
    _, robot, policy = drive(squats)
    tracked = [c for c in robot.commands if c.kp.any()][-len(policy.seen) :]
    for frame in (1, 60, squats.frames - 1, squats.frames + 2):
        zero = np.zeros(29)
        # The paper robot stands where the command before sent it, and never tilts.
        sensors = Sensors(squats.start_pose[3:7], np.zeros(3), tracked[frame - 1].q, zero)
        wanted = observe(STUDENT_TERMS, Inputs(sensors, squats.at(frame), zero))
        np.testing.assert_allclose(policy.seen[frame], wanted, atol=1e-5)
    assert policy.seen[0].dtype == np.float32


def test_zero_actions_command_the_next_frame_at_the_gains_of_training(squats):
    _, robot, policy = drive(squats)
    tracked = [c for c in robot.commands if c.kp.any()][-len(policy.seen) :]
    for frame in (0, 50, 120):
        np.testing.assert_allclose(tracked[frame].q, np.clip(squats.qpos[frame + 1, 7:], RANGE_LOW, RANGE_HIGH))
        np.testing.assert_array_equal(tracked[frame].kp, KP)
        np.testing.assert_array_equal(tracked[frame].kd, KD)


def test_last_action_comes_back_and_moves_the_target(standing):
    class Steady(ZeroPolicy):
        def act(self, obs, first):
            super().act(obs, first)
            return np.full(29, 0.01 * len(self.seen))

    _, _, policy = drive(standing, Steady())
    ordered = list(STUDENT_TERMS)
    from scaling.contract.observation import observation_dim

    at = observation_dim(tuple(ordered[: ordered.index("last_action")]))
    shown = np.array([obs[at] for obs in policy.seen])
    np.testing.assert_allclose(shown, 0.01 * np.arange(len(shown)), atol=1e-6)


@pytest.mark.parametrize("turn", [0.0, 2.0, -3.1])
def test_the_robots_north_does_not_matter(squats, turn):
    """A robot that faces anywhere when tracking starts is shown the same observations."""
    heading = from_rotation_vector(np.array([0.0, 0.0, turn]))
    _, _, policy = drive(squats, spoil=lambda robot, state: state._replace(quat=quat_mul(heading, state.quat)))
    _, _, plain = drive(squats)
    np.testing.assert_allclose(policy.seen, plain.seen, atol=1e-6)
    assert abs(yaw(squats.start_pose[3:7])) < 3.2


def test_the_ramp_moves_from_where_the_robot_is_to_the_start(squats):
    start = squats.start_pose[7:]

    clock = VirtualClock()
    robot = PaperRobot(squats, clock)
    robot.pose[7:] = start + 0.3
    Runtime(ZeroPolicy(), squats, robot, clock, QUICK, may_leave=lambda state: True).run()
    targets = np.array([c.q for c in robot.commands if c.kp.any()])[: round(QUICK.ramp * 50) + 1]
    assert np.abs(targets[0] - robot.commands[0].q - start - 0.3).max() < 0.1
    assert (np.diff(targets, axis=0) <= 1e-9).all()
    assert np.abs(np.diff(targets, axis=0)).max() < 0.3 / (QUICK.ramp * 50) + 1e-6
    np.testing.assert_allclose(targets[-1], start)


def test_in_the_steady_state_it_keeps_nothing_but_two_numbers_a_tick():
    """Over a thousand ticks the memory that is held grows by the two lists of times that the report is made of."""
    standing = ClipReference(Motion(np.tile(standing_qpos(), (1300, 1)), 50.0, "standing"))
    held = {}

    class Forgetful(ZeroPolicy):
        def act(self, obs, first):
            return np.zeros(29)

    def watch(frame, state):
        robot.commands.clear()
        if frame in (200, 1200):
            held[frame] = tracemalloc.get_traced_memory()[0]

    clock = VirtualClock()
    robot = PaperRobot(standing, clock)
    runtime = Runtime(Forgetful(), standing, robot, clock, QUICK, may_leave=lambda state: True, on_frame=watch)
    tracemalloc.start()
    try:
        assert runtime.run()["faults"] == []
    finally:
        tracemalloc.stop()
    assert held[1200] - held[200] < 1000 * 128


def in_track(robot):
    """Whether enough time has passed for tracking to have run a while."""
    return robot.clock.now() > 0.6


FAULTS = {
    "nan joint": (lambda s: s._replace(joint_pos=s.joint_pos * np.nan), "joint_pos is not finite"),
    "stale": (lambda s: s._replace(stamp=s.stamp - 0.11), "110 ms old"),
    "fallen": (lambda s: s._replace(quat=from_rotation_vector(np.array([1.2, 0.0, 0.0]))), "tilted"),
    "racing": (lambda s: s._replace(joint_vel=np.full(29, 50.0)), "beyond its limit"),
    "silent": (lambda s: None, "no state"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_while_tracking_ends_in_damping_within_its_own_tick(standing, name):
    spoilt, said = FAULTS[name]
    times = []

    def spoil(robot, state):
        if not in_track(robot):
            return state
        times.append(len(robot.commands))
        return spoilt(state)

    report, robot, policy = drive(standing, spoil=spoil)
    assert len(policy.seen) > 5
    assert len(report["faults"]) == 1
    assert said in report["faults"][0]
    assert report["ended"] == report["faults"][0]
    assert report["state"] == "damping"
    assert all(not command.kp.any() for command in robot.commands[times[0] :])
    assert damped(robot)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: np.full(29, np.nan), "action is not finite"),
        (lambda: np.full(29, np.inf), "action is not finite"),
        (lambda: np.zeros(28), "no 29 actions"),
        (lambda: 1 / 0, "ZeroDivisionError in the control loop"),
    ],
)
def test_a_policy_that_breaks_is_damped(standing, answer, said):
    class Breaking(ZeroPolicy):
        def act(self, obs, first):
            super().act(obs, first)
            return answer() if len(self.seen) > 10 else np.zeros(29)

    report, robot, _ = drive(standing, Breaking())
    assert said in report["faults"][0]
    assert report["ticks"] == 10
    assert damped(robot)


@pytest.mark.parametrize("ending", ["it raises", "it is infinite", "the clip has ended"])
def test_whatever_ends_a_run_damping_is_sent_before_anybody_is_told(standing, ending):
    """A recorder's disk may stall: it must not hold up the damping. What the policy said is told, refused or not."""
    robots, told = [], []

    class Ending(ZeroPolicy):
        def act(self, obs, first):
            action = super().act(obs, first)
            if len(self.seen) == 20 and ending == "it raises":
                raise ZeroDivisionError("a defect")
            return action + (np.inf if len(self.seen) == 20 and ending == "it is infinite" else 0.0)

    def hear(tick):
        told.append((tick, robots[0].commands[-1].kp.any()))

    def spoil(robot, state):
        robots[:] = [robot]
        return state

    report, _, _ = drive(standing, Ending(), spoil, on_tick=hear)
    assert (report["faults"] == []) == (ending == "the clip has ended")
    last, stiff = told[-1]
    assert last.target is None and not stiff
    assert (last.action is not None and np.isinf(last.action).all()) == (ending == "it is infinite")
    for tick, stiff in told[:-1]:
        assert (tick.target is not None) == stiff == (tick.phase is not State.DAMPING)


def test_ctrl_c_damps_and_is_no_fault(standing):
    def stop(frame, state):
        if frame == 20:
            raise KeyboardInterrupt

    report, robot, _ = drive(standing, on_frame=stop)
    assert report["faults"] == []
    assert report["ended"] == "stopped by the operator"
    assert damped(robot)


def test_a_wire_that_breaks_is_told_and_not_raised(standing):
    clock = VirtualClock()
    robot = PaperRobot(standing, clock)

    def broken(command):
        raise OSError("cable out")

    robot.write = broken
    report = Runtime(ZeroPolicy(), standing, robot, clock, QUICK, may_leave=lambda state: True).run()
    assert "cable out" in report["faults"][0]
    assert report["state"] == "damping"


def test_nothing_moves_until_somebody_allows_it(standing):
    clock = VirtualClock()
    robot = PaperRobot(standing, clock)
    asked = []

    def may_leave(state):
        asked.append(state)
        if len(asked) > 100:
            raise KeyboardInterrupt
        return False

    Runtime(ZeroPolicy(), standing, robot, clock, QUICK, may_leave=may_leave).run()
    assert set(asked) == {State.DAMPING}
    assert all(not command.kp.any() for command in robot.commands)


def test_a_robot_that_never_answers_is_a_fault_after_its_time(standing):
    report, robot, _ = drive(standing, spoil=lambda robot, state: None)
    assert report["faults"] == ["the robot has sent no state"]
    assert report["transitions"][0]["time_s"] == pytest.approx(QUICK.first_state, abs=0.05)
    assert all(not command.kp.any() for command in robot.commands)


def test_far_from_the_start_pose_is_no_place_to_start(standing):
    def stuck(robot, state):
        joints = state.joint_pos.copy()
        joints[3] += 0.5
        return state._replace(joint_pos=joints)

    report, robot, policy = drive(standing, spoil=stuck)
    assert "left_knee_joint is 0.50 rad from the start pose" in report["faults"][0]
    assert policy.seen == []
    assert damped(robot)


def test_a_faster_clip_is_followed_at_50_hz(squats):
    doubled = ClipReference(Motion(np.repeat(squats.qpos, 2, axis=0), 100.0, "doubled"))
    assert doubled.frames == squats.frames
    np.testing.assert_allclose(doubled.qpos, squats.qpos, atol=1e-9)
