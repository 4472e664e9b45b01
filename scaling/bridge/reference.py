"""The clip as the runtime follows it: at 50 Hz, standing still on its last frame once it is over."""

import numpy as np
from jaxtyping import Float

from scaling.contract.observation import LOOK_AHEAD, Reference
from scaling.motion.clip import CONTROL_RATE_HZ, Motion, resample, velocities


class ClipReference:
    """The same frames and velocities that `tracking.reference` shows in training."""

    def __init__(self, motion: Motion) -> None:
        self.name = motion.name
        self.qpos: Float[np.ndarray, "T 36"] = resample(motion, CONTROL_RATE_HZ).qpos
        still = np.concatenate([self.qpos, self.qpos[-1:]])
        self.qvel: Float[np.ndarray, "T 35"] = velocities(still, CONTROL_RATE_HZ)[:-1]

    @property
    def frames(self) -> int:
        """Frames at 50 Hz."""
        return len(self.qpos)

    @property
    def start_pose(self) -> Float[np.ndarray, "36"]:
        """`qpos` of the first frame."""
        return self.qpos[0]

    def at(self, frame: int) -> Reference:
        """Now and the look-ahead; frames past the end are the last one."""
        now = min(frame, self.frames - 1)
        ahead = np.minimum(frame + np.array(LOOK_AHEAD), self.frames - 1)
        return Reference(self.qpos[now], self.qvel[now], self.qpos[ahead], self.qvel[ahead])
