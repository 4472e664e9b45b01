"""Execution providers of ONNX Runtime: the one asked for or a refusal, never silently another."""

import onnxruntime
import pytest

from scaling.errors import InputError
from scaling.policy import onnx_run
from scaling.policy.load import load_policy


def test_what_is_not_here_is_refused_by_name(exported):
    missing = next(
        name
        for name, (full, _) in onnx_run._PROVIDERS.items()
        if full not in onnxruntime.get_available_providers() and name != "cpu"
    )
    with pytest.raises(InputError, match=f"'{missing}' is not in this ONNX Runtime"):
        load_policy(exported[0], backend="onnx", providers=(missing, "cpu"))


@pytest.mark.parametrize(
    ("providers", "backend", "said"),
    [
        (("npu",), "onnx", "'npu'; use one of"),
        ((), "onnx", "no execution provider"),
        (("cuda",), "xla", "backend onnx"),
    ],
)
def test_what_makes_no_sense_is_refused(exported, providers, backend, said):
    with pytest.raises(InputError, match=said):
        load_policy(exported[0], backend=backend, providers=providers)


def test_a_silent_fall_back_is_refused(exported, monkeypatch):
    """ONNX Runtime goes on without a provider whose libraries do not load, and only prints so."""
    whole = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers: whole(path, options, providers[1:])
    )
    with pytest.raises(InputError, match="ONNX Runtime chose CPUExecutionProvider where tensorrt, cpu was asked"):
        load_policy(exported[0], backend="onnx", providers=("tensorrt", "cpu"))


@pytest.mark.parametrize("off", [0.0, 1e-3])
def test_an_accelerator_has_to_give_the_exported_actions(exported, monkeypatch, off):
    """A stand-in for TensorRT on this CPU, exact or a little off."""
    whole = onnxruntime.InferenceSession

    class Accelerated:
        def __init__(self, path, options, providers):
            self.session = whole(path, options, providers[1:])
            self.get_inputs = self.session.get_inputs

        def get_providers(self):
            return ["TensorrtExecutionProvider", "CPUExecutionProvider"]

        def run(self, outputs, feed):
            action, *state = self.session.run(outputs, feed)
            return action + off, *state

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: Accelerated.get_providers(None))
    monkeypatch.setattr(onnxruntime, "InferenceSession", Accelerated)
    if off:
        with pytest.raises(InputError, match=r"by tensorrt, cpu the actions on \w+ inputs differ by 0\.001"):
            load_policy(exported[0], backend="onnx", providers=("tensorrt", "cpu"))
    else:
        assert load_policy(exported[0], backend="onnx", providers=("tensorrt", "cpu")).backend == "onnx"
