"""The ONNX program of a policy, run by ONNX Runtime on one thread: no JAX needed."""

from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Bool, Float

from scaling.contract.manifest import Manifest
from scaling.errors import InputError
from scaling.policy.load import initial_state

_NEXT = "next."


class OnnxBackend:
    """One session; the state is a dictionary that the next step is fed with."""

    def __init__(self, path: Path, manifest: Manifest, batch: int) -> None:
        options = onnxruntime.SessionOptions()
        # A step is microseconds of work: a second thread costs more than it gives, and the control loop wants it.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = tuple(leaf.name for leaf in manifest.state)
        found = tuple(node.name for node in self._session.get_inputs())
        terms = sum(term.dim for term in manifest.terms)
        if found != ("obs", "first", *names) or self._session.get_inputs()[0].shape[-1] != terms:
            raise InputError(f"{path}: its inputs {', '.join(found)} are not the manifest's; export the policy again")
        self._outputs = ["action", *(_NEXT + name for name in names)]
        self._initial = dict(zip(names, initial_state(manifest, batch), strict=True))
        self._state = self._initial

    def reset(self) -> None:
        """Forget everything."""
        self._state = self._initial

    def step(self, obs: Float[np.ndarray, "B obs"], first: Bool[np.ndarray, "B"]) -> Float[np.ndarray, "B 29"]:
        """Contract actions for raw observations."""
        action, *state = self._session.run(self._outputs, {"obs": obs, "first": first, **self._state})
        self._state = dict(zip(self._state, state, strict=True))
        return np.asarray(action)
