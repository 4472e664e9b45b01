"""The frozen description of one student network, from which everything else in this room follows."""

from dataclasses import dataclass
from typing import Literal

from scaling.errors import InputError

Family = Literal["mlp", "transformer"]
FAMILIES: tuple[Family, ...] = ("mlp", "transformer")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class StudentConfig:
    """Shape of a student. `context` is the Transformer's band, `history` the frames that the MLP stacks.

    `heads` and `feed_forward` belong to the Transformer (`feed_forward` None means 4 * width). `dtype` is that of the
    matrix products; parameters, norms, softmax and the action stay float32.
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

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InputError(f"student family is {self.family!r}; use one of {', '.join(FAMILIES)}")
        if self.dtype not in DTYPES:
            raise InputError(f"student dtype is {self.dtype!r}; use one of {', '.join(DTYPES)}")
        for name in ("obs_dim", "width", "depth", "context", "history", "action_dim"):
            if getattr(self, name) < 1:
                raise InputError(f"student {name} is {getattr(self, name)}; it must be at least 1")
        if self.family == "mlp":
            for name in ("heads", "feed_forward"):
                if getattr(self, name) is not None:
                    raise InputError(f"student {name} is {getattr(self, name)}; an mlp has none, leave it out")
            return
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
    def window(self) -> int:
        """Frames that one layer looks back over, the present one included."""
        return self.context if self.family == "transformer" else self.history

    @property
    def receptive_field(self) -> int:
        """Frames that one action depends on at most, the present one included: depth stacks the Transformer's bands."""
        return self.depth * (self.context - 1) + 1 if self.family == "transformer" else self.history
