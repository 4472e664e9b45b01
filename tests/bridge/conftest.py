"""A short clip, and a robot of paper that does what it is told at once."""

import numpy as np
import pytest

from scaling.bridge.clock import VirtualClock
from scaling.bridge.reference import ClipReference
from scaling.bridge.transport import RobotState
from scaling.motion.clip import Motion
from scaling.motion.synthetic import generate
from scaling.robot.g1 import standing_qpos


@pytest.fixture(scope="session")
def squats() -> ClipReference:
    """Four seconds of squats."""
    return ClipReference(generate("squat", 4.0, 3))


@pytest.fixture(scope="session")
def standing() -> ClipReference:
    """One second of standing still."""
    return ClipReference(Motion(np.tile(standing_qpos(), (50, 1)), 50.0, "standing"))


class ZeroPolicy:
    """Plays the reference through the servos, and keeps what it was shown."""

    def __init__(self):
        self.seen, self.firsts = [], []

    def reset(self):
        self.seen, self.firsts = [], []

    def act(self, obs, first):
        self.seen.append(obs)
        self.firsts.append(bool(first))
        return np.zeros(29)


class PaperRobot:
    """Reaches every commanded position by the next reading; `spoil(robot, state)` may change a reading."""

    def __init__(self, clip, clock: VirtualClock, spoil=lambda robot, state: state):
        self.clock, self.spoil, self.commands, self.guard = clock, spoil, [], None
        self.pose = clip.start_pose.copy()

    def read(self):
        zero = np.zeros(29)
        quat, joints = self.pose[3:7].copy(), self.pose[7:].copy()
        return self.spoil(self, RobotState(self.clock.now(), quat, np.zeros(3), joints, zero))

    def write(self, command):
        self.commands.append(command)
        if command.kp.any():
            self.pose[7:] = command.q

    def fault(self):
        return self.guard

    def close(self):
        pass
