"""A short clip, and a robot of paper that does what it is told at once."""

import jax
import numpy as np
import pytest

from scaling.bridge.clock import VirtualClock
from scaling.bridge.reference import ClipReference
from scaling.bridge.transport import RobotState
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.motion.clip import Motion
from scaling.motion.synthetic import generate
from scaling.policy.export import export_policy
from scaling.robot.g1 import standing_qpos
from scaling.students import model
from scaling.students.config import StudentConfig

OBS = observation_dim(STUDENT_TERMS)


@pytest.fixture(scope="session")
def squats() -> ClipReference:
    """Four seconds of squats."""
    return ClipReference(generate("squat", 4.0, 3))


@pytest.fixture(scope="session")
def standing() -> ClipReference:
    """One second of standing still."""
    return ClipReference(Motion(np.tile(standing_qpos(), (50, 1)), 50.0, "standing"))


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    """A fresh student's artifact: actions near zero, so the servos play the clip."""
    config = StudentConfig("transformer", OBS, width=16, depth=1, heads=2)
    normaliser = Normaliser(np.zeros(OBS, np.float32), np.ones(OBS, np.float32))
    out = tmp_path_factory.mktemp("bridge") / "policy"
    params = model.init(config, jax.random.key(0))
    return export_policy(config, params, normaliser, np.full(29, 0.1, np.float32), {}, out)


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

    def read(self, wait=0.0):
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
