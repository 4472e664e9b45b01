"""What MJX needs beside itself to run as NVIDIA Warp kernels."""

import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from scaling.errors import InputError


def one_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of arrays with one leading axis, called once whatever vmaps are around it: their axes are merged."""
    merged = jax.custom_batching.custom_vmap(function)

    def rule(size: int, batched: list[Any], *values: Any) -> tuple[Any, Any]:
        def merge(value: Array, is_batched: bool) -> Array:
            value = value if is_batched else jnp.broadcast_to(value, (size, *value.shape))
            return value.reshape(-1, *value.shape[2:])

        out = merged(*jax.tree.map(merge, values, tuple(batched)))
        out = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    merged.def_vmap(rule)
    return merged


def without_iteration_warnings(model: Any) -> Any:
    """MJX Warp prints a line wherever the solver stops at its iterations, which ours does by design."""
    from mujoco.mjx.third_party.mujoco_warp import OverflowType

    warnings = int(model.opt._impl.warn_overflow) & ~int(OverflowType.ITERATIONS)
    return model.tree_replace({"opt._impl.warn_overflow": warnings})


def check_varied(fields: Iterable[str]) -> None:
    """Raises InputError for a figure that MJX Warp holds only once for all robots."""
    from mujoco.mjx.warp.types import _BATCH_DIM

    fixed = [name for name in fields if not _BATCH_DIM["Model"].get(name, False)]
    if fixed:
        raise InputError(f"physics 'warp' cannot vary {', '.join(fixed)} between robots; use 'mjx' or 'mujoco'")


def need_warp() -> None:
    """Raises InputError where the package or an NVIDIA GPU is not there."""
    if importlib.util.find_spec("warp") is None:
        raise InputError("physics 'warp' needs the package warp-lang, which is not installed; use 'mjx' or 'mujoco'")
    if not any(device.platform == "gpu" and "nvidia" in device.device_kind.lower() for device in jax.devices()):
        raise InputError("physics 'warp' needs an NVIDIA GPU, and JAX sees none here; use 'mjx' or 'mujoco'")
