"""Sizes by name: Transformers solved to a parameter target, and the other families matched to each of them."""

import functools
from dataclasses import dataclass, replace
from typing import Any

from scaling.contract.observation import LOOK_AHEAD
from scaling.errors import InputError
from scaling.students.config import FAMILIES, Family, StudentConfig
from scaling.students.count import parameters


@dataclass(frozen=True)
class Rung:
    """Target parameters, the Transformer's shape (its feed-forward width is solved), and how deep the others are.

    `passes` is how often the TCN goes through its dilations, each pass reaching back over the context.
    """

    target: int
    width: int
    depth: int
    heads: int
    mlp_depth: int
    passes: int
    gru_depth: int
    tolerance: float


# Widths give a feed-forward ratio near 4 at an obs_dim near 200; S, B, L meet the published counts (FACTS section 1),
# whose widths (256, 384, 768) no single ratio explains.
RUNGS: dict[str, Rung] = {
    "0.05M": Rung(50_000, 40, 2, 2, 2, 1, 1, 0.02),
    "0.2M": Rung(200_000, 80, 2, 4, 3, 1, 1, 0.02),
    "1M": Rung(1_000_000, 144, 4, 6, 3, 1, 2, 0.01),
    "S": Rung(5_700_000, 192, 12, 6, 4, 2, 2, 0.01),
    "B": Rung(22_100_000, 384, 12, 6, 5, 2, 3, 0.01),
    "L": Rung(80_400_000, 768, 12, 12, 6, 2, 3, 0.01),
}
MATCH = 0.02  # how near the other families come to their Transformer
FEED_FORWARD_STEP = 8  # keeps the solved width friendly to vector units


@functools.cache  # a sweep asks thousands of times for a handful of students
def ladder(
    family: Family,
    rung: str,
    obs_dim: int,
    *,
    context: int = 32,
    history: int = 4,
    action_dim: int = 29,
    look_ahead: tuple[int, ...] = LOOK_AHEAD,
) -> StudentConfig:
    """The student called `rung`; InputError for an unknown name, or an `obs_dim` at which the size cannot be met."""
    if rung not in RUNGS:
        raise InputError(f"student size is {rung!r}; use one of {', '.join(RUNGS)}")
    if family not in FAMILIES:
        raise InputError(f"student family is {family!r}; use one of {', '.join(FAMILIES)}")
    spec = RUNGS[rung]
    shared: dict[str, Any] = {
        "context": context,
        "history": history,
        "action_dim": action_dim,
        "look_ahead": look_ahead,
    }
    first = StudentConfig("transformer", obs_dim, spec.width, spec.depth, spec.heads, FEED_FORWARD_STEP, **shared)
    transformer = _nearest(first, "feed_forward", spec.target, FEED_FORWARD_STEP)
    _check(transformer, rung, spec.target, spec.tolerance)
    if family == "transformer":
        return transformer
    depths = {"mlp": spec.mlp_depth, "tcn": spec.passes * transformer.cycle, "gru": spec.gru_depth}
    thin = StudentConfig(family, obs_dim, 1, depths[family], **shared)
    other = _nearest(thin, "width", parameters(transformer), 1)
    _check(other, rung, parameters(transformer), MATCH)
    return other


def _nearest(config: StudentConfig, field: str, target: int, step: int) -> StudentConfig:
    """The config whose `field`, a multiple of `step`, brings its parameters nearest to `target` (they grow with it)."""

    def at(multiple: int) -> StudentConfig:
        return replace(config, **{field: multiple * step})  # type: ignore[arg-type]

    low, high = 1, 2
    while parameters(at(high)) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(at(middle)) < target else (low, middle)
    return min(at(low), at(high), key=lambda candidate: abs(parameters(candidate) - target))


def _check(config: StudentConfig, rung: str, target: int, tolerance: float) -> None:
    count = parameters(config)
    if abs(count - target) > tolerance * target:
        raise InputError(
            f"{config.family} size {rung} at obs_dim {config.obs_dim} comes to {count} parameters, not within "
            f"{tolerance:.0%} of {target}; use a larger size or fewer observations"
        )
