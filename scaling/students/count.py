"""Exact parameters by group and exact matrix-product FLOPs, in closed form and from a real parameter tree."""

import math
from typing import Any

import jax

from scaling.contract.layout import STATE_DIM
from scaling.students.config import StudentConfig
from scaling.students.family import KINDS

GROUPS = ("embed", "mixing", "feed_forward", "norm", "head", "auxiliary")
"""`mixing` is what carries one frame to another: attention, convolution or recurrence."""
_MIXING = ("attention", "convolution", "gates", "recurrent")


def _group(path: tuple[Any, ...]) -> str:
    """Group of a leaf from the names on its path."""
    names = [str(entry.key) for entry in path]
    if any(name.endswith("norm") for name in names):
        return "norm"
    if any(name in _MIXING for name in names):
        return "mixing"
    for group in GROUPS:
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
    heads = {"head": config.action_dim, "auxiliary": STATE_DIM if config.auxiliary else 0}
    counts = KINDS[config.family].parameters(config)
    counts |= {name: (config.width + 1) * outputs for name, outputs in heads.items()}
    return {group: counts.get(group, 0) for group in GROUPS}


def parameters(config: StudentConfig) -> int:
    """All parameters."""
    return sum(closed_form(config).values())


def acting_parameters(config: StudentConfig) -> int:
    """Parameters that an action goes through, which sizes are matched by: all but those of the second head."""
    return parameters(config) - closed_form(config)["auxiliary"]


def flops_per_token(config: StudentConfig, length: int | None = None) -> int:
    """FLOPs of all matrix products for the action of one frame, a multiply-add counted as two.

    `length` None counts the model: each frame against a full window of `context` keys, which is also what one cached
    decode step does. With `length` it counts the program: the forward over sequences of so many frames, masked keys
    included, exact when `length` is at most 2 * context or a multiple of context.
    """
    return 2 * (KINDS[config.family].products(config, length) + config.width * config.action_dim)


def training_flops_per_token(config: StudentConfig, length: int | None = None) -> int:
    """Forward and backward: 3 forwards, the auxiliary head's among them; what remat computes again is not counted."""
    auxiliary = 2 * config.width * STATE_DIM if config.auxiliary else 0
    return 3 * (flops_per_token(config, length) + auxiliary)


def columns(config: StudentConfig) -> dict[str, int]:
    """A row's part about the model itself: parameters in all but the second head, by group, and FLOPs of a frame."""
    groups = {f"params_{group}": count for group, count in closed_form(config).items()}
    return {
        "params": acting_parameters(config),
        **groups,
        "flops_per_token": flops_per_token(config),
        "train_flops_per_token": training_flops_per_token(config),
    }
