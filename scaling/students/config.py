"""The frozen description of one student network, from which everything else in this room follows."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from scaling.contract.layout import seen
from scaling.contract.observation import LOOK_AHEAD, STUDENT_TERMS, observation_dim
from scaling.errors import InputError
from scaling.record.hashing import added

Family = Literal["mlp", "transformer", "tcn", "gru"]
FAMILIES: tuple[Family, ...] = ("mlp", "transformer", "tcn", "gru")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class StudentConfig:
    """Shape of a student. `context` is the Transformer's band and the TCN's longest reach of one pass over its
    dilations; `history` the frames that the MLP stacks.

    `heads` and `feed_forward` belong to the Transformer (`feed_forward` None means 4 * width). `dtype` is that of the
    matrix products; parameters, norms, softmax, the GRU's state and the action stay float32. `look_ahead` are the
    frames of the contract's look-ahead that the network reads; `auxiliary` is the weight of a second head's loss, which
    predicts the next state that the robot senses (0: no such head).
    """

    family: Family
    obs_dim: int
    width: int
    depth: int
    heads: int | None = None
    feed_forward: int | None = None
    context: int = 32
    history: int = 4
    action_dim: int = 29
    remat: bool = False
    dtype: str = "float32"
    look_ahead: tuple[int, ...] = added(LOOK_AHEAD)
    auxiliary: float = added(0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "look_ahead", tuple(self.look_ahead))  # JSON knows lists alone
        if self.family not in FAMILIES:
            raise InputError(f"student family is {self.family!r}; use one of {', '.join(FAMILIES)}")
        if self.dtype not in DTYPES:
            raise InputError(f"student dtype is {self.dtype!r}; use one of {', '.join(DTYPES)}")
        for name in ("obs_dim", "width", "depth", "context", "history", "action_dim"):
            if getattr(self, name) < 1:
                raise InputError(f"student {name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.auxiliary < math.inf:
            raise InputError(f"student auxiliary is {self.auxiliary}; a weight of at least 0 (0: no such head)")
        self._check_observation()
        if self.family == "transformer":
            self._check_heads()
            return
        for name in ("heads", "feed_forward"):
            if getattr(self, name) is not None:
                raise InputError(f"student {name} is {getattr(self, name)}; only a transformer has it, leave it out")
        if self.family == "tcn" and self.context < 2:
            raise InputError(f"student context is {self.context}; a tcn needs at least 2")

    def _check_observation(self) -> None:
        seen(self.look_ahead)
        known = observation_dim(STUDENT_TERMS)
        for name, used in (("look_ahead", self.look_ahead != LOOK_AHEAD), ("auxiliary", self.auxiliary > 0)):
            if used and self.obs_dim != known:
                raise InputError(f"student obs_dim is {self.obs_dim}; {name} needs the contract's {known} entries")

    def _check_heads(self) -> None:
        if self.heads is None or self.heads < 1:
            raise InputError(f"student heads is {self.heads}; a transformer needs at least 1")
        if self.width % (2 * self.heads):
            raise InputError(
                f"student width is {self.width}; rotary positions need a multiple of 2 * heads = {2 * self.heads}"
            )
        if self.feed_forward is not None and self.feed_forward < 1:
            raise InputError(f"student feed_forward is {self.feed_forward}; it must be at least 1")

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer (Transformer)."""
        return 4 * self.width if self.feed_forward is None else self.feed_forward

    @property
    def head_dim(self) -> int:
        """Width of one attention head (Transformer)."""
        return self.width // (self.heads or 1)

    @property
    def seen(self) -> Int[np.ndarray, "n"] | None:
        """Entries of the observation that the network reads; None for all of them."""
        return None if self.look_ahead == LOOK_AHEAD else seen(self.look_ahead)

    @property
    def input_dim(self) -> int:
        """Number of entries of the observation that the network reads."""
        return self.obs_dim if self.seen is None else len(self.seen)

    @property
    def cycle(self) -> int:
        """Layers in which the TCN's dilations reach half the context."""
        return max(1, int(math.log2(self.context)))

    @property
    def dilations(self) -> tuple[int, ...]:
        """Frames between the two that each layer of the TCN joins: 1, 2, 4, ... up to half the context, and anew."""
        return tuple(2 ** (layer % self.cycle) for layer in range(self.depth))

    @property
    def window(self) -> int:
        """Frames, the present one included, that a memory should hold before an action counts."""
        return self.history if self.family == "mlp" else self.context

    @property
    def receptive_field(self) -> float:
        """Frames that one action depends on at most, the present one included; infinite for the GRU."""
        if self.family == "transformer":
            return self.depth * (self.context - 1) + 1  # depth stacks the bands
        if self.family == "tcn":
            return 1 + sum(self.dilations)
        return math.inf if self.family == "gru" else self.history
