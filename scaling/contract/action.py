"""What an action means: a residual on the reference joints, in units of a quarter of the motor's reach."""

from typing import Any

from jaxtyping import Float

from scaling.robot.g1 import ACTION_SCALE, RANGE_HIGH, RANGE_LOW
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import namespace

Array = Any

ACTION_LIMIT = 5.0


def decode_action(
    action: Float[Array, "*b 29"], reference_qpos: Float[Array, "*b 36"], reference_qvel: Float[Array, "*b 35"]
) -> Float[Array, "*b 29"]:
    """Joint targets (rad) of the servos, within the joint limits.

    The base is the reference at the end of this control step (now + velocity * 20 ms), to which
    `.25 effort/kp * action` is added; a zero action is open-loop playback of the reference.
    """
    xp = namespace(action)
    scale = xp.asarray(ACTION_SCALE, dtype=action.dtype)
    low, high = xp.asarray(RANGE_LOW, dtype=action.dtype), xp.asarray(RANGE_HIGH, dtype=action.dtype)
    base = reference_qpos[..., 7:] + CONTROL_DT * reference_qvel[..., 6:]
    return xp.clip(base + scale * xp.clip(action, -ACTION_LIMIT, ACTION_LIMIT), low, high)
