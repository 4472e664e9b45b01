"""The first and the last second of a clip where the robot floats or sinks, while the rest of it is on the floor."""

import numpy as np
from jaxtyping import Float

from scaling.robot.kinematics import soles

_ON_FLOOR_M = 0.05  # median height of the lowest sole of a clip that is on the floor


def grounded(
    qpos: Float[np.ndarray, "T 36"], rate_hz: float, seconds: float, floats_m: float, sinks_m: float
) -> tuple[int, int]:
    """Frames [start, end) that are left without those at either end, within `seconds`, that float or sink.

    A clip that is off the floor altogether, or no longer than both ends, comes back whole: trimming does not mend it.
    """
    total, margin = len(qpos), int(seconds * rate_hz)
    if total <= 2 * margin + 1:
        return 0, total
    lowest = soles(qpos)[..., 2].min(axis=(1, 2))
    if abs(float(np.median(lowest))) > _ON_FLOOR_M:
        return 0, total
    off = (lowest > floats_m) | (lowest < -sinks_m)
    start, end = _run(off), total - _run(off[::-1])
    return (start if start <= margin else 0), (end if total - end <= margin else total)


def _run(off: np.ndarray) -> int:
    """How many frames from the first one on are off."""
    return len(off) if off.all() else int(np.argmin(off))
