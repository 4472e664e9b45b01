"""One or two frames that leap away and come back, which no body does, told from fast motion by the frames around."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.motion.clip import continuous
from scaling.robot.g1 import JOINT_NAMES

_LONGEST = 2  # frames
_AROUND = 4  # frames on either side that a glitch is compared with


@dataclass(frozen=True)
class GlitchConfig:
    """A glitch of one frame is off the line between its neighbours by the step of `root_speed` (m/s), or by `turn` or
    `joint` (rad), one of two frames by twice as much, and each by `ratio` times what any frame around it is.

    The fastest real motion at hand (LAFAN1's dances at 30 Hz) reaches a ratio of 6.
    """

    root_speed: float = 1.5
    turn: float = 0.25
    joint: float = 0.25
    ratio: float = 8.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} {value} of a glitch must be positive")


@dataclass(frozen=True)
class Glitch:
    """Frames `first` to `first + frames - 1` are off by `size` (m or rad) in `what`."""

    first: int
    frames: int
    what: str
    size: float

    def __str__(self) -> str:
        unit = "m" if self.what == "root" else "rad"
        return f"{self.what} off by {self.size:.2f} {unit} for {self.frames} frame{'s' * (self.frames > 1)}"


def find_glitches(qpos: Float[np.ndarray, "T 36"], rate_hz: float, config: GlitchConfig | None = None) -> list[Glitch]:
    """Every glitch in rising order of frames that do not overlap, each named by the part that is farthest off."""
    config = config or GlitchConfig()
    names = [name.removesuffix("_joint") for name in JOINT_NAMES]
    parts = [
        (qpos[:, None, :3], config.root_speed / rate_hz, ["root"]),
        (2.0 * continuous(qpos[:, 3:7])[:, None], config.turn, ["root's turn"]),  # twice a quaternion is a small angle
        (qpos[:, 7:, None], config.joint, names),
    ]
    found: list[tuple[float, Glitch]] = []
    for values, least, called in parts:
        for first, frames, channel, off in _leaps(values, least, config.ratio):
            found.append((off / least, Glitch(first, frames, called[channel], off)))
    kept: list[Glitch] = []
    for _, glitch in sorted(found, key=lambda one: -one[0]):
        if all(glitch.first > one.first + one.frames or one.first > glitch.first + glitch.frames for one in kept):
            kept.append(glitch)
    return sorted(kept, key=lambda one: one.first)


def _leaps(values: Float[np.ndarray, "T c d"], least: float, ratio: float) -> list[tuple[int, int, int, float]]:
    """First frame, number of frames, channel and distance from the line of each there-and-back."""
    total = len(values)
    bends = np.zeros(values.shape[:2])  # of each frame: how far it is from the middle of its neighbours
    bends[1:-1] = np.linalg.norm(values[1:-1] - 0.5 * (values[:-2] + values[2:]), axis=-1)
    found = []
    for frames in range(1, _LONGEST + 1):
        count = total - frames - 1
        if count < 1:
            break
        before, after = values[:count], values[frames + 1 :]
        line = [before + (after - before) * step / (frames + 1) for step in range(frames + 2)]
        offs = [np.linalg.norm(values[step : step + count] - line[step], axis=-1) for step in range(1, frames + 1)]
        off = np.min(offs, axis=0)
        there, back = values[1 : count + 1] - before, after - values[frames : frames + count]
        returns = ((there * back).sum(axis=-1) < 0) & (np.linalg.norm(after - before, axis=-1) < off)
        for index, channel in np.argwhere(returns & (off > frames * least)):
            first = int(index) + 1
            around = [*range(first - 1 - _AROUND, first - 1), *range(first + frames + 1, first + frames + 1 + _AROUND)]
            usual = max((bends[frame, channel] for frame in around if 0 < frame < total - 1), default=0.0)
            if off[index, channel] > ratio * usual:
                found.append((first, frames, int(channel), float(off[index, channel])))
    return found
