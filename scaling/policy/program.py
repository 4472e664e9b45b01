"""One control step of a student as a pure function of flat arrays: raw observation in, contract action out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from scaling.contract.normaliser import Normaliser
from scaling.students import decode, model
from scaling.students.config import StudentConfig

PARAMS_FILE = "params.npz"
NORMALISER_FILE = "normaliser.npz"

Weights = dict[str, Any]
"""Flat `params/...` (as in `params.npz`), and `normaliser/mean`, `normaliser/std`, `normaliser/action_scale`."""


def flatten_params(params: Any) -> dict[str, np.ndarray]:
    """`{"blocks_0/attention/qkv/kernel": array}` from the tree of linen, on the host."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(entry.key) for entry in path): np.asarray(leaf) for path, leaf in leaves}


def unflatten_params(flat: dict[str, Any]) -> Any:
    """The tree of linen from `flatten_params`."""
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = leaf
    return tree


def weights_of(params: Any, normaliser: Normaliser, action_scale: Float[np.ndarray, "act"]) -> Weights:
    """All that the program is fed besides observations and state, float32."""
    fixed = {"mean": normaliser.mean, "std": normaliser.std, "action_scale": action_scale}
    return {f"params/{name}": leaf for name, leaf in flatten_params(params).items()} | {
        f"normaliser/{name}": np.asarray(value, np.float32) for name, value in fixed.items()
    }


def state_names(config: StudentConfig) -> tuple[str, ...]:
    """Names of the state's leaves ("keys.0", ..., "position", "filled") in the program's order."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda: decode.init_state(config, 1)))
    return tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)


def make_step(config: StudentConfig) -> Callable[..., tuple[Array, ...]]:
    """`step(weights, obs [B,obs], first [B], *state) -> (action [B,29], *state)`.

    `first[b]` says that `obs[b]` opens an episode: the row forgets before it looks, so a state of zeros may start.
    """
    structure = jax.tree.structure(jax.eval_shape(lambda: decode.init_state(config, 1)))

    def step(weights: Weights, obs: Float[Array, "B obs"], first: Bool[Array, "B"], *state: Array) -> tuple[Array, ...]:
        params, normaliser, scale = _split(weights)
        action, after = decode.act(config, params, normaliser, jax.tree.unflatten(structure, state), obs, first)
        return (action * scale, *jax.tree.leaves(after))

    return step


def forward(
    config: StudentConfig, weights: Weights, obs: Float[Array, "B T obs"], start: Bool[Array, "B T"]
) -> Float[Array, "B T act"]:
    """What the program must equal: the training-time forward over whole sequences of raw observations."""
    params, normaliser, scale = _split(weights)
    return model.forward(config, params, normaliser(obs), start) * scale


def _split(weights: Weights) -> tuple[Any, Normaliser, Array]:
    params = {name.removeprefix("params/"): leaf for name, leaf in weights.items() if name.startswith("params/")}
    normaliser = Normaliser(jnp.asarray(weights["normaliser/mean"]), jnp.asarray(weights["normaliser/std"]))
    return unflatten_params(params), normaliser, jnp.asarray(weights["normaliser/action_scale"])
