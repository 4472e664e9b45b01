"""The ONNX program of a policy, run by ONNX Runtime on one thread: no JAX needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from jaxtyping import Bool, Float

from scaling.contract.manifest import Manifest
from scaling.errors import InputError
from scaling.policy.load import initial_state

_NEXT = "next."

# By the name that a config gives them, with the options that keep float32 what it is.
_PROVIDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
    "tensorrt": ("TensorrtExecutionProvider", {"trt_fp16_enable": "0", "trt_engine_cache_enable": "0"}),
}


class OnnxBackend:
    """One session; the state is a dictionary that the next step is fed with."""

    def __init__(self, path: Path, manifest: Manifest, batch: int, providers: Sequence[str] = ("cpu",)) -> None:
        """Raises InputError for a provider that is not here, or that leaves the graph to another one."""
        options = onnxruntime.SessionOptions()
        # A step is microseconds of work: a second thread costs more than it gives, and the control loop wants it.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = _session(path, options, tuple(providers))
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


def _session(path: Path, options: Any, providers: tuple[str, ...]) -> Any:
    """A session whose first provider is the one asked for, and never silently another."""
    here = onnxruntime.get_available_providers()
    for name in providers:
        if name not in _PROVIDERS:
            raise InputError(f"execution provider is {name!r}; use one of {', '.join(_PROVIDERS)}")
        if _PROVIDERS[name][0] not in here:
            raise InputError(
                f"execution provider {name!r} is not in this ONNX Runtime ({', '.join(here)}): install the build of "
                "onnxruntime that has it, or name another"
            )
    if not providers:
        raise InputError(f"no execution provider is named; use one of {', '.join(_PROVIDERS)}")
    wanted = [_PROVIDERS[name] for name in providers]
    session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    found = session.get_providers()
    if [name for name in found if name in dict(wanted)] != [name for name, _ in wanted]:
        raise InputError(
            f"{path}: ONNX Runtime chose {', '.join(found)} where {', '.join(providers)} was asked for: see what it "
            "printed, or name another provider"
        )
    return session
