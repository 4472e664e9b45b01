"""Exact parameters by group and exact matrix-product FLOPs, in closed form and from a real parameter tree."""

import math
from typing import Any

import jax

from scaling.students.attention import keys_per_query
from scaling.students.config import StudentConfig

GROUPS = ("embed", "attention", "feed_forward", "norm", "head")


def _group(path: tuple[Any, ...]) -> str:
    """Group of a leaf from the names on its path."""
    names = [str(entry.key) for entry in path]
    if any(name.endswith("norm") for name in names):
        return "norm"
    for group in ("embed", "attention", "feed_forward", "head"):
        if any(name == group or name.startswith(f"{group}_") for name in names):
            return group
    raise ValueError(
        f"parameter {'/'.join(names)} belongs to no group of {', '.join(GROUPS)}; name its module after one"
    )


def parameters_by_group(params: Any) -> dict[str, int]:
    """Parameters of a tree (arrays or shapes) by group, every group present; the sum is the tree's own size."""
    counts = dict.fromkeys(GROUPS, 0)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        counts[_group(path)] += math.prod(leaf.shape)
    total = sum(math.prod(leaf.shape) for _, leaf in leaves)
    if sum(counts.values()) != total:
        raise AssertionError(f"groups sum to {sum(counts.values())}, the tree has {total}")
    return counts


def closed_form(config: StudentConfig) -> dict[str, int]:
    """The same counts from the shape alone."""
    width, depth = config.width, config.depth
    head = (width + 1) * config.action_dim
    if config.family == "mlp":
        embed = (config.history * config.obs_dim + 1) * width
        return dict(zip(GROUPS, (embed, 0, (depth - 1) * (width + 1) * width, 0, head), strict=True))
    embed = (config.obs_dim + 1) * width
    attention, feed_forward = depth * 4 * width**2, depth * 2 * width * config.hidden
    return dict(zip(GROUPS, (embed, attention, feed_forward, (2 * depth + 1) * width, head), strict=True))


def parameters(config: StudentConfig) -> int:
    """All parameters."""
    return sum(closed_form(config).values())


def flops_per_token(config: StudentConfig, length: int | None = None) -> int:
    """FLOPs of all matrix products for one forward frame, a multiply-add counted as two.

    `length` None counts the model: each frame against a full window of `context` keys, which is also what one cached
    decode step does. With `length` it counts the program: the forward over sequences of so many frames, masked keys
    included, exact when `length` is at most 2 * context or a multiple of context.
    """
    width = config.width
    if config.family == "mlp":
        layers = config.history * config.obs_dim * width + (config.depth - 1) * width**2 + width * config.action_dim
        return 2 * layers
    keys = config.context if length is None else keys_per_query(length, config.context)
    block = 4 * width**2 + 2 * width * config.hidden + 2 * width * keys
    return 2 * (config.obs_dim * width + config.depth * block + width * config.action_dim)


def training_flops_per_token(config: StudentConfig, length: int | None = None) -> int:
    """Forward and backward: 3 forwards, the model's cost; what remat computes again is not counted."""
    return 3 * flops_per_token(config, length)
