"""Between the robot's messages and what the runtime speaks: joints in motor order, SI units, wxyz everywhere."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scaling.bridge.transport import Health, MotorCommand, RobotState
from scaling.bridge.wire import IMU_STATE, LOW_CMD, LOW_STATE, NUM_JOINTS, blank
from scaling.robot.rotations import matrix

MODE_PR = 0  # ankles and waist by pitch and roll, as the policy's joints are
MODE_MACHINE = 5  # the G1 of 29 joints, as the simulated robots call it
ENABLED = 1

JOINTS = slice(0, NUM_JOINTS)


class Imu(NamedTuple):
    """Orientation (wxyz), and in its own frame angular velocity (rad/s) and specific force (m/s2; at rest 9.81 up)."""

    quat: Float[np.ndarray, "4"]
    gyro: Float[np.ndarray, "3"]
    force: Float[np.ndarray, "3"]


def command_message(command: MotorCommand, mode_machine: int, reserve: tuple[int, ...] = ()) -> np.ndarray:
    """LowCmd (array [1], not yet signed) of a command; `mode_machine` is the one that the robot's state names.

    `reserve` is for the twin alone (see `bridge.writer`): a robot has to be sent zeros.
    """
    message = blank(LOW_CMD)
    row = message[0]
    row["mode_pr"], row["mode_machine"] = MODE_PR, mode_machine
    motors = row["motor_cmd"][JOINTS]
    motors["mode"] = ENABLED
    for name, values in zip(MotorCommand._fields, command, strict=True):
        motors[name] = values
    row["reserve"][: len(reserve)] = reserve
    return message


def command_of(message: np.ndarray) -> MotorCommand:
    """The command of a LowCmd (array [1]); a motor that is not enabled gives no torque."""
    motors = message["motor_cmd"][0, JOINTS]
    on = (motors["mode"] == ENABLED).astype(float)
    q, dq, tau, kp, kd = (motors[name].astype(float) for name in MotorCommand._fields)
    return MotorCommand(q, dq, on * tau, on * kp, on * kd)


def state_of(message: np.ndarray, stamp: float, battery: float | None = None) -> RobotState:
    """The reading of a LowState (array [1]) that came at `stamp` (s); `battery` (%) is told by another message."""
    row = message[0]
    motors, imu = row["motor_state"][JOINTS], row["imu_state"]
    temperature = motors["temperature"].astype(float)
    health = Health(
        motors["tau_est"].astype(float),
        temperature[:, 0],
        temperature[:, 1],
        motors["motorstate"].copy(),
        int(row["tick"]),
        battery,
        int(row["wireless_remote"][2]) | int(row["wireless_remote"][3]) << 8,
    )
    return RobotState(
        stamp,
        imu["quaternion"].astype(float),
        imu["gyroscope"].astype(float),
        motors["q"].astype(float),
        motors["dq"].astype(float),
        health,
    )


def state_message(state: RobotState, acceleration: np.ndarray, torque: np.ndarray, tick: int) -> np.ndarray:
    """LowState (array [1], not yet signed) with every field that a bridge may wait for.

    `acceleration` [35] is `qacc` (world m/s2, body rad/s2, joint rad/s2), `torque` [29] in N m, `tick` in ms.
    """
    message = blank(LOW_STATE)
    row = message[0]
    row["version"] = (1, 0)
    row["mode_pr"], row["mode_machine"], row["tick"] = MODE_PR, MODE_MACHINE, tick & 0xFFFFFFFF
    body = matrix(state.quat)
    force = body.T @ (acceleration[:3] + np.array([0.0, 0.0, 9.81]))
    _write_imu(row["imu_state"], Imu(state.quat, state.gyro, force), body)
    motors = row["motor_state"][JOINTS]
    motors["mode"] = ENABLED
    motors["q"], motors["dq"], motors["ddq"] = state.joint_pos, state.joint_vel, acceleration[6:]
    motors["tau_est"], motors["temperature"], motors["vol"] = torque, (35, 40), 54.0
    return message


def imu_message(imu: Imu) -> np.ndarray:
    """IMUState (array [1]) of an IMU that speaks for itself."""
    message = blank(IMU_STATE)
    _write_imu(message[0], imu, matrix(imu.quat))
    return message


def _write_imu(row: np.ndarray, imu: Imu, body: Float[np.ndarray, "3 3"]) -> None:
    """`body` is the matrix of the IMU's orientation."""
    row["quaternion"], row["gyroscope"], row["accelerometer"] = imu
    pitch = np.arcsin(np.clip(-body[2, 0], -1.0, 1.0))
    row["rpy"] = np.arctan2(body[2, 1], body[2, 2]), pitch, np.arctan2(body[1, 0], body[0, 0])
    row["temperature"] = 40
