"""The StableHLO program of a policy, run by XLA through `jax.export`."""

import jax
import numpy as np
from jax import export as jax_export
from jaxtyping import Bool, Float

from scaling.contract.manifest import Manifest
from scaling.errors import InputError
from scaling.policy.load import initial_state


class XlaBackend:
    """Weights and state live on the device; observations and actions cross over each step."""

    def __init__(self, program: bytes, weights: dict[str, np.ndarray], manifest: Manifest, batch: int) -> None:
        try:
            exported = jax_export.deserialize(bytearray(program))
        except Exception as error:  # whatever flatbuffers or MLIR raise on a program of another age
            raise InputError(
                f"the program made by jax {manifest.versions.get('jax')} does not open in jax {jax.__version__} "
                f"({type(error).__name__}); make it anew from its parameters with scaling export POLICY --out DIR"
            ) from error
        leaves = len(weights)
        width = int(exported.in_avals[leaves].shape[-1])
        terms = sum(term.dim for term in manifest.terms)
        if len(exported.in_avals) != leaves + 2 + len(manifest.state) or width != terms:
            raise InputError(f"the program reads {width} observations and its manifest lists {terms}; export it again")
        self._weights = jax.device_put(weights)
        self._call = jax.jit(exported.call)
        self._initial = jax.device_put(tuple(initial_state(manifest, batch)))
        self._state = self._initial

    def reset(self) -> None:
        """Forget everything."""
        self._state = self._initial

    def step(self, obs: Float[np.ndarray, "B obs"], first: Bool[np.ndarray, "B"]) -> Float[np.ndarray, "B 29"]:
        """Contract actions for raw observations."""
        action, *state = self._call(self._weights, obs, first, *self._state)
        self._state = tuple(state)
        return np.asarray(action)
