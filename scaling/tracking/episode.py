"""What an episode is made of: its settings, what it tracks, its state and what a control step gives."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scaling.tracking import rewards, starts, terminations
from scaling.tracking.physics import PhysicsState
from scaling.tracking.randomise import Randomisation
from scaling.tracking.reference import ClipStore


@dataclass(frozen=True)
class EnvConfig:
    """What one episode is: presets by name, its longest time, where it starts, and the noise of its start.

    `starts`: "uniform" over a clip, or "adaptive" by the failures in its `start_bins` phase bins.
    """

    reward: str = "tracking"
    termination: str = "beyondmimic"
    episode_seconds: float = 10.0
    start_noise: float = 1.0
    starts: str = "uniform"
    start_bins: int = 16
    randomisation: Randomisation = Randomisation()

    def __post_init__(self) -> None:
        if self.reward not in rewards.PRESETS:
            raise ValueError(f"reward {self.reward!r}: one of {sorted(rewards.PRESETS)}")
        if self.termination not in terminations.FAILURES:
            raise ValueError(f"termination {self.termination!r}: one of {sorted(terminations.FAILURES)}")
        if self.episode_seconds < 0.1 or self.start_noise < 0:
            raise ValueError(f"episode_seconds {self.episode_seconds}, start_noise {self.start_noise}")
        if self.starts not in starts.MODES or self.start_bins < 1:
            raise ValueError(f"starts {self.starts!r}: one of {starts.MODES}; start_bins {self.start_bins}: at least 1")

    @property
    def max_steps(self) -> int:
        """Control steps in the longest episode."""
        return round(self.episode_seconds * 50)


class Task(NamedTuple):
    """What one batch of environments tracks; `weights` of 0 pad a cluster's list of clips."""

    store: ClipStore
    clips: Int[Array, "M"]
    weights: Float[Array, "M"]
    assist: Float[Array, ""]


class EnvState(NamedTuple):
    """A batch of episodes in flight; what its config does not use is None.

    `physics` is in the world of the ground; `anchor` (m) is where that world has the origin of the clip's.
    `pending` are the last actions, newest first, of which the one from `latency` control steps ago is at work.
    `failures` belong to the task's clips, not to an episode.
    """

    physics: PhysicsState
    clip: Int[Array, "E"]
    frame: Int[Array, "E"]
    age: Int[Array, "E"]
    last_action: Float[Array, "E 29"]
    variant: Int[Array, "E"]
    push_in: Int[Array, "E"] | None = None
    encoder_bias: Float[Array, "E 29"] | None = None  # rad
    latency: Int[Array, "E"] | None = None
    pending: Float[Array, "E L 29"] | None = None
    anchor: Float[Array, "E 2"] | None = None
    failures: Float[Array, "M B"] | None = None


class Step(NamedTuple):
    """What one control step gave; `obs` already belongs to the next episode where `done`."""

    obs: Float[Array, "E obs"]
    reward: Float[Array, "E"]
    failed: Bool[Array, "E"]
    truncated: Bool[Array, "E"]
    joint_error: Float[Array, "E"]
    body_error: Float[Array, "E"]

    @property
    def done(self) -> Bool[Array, "E"]:
        """The episode ended, by failure or by its clip or time running out."""
        return self.failed | self.truncated


_Tree = TypeVar("_Tree")


def select(mask: Bool[Array, "*b"], yes: _Tree, no: _Tree) -> _Tree:
    """Row by row one of two trees of arrays whose leading axes are those of `mask`."""

    def pick(one: Array, other: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (one.ndim - mask.ndim)), one, other)

    return jax.tree.map(pick, yes, no)
