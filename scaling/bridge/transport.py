"""What passes between the runtime and a robot, real or simulated."""

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, UInt32

from scaling.robot.g1 import KD, KP, NUM_JOINTS

DAMPING_KD = 8.0  # N m s/rad on every joint: the robot sinks instead of dropping


class Health(NamedTuple):
    """What a robot says of itself beside its motion: N m, C, error words, ms since it started, %, keys held down."""

    torque: Float[np.ndarray, "29"]
    casing: Float[np.ndarray, "29"]
    winding: Float[np.ndarray, "29"]
    motor_error: UInt32[np.ndarray, "29"]
    tick: int
    battery: float | None = None
    keys: int = 0


class RobotState(NamedTuple):
    """One reading: IMU orientation (wxyz), gyro (rad/s, body frame), joints (rad, rad/s), taken at `stamp` (s).

    `health` is None where there are no motors to be ill, as in the simulation inside this process.
    """

    stamp: float
    quat: Float[np.ndarray, "4"]
    gyro: Float[np.ndarray, "3"]
    joint_pos: Float[np.ndarray, "29"]
    joint_vel: Float[np.ndarray, "29"]
    health: Health | None = None


class MotorCommand(NamedTuple):
    """What each motor obeys until the next: torque = kp (q - its q) + kd (dq - its dq) + tau, within its effort."""

    q: Float[np.ndarray, "29"]
    dq: Float[np.ndarray, "29"]
    tau: Float[np.ndarray, "29"]
    kp: Float[np.ndarray, "29"]
    kd: Float[np.ndarray, "29"]


class Transport(Protocol):
    """A wire to one robot."""

    def read(self, wait: float = 0.0) -> RobotState | None:
        """The newest reading, None before the first; waits up to `wait` s for one that is newer than this call."""
        ...

    def write(self, command: MotorCommand) -> None:
        """Hand a command over; it holds until the next."""
        ...

    def fault(self) -> str | None:
        """Why the wire's own guard has damped for good, None where it has not."""
        ...

    def close(self) -> None:
        """Let go of the wire."""
        ...


_ZERO = np.zeros(NUM_JOINTS)


def position_command(target: Float[np.ndarray, "29"]) -> MotorCommand:
    """Servo to joint positions (rad) at the gains of training."""
    return MotorCommand(target, _ZERO, _ZERO, KP, KD)


def damping_command() -> MotorCommand:
    """No stiffness, damping alone: the state that every fault ends in."""
    return MotorCommand(_ZERO, _ZERO, _ZERO, _ZERO, np.full(NUM_JOINTS, DAMPING_KD))
