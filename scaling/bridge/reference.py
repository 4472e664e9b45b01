"""What the runtime follows: a clip at 50 Hz, standing still on its last frame once it is over, or a stream."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from scaling.contract.observation import LOOK_AHEAD, Reference
from scaling.motion.clip import CONTROL_RATE_HZ, Motion, resample, velocities


class Followed(Protocol):
    """A clip, or `stream.StreamReference`; `frames` is None where nobody knows the end."""

    name: str

    @property
    def frames(self) -> int | None:
        """Frames at 50 Hz."""
        ...

    @property
    def start_pose(self) -> Float[np.ndarray, "36"]:
        """`qpos` to stand in before it begins."""
        ...

    def begin(self, frame: int) -> None:
        """Tracking begins with this frame of the control loop."""
        ...

    def follow(self, frame: int) -> str | None:
        """Move on to a frame; returns why the run should end, None where it should not."""
        ...

    def at(self, frame: int) -> Reference:
        """Now and the look-ahead."""
        ...

    def report(self) -> dict[str, Any]:
        """How it is, JSON-able."""
        ...


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

    def begin(self, frame: int) -> None:
        """A clip begins where it begins."""

    def follow(self, frame: int) -> str | None:
        """Whatever happens, a clip goes on: its end is the runtime's to see."""
        return None

    def report(self) -> dict[str, Any]:
        """`{source, frames}`."""
        return {"source": self.name, "frames": self.frames}
