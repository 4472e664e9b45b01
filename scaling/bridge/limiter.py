"""No command leaves unseen: finite, within the joints' range, no faster than a limit, no stronger than the motors."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.bridge.transport import DAMPING_KD, MotorCommand
from scaling.robot.g1 import EFFORT_LIMIT, KD, KP, NUM_JOINTS, RANGE_HIGH, RANGE_LOW, VELOCITY_LIMIT

_FIELDS = MotorCommand._fields
# Room for float32 on the wire, so that the gains of training are not called too high.
_GAIN_ROOM = 1.0 + 1e-5


class UnsafeCommand(ValueError):
    """A command that no clipping can mend; the reason is the text."""


@dataclass(frozen=True)
class CommandLimits:
    """`target_rate` (rad/s): how fast a joint's target may run; `effort_share`: of the motor's effort that it may ask.

    Both leave a trained policy as it is: its targets lead the joint by no more than the motor can give, and a share
    above one keeps a saturated motor saturated while the joint moves on between two commands.
    """

    target_rate: float = 100.0
    effort_share: float = 2.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be positive")


class Limiter:
    """Clips each command against the one before it and against where the joints are."""

    def __init__(self, limits: CommandLimits = CommandLimits()) -> None:
        self.limits = limits
        self.clipped = 0
        self._target: Float[np.ndarray, 29] | None = None
        self._time = 0.0

    def __call__(
        self, command: MotorCommand, now: float, joint_pos: Float[np.ndarray, "29"], joint_vel: Float[np.ndarray, "29"]
    ) -> MotorCommand:
        """What may be sent at `now` (s). Raises UnsafeCommand for what is not 29 finite numbers or of negative gain."""
        for name, values in zip(_FIELDS, command, strict=True):
            if np.shape(values) != (NUM_JOINTS,):
                raise UnsafeCommand(f"the command's {name} has shape {np.shape(values)}")
            if not np.isfinite(values).all():
                raise UnsafeCommand(f"the command's {name} is not finite")
        if (command.kp < 0).any() or (command.kd < 0).any():
            raise UnsafeCommand("the command has a negative gain")
        if (command.kp > _GAIN_ROOM * KP).any() or (command.kd > _GAIN_ROOM * np.maximum(KD, DAMPING_KD)).any():
            raise UnsafeCommand("the command's gains are above those of training")
        stiff = command.kp > 0
        target = np.clip(command.q, RANGE_LOW, RANGE_HIGH)
        if stiff.any():
            # The first stiff command starts from where the robot is, however it came there.
            before = joint_pos if self._target is None else self._target
            reach = (
                self.limits.target_rate * min(max(now - self._time, 0.002), 0.1) if self._target is not None else 1.0
            )
            target = np.clip(target, before - reach, before + reach)
            effort = self.limits.effort_share * EFFORT_LIMIT
            gain = np.where(stiff, command.kp, 1.0)
            drag = command.kd * (command.dq - joint_vel) + command.tau
            target = np.where(
                stiff, np.clip(target, joint_pos + (-effort - drag) / gain, joint_pos + (effort - drag) / gain), target
            )
            target = np.clip(target, RANGE_LOW, RANGE_HIGH)
        self._target, self._time = (target if stiff.any() else None), now
        limited = MotorCommand(
            target,
            np.clip(command.dq, -VELOCITY_LIMIT, VELOCITY_LIMIT),
            np.clip(command.tau, -EFFORT_LIMIT, EFFORT_LIMIT),
            command.kp,
            command.kd,
        )
        moved = np.abs(limited.q - command.q) > 1e-6
        self.clipped += bool((moved & stiff).any())
        return limited
