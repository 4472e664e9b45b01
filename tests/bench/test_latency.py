"""What the latency table times is the policy: both windows give the actions of the cached program."""

import numpy as np
import pytest

from scaling.bench.latency import OBS, _window, export_fresh, open_rows
from scaling.policy.load import BACKENDS, load_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_fresh("0.05M", tmp_path_factory.mktemp("policy") / "policy")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_full_window_acts_as_the_cache_does(folder, backend):
    """On the first `context` frames of an episode, where the two see the same."""
    obs = np.random.default_rng(0).normal(size=(32, OBS)).astype(np.float32)
    cached, window = load_policy(folder, backend="onnx"), _window(folder, backend)
    found = [(cached.act(row), window.act(row)) for row in obs]
    np.testing.assert_allclose(*found[-1], atol=1e-5)
    assert np.abs(found[-1][0] - found[-2][0]).max() > 1e-3
    assert np.abs(found[0][0] - found[0][1]).max() > 1e-4, "an unfilled window is another thing, so this can fail"


def test_a_fresh_process_opens_the_folder_and_the_zip(folder):
    names = [row.name for row in open_rows(folder, "tiny", None) if row.value > 0]
    assert names == ["open_tiny_onnx", "open_tiny_onnx_zip"]
