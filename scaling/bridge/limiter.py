"""No command leaves unseen: finite, within the joints' range, no faster than a limit, no stronger than the motors."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.bridge.transport import DAMPING_KD, MotorCommand
from scaling.robot.g1 import EFFORT_LIMIT, KD, KP, NUM_JOINTS, RANGE_HIGH, RANGE_LOW, VELOCITY_LIMIT

_FIELDS = MotorCommand._fields
# Room for float32 on the wire, so that the gains of training are not called too high.
_HIGHEST_GAINS = (1.0 + 1e-5) * np.stack([KP, np.maximum(KD, DAMPING_KD)])


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
        self._effort = limits.effort_share * EFFORT_LIMIT
        self._target: Float[np.ndarray, 29] | None = None
        self._time = 0.0

    def __call__(
        self, command: MotorCommand, now: float, joint_pos: Float[np.ndarray, "29"], joint_vel: Float[np.ndarray, "29"]
    ) -> MotorCommand:
        """What may be sent at `now` (s). Raises UnsafeCommand for what is not 29 finite numbers or of negative gain."""
        q, dq, tau, kp, kd = _sound(command)
        stiff = kp > 0
        target = _within(q, RANGE_LOW, RANGE_HIGH)
        if stiff.any():
            # The first stiff command starts from where the robot is, however it came there.
            before, reach = joint_pos, 1.0
            if self._target is not None:
                before, reach = self._target, self.limits.target_rate * min(max(now - self._time, 0.002), 0.1)
            target = _within(target, before - reach, before + reach)
            gain, drag = np.where(stiff, kp, 1.0), kd * (dq - joint_vel) + tau
            low, high = joint_pos + (-self._effort - drag) / gain, joint_pos + (self._effort - drag) / gain
            target = np.where(stiff, _within(target, low, high), target)
            target = _within(target, RANGE_LOW, RANGE_HIGH)
            self._target = target
            self.clipped += bool((stiff & (np.abs(target - q) > 1e-6)).any())
        else:
            self._target = None
        self._time = now
        speed, torque = _within(dq, -VELOCITY_LIMIT, VELOCITY_LIMIT), _within(tau, -EFFORT_LIMIT, EFFORT_LIMIT)
        return MotorCommand(target, speed, torque, kp, kd)


def _sound(command: MotorCommand) -> Float[np.ndarray, "5 29"]:
    """The command as one array. Raises UnsafeCommand for what no clipping can mend."""
    for name, values in zip(_FIELDS, command, strict=True):
        if np.shape(values) != (NUM_JOINTS,):
            raise UnsafeCommand(f"the command's {name} has shape {np.shape(values)}")
    block = np.array(command, np.float64)
    if not np.isfinite(block).all():
        worst = _FIELDS[int(np.argmin(np.isfinite(block).all(1)))]
        raise UnsafeCommand(f"the command's {worst} is not finite")
    if (block[3:] < 0).any():
        raise UnsafeCommand("the command has a negative gain")
    if (block[3:] > _HIGHEST_GAINS).any():
        raise UnsafeCommand("the command's gains are above those of training")
    return block


def _within(
    values: Float[np.ndarray, "29"], low: Float[np.ndarray, "29"], high: Float[np.ndarray, "29"]
) -> Float[np.ndarray, "29"]:
    """`np.clip`, in a tenth of its time on so few numbers."""
    return np.minimum(np.maximum(values, low), high)
