"""The simulated twin in process: C MuJoCo at 500 Hz under the motors' own law, behind the robot's transport."""

import copy
import math

import mujoco
import numpy as np
from jaxtyping import Float

from scaling.bridge.clock import Clock
from scaling.bridge.messages import Imu
from scaling.bridge.reference import Followed
from scaling.bridge.transport import MotorCommand, RobotState, damping_command
from scaling.robot.model import CONTROL_DT, TWIN, PhysicsOptions, build_model
from scaling.robot.rotations import quat_conj, quat_mul, rotate, rotate_inverse, rotation_vector

# The harness of training (tracking.assist), which the bridge may not import; a test holds the two equal.
LINEAR_STIFFNESS, LINEAR_DAMPING = 2000.0, 400.0  # N/m, N s/m
ANGULAR_STIFFNESS, ANGULAR_DAMPING = 400.0, 40.0  # N m/rad, N m s/rad

# Held: nothing has weight, so that every joint reaches the clip's first frame as an evaluation starts from it (servos
# of these gains let an outstretched arm sag by half a radian), and no foot can push the pelvis away.
_HELD_INERTIA = 1e7  # kg, kg m^2


class SimRobot:
    """A G1 that stands held at the clip's first frame until `release`, then moves on its own.

    Physics follows `clock`: each read and write first brings it to the present under the command in force, so a late
    command acts late. After `release`, `assist` in [0, 1] pulls the pelvis to the clip as in training.
    """

    def __init__(self, clip: Followed, clock: Clock, assist: float = 0.0, options: PhysicsOptions = TWIN) -> None:
        if options.timestep > 0.002:
            raise ValueError(f"timestep {options.timestep} s: the twin steps at 500 Hz or faster")
        if not 0.0 <= assist <= 1.0:
            raise ValueError(f"assist is {assist}; it must be in [0, 1]")
        self._clip, self._clock, self._assist = clip, clock, assist
        self._model = copy.copy(build_model(options))
        self._model.actuator_gainprm[:] = 0.0
        self._torso = self._model.site("imu_in_torso").id
        self._data = mujoco.MjData(self._model)
        self._data.qpos[:] = clip.start_pose
        self._model.dof_armature[:6] = _HELD_INERTIA
        self._gravity = self._model.opt.gravity.copy()
        self._model.opt.gravity[:] = 0.0
        mujoco.mj_forward(self._model, self._data)
        self._began = clock.now()
        self._released: float | None = None
        self._harnessed_frame = -1
        self.write(damping_command())

    @property
    def qpos(self) -> Float[np.ndarray, "36"]:
        """The true state, which no robot would tell."""
        return self._data.qpos.copy()

    @property
    def qvel(self) -> Float[np.ndarray, "35"]:
        """The true velocities."""
        return self._data.qvel.copy()

    @property
    def torque(self) -> Float[np.ndarray, "29"]:
        """What the motors give (N m)."""
        return self._data.qfrc_actuator[6:].copy()

    @property
    def acceleration(self) -> Float[np.ndarray, "35"]:
        """The true accelerations, as `qvel`."""
        return self._data.qacc.copy()

    def torso(self) -> Imu:
        """The IMU of the torso, as of the last step; weight is felt while the gantry holds the robot, too."""
        site, motion = self._torso, np.zeros((2, 6))
        mujoco.mj_rnePostConstraint(self._model, self._data)
        for read, row in zip((mujoco.mj_objectVelocity, mujoco.mj_objectAcceleration), motion, strict=True):
            read(self._model, self._data, mujoco.mjtObj.mjOBJ_SITE, site, row, 1)
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, self._data.site_xmat[site])
        unfelt = self._data.site_xmat[site].reshape(3, 3).T @ (self._model.opt.gravity - self._gravity)
        return Imu(quat, motion[0, :3], motion[1, 3:] + unfelt)

    def release(self) -> None:
        """Let go of the pelvis; from here the clip runs."""
        self._advance()
        self._released = self._time
        self._model.dof_armature[:6] = 0.0
        self._model.opt.gravity[:] = self._gravity
        self._model.dof_damping[:3] = self._assist * LINEAR_DAMPING
        self._model.dof_damping[3:6] = self._assist * ANGULAR_DAMPING

    def read(self, wait: float = 0.0) -> RobotState:
        """The pelvis IMU and the encoders at the present time: there is nothing to wait for."""
        self._advance()
        qpos, qvel = self._data.qpos, self._data.qvel
        return RobotState(self._clock.now(), qpos[3:7].copy(), qvel[3:6].copy(), qpos[7:].copy(), qvel[6:].copy())

    def write(self, command: MotorCommand) -> None:
        """Put a command in force: tau = clip(kp (q - q_now) + kd (dq - dq_now) + tau, +-effort) at every step."""
        self._advance()
        # As servo parameters and not as a torque, so that the damping is integrated implicitly, as in training.
        bias = self._model.actuator_biasprm
        bias[:, 0] = command.kp * command.q + command.kd * command.dq + command.tau
        bias[:, 1], bias[:, 2] = -command.kp, -command.kd

    def fault(self) -> str | None:
        """Nothing guards this robot but the runtime."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def _time(self) -> float:
        return self._began + float(self._data.time)

    def _advance(self) -> None:
        step = self._model.opt.timestep
        for _ in range(math.floor((self._clock.now() - self._time) / step + 1e-6)):
            if self._released is not None and self._assist > 0:
                self._pull()
            mujoco.mj_step(self._model, self._data)
            if self._released is None:
                self._data.qpos[:7] = self._clip.start_pose[:7]
                self._data.qvel[:6] = 0.0

    def _pull(self) -> None:
        """The harness's force, held over each control step as in training."""
        frame = math.floor((self._time - (self._released or 0.0)) / CONTROL_DT + 1e-6)
        if frame != self._harnessed_frame:
            self._harnessed_frame = frame
            now = self._clip.at(frame)
            self._data.qfrc_applied[:6] = self._assist * harness_force(self._data.qpos, now.qpos, now.qvel)


def harness_force(
    qpos: Float[np.ndarray, "36"], reference_qpos: Float[np.ndarray, "36"], reference_qvel: Float[np.ndarray, "35"]
) -> Float[np.ndarray, "6"]:
    """World force (N) and body-frame torque (N m) on the pelvis at assist 1, without the damper's own half."""
    linear = LINEAR_STIFFNESS * (reference_qpos[:3] - qpos[:3]) + LINEAR_DAMPING * reference_qvel[:3]
    turn = rotation_vector(quat_mul(quat_conj(qpos[3:7]), reference_qpos[3:7]))
    spin = rotate_inverse(qpos[3:7], rotate(reference_qpos[3:7], reference_qvel[3:6]))
    return np.concatenate([linear, ANGULAR_STIFFNESS * turn + ANGULAR_DAMPING * spin])
