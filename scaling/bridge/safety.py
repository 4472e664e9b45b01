"""Who may move the motors: the state machine of the runtime and the checks that end it in damping."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scaling.bridge.transport import RobotState
from scaling.contract.observation import gravity_direction
from scaling.robot.g1 import JOINT_NAMES, VELOCITY_LIMIT


class State(StrEnum):
    """Damping is the first and the last."""

    DAMPING = "damping"
    RAMP = "ramp"
    STANDBY = "stand-by"
    TRACK = "track"


_NEXT = {State.DAMPING: State.RAMP, State.RAMP: State.STANDBY, State.STANDBY: State.TRACK}


@dataclass(frozen=True)
class Limits:
    """When the runtime gives up (s, rad; joint velocities as a share of each motor's limit)."""

    stale: float = 0.1
    tilt: float = 1.0
    start_error: float = 0.4
    velocity_share: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limit {name} is {value}; it must be positive")


class Transition(NamedTuple):
    """One change of state, when (s) and why."""

    time: float
    before: State
    after: State
    reason: str


@dataclass
class SafetyMachine:
    """damping -> ramp -> stand-by -> track -> damping; once it has returned to damping it stays there.

    A new start is a new machine, which only a person's command makes.
    """

    state: State = State.DAMPING
    ended: bool = False
    transitions: list[Transition] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def advance(self, now: float, reason: str) -> None:
        """To the next state on the way to tracking. Raises RuntimeError after the end or from tracking."""
        if self.ended or self.state not in _NEXT:
            raise RuntimeError(f"no way on from {self.state}{' after its end' if self.ended else ''}")
        self._move(now, _NEXT[self.state], reason)

    def stop(self, now: float, reason: str) -> None:
        """To damping for good, without a fault."""
        if not self.ended:
            self._move(now, State.DAMPING, reason)
            self.ended = True

    def fault(self, now: float, reason: str) -> None:
        """To damping for good, because of `reason`."""
        if not self.ended:
            self.faults.append(reason)
        self.stop(now, reason)

    def _move(self, now: float, after: State, reason: str) -> None:
        self.transitions.append(Transition(now, self.state, after, reason))
        self.state = after


def state_fault(
    state: RobotState | None, now: float, reference_quat: Float[np.ndarray, "4"], limits: Limits
) -> str | None:
    """What is wrong with the robot's newest reading, None where nothing is."""
    if state is None:
        return "the robot has sent no state"
    for name in ("stamp", "quat", "gyro", "joint_pos", "joint_vel"):
        if not np.isfinite(getattr(state, name)).all():
            return f"the robot's {name} is not finite"
    age = now - state.stamp
    if age > limits.stale:
        return f"the robot's state is {1e3 * age:.0f} ms old (limit {1e3 * limits.stale:.0f} ms)"
    norm = float(np.linalg.norm(state.quat))
    if abs(norm - 1.0) > 0.05:
        return f"the robot's IMU quaternion has norm {norm:.3f}"
    cosine = float(gravity_direction(state.quat / norm) @ gravity_direction(reference_quat))
    tilt = float(np.arccos(np.clip(cosine, -1.0, 1.0)))
    if tilt > limits.tilt:
        return f"the robot is tilted {tilt:.2f} rad from the reference (limit {limits.tilt:.2f})"
    over = np.abs(state.joint_vel) / (limits.velocity_share * VELOCITY_LIMIT)
    worst = int(np.argmax(over))
    if over[worst] > 1.0:
        return f"{JOINT_NAMES[worst]} moves at {state.joint_vel[worst]:.1f} rad/s, beyond its limit"
    return None


def start_fault(state: RobotState, start_joints: Float[np.ndarray, "29"], limits: Limits) -> str | None:
    """Why tracking must not begin from here, None where it may."""
    error = np.abs(state.joint_pos - start_joints)
    worst = int(np.argmax(error))
    if error[worst] > limits.start_error:
        return f"{JOINT_NAMES[worst]} is {error[worst]:.2f} rad from the start pose (limit {limits.start_error:.2f})"
    return None
