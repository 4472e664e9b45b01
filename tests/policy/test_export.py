"""The artifact is the student: same actions from either program, in any batch, whole or not at all."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from scaling.contract.manifest import hash_files, read_manifest
from scaling.contract.normaliser import Normaliser
from scaling.errors import InputError
from scaling.policy import export
from scaling.policy.check import TOLERANCE, parity
from scaling.policy.export import export_policy
from scaling.policy.load import BACKENDS, BATCH_PROGRAM, ONNX_PROGRAM, PROGRAM, load_policy
from scaling.policy.loop import LOOP_STEPS
from scaling.policy.vectors import CLOSED_LOOP, RESET_AT, STEPS, VECTORS, load_vectors
from scaling.students import model
from tests.policy.conftest import OBS, ROW, student


def whole_sequence(family, case):
    """The training-time forward, put together here from the student's own parts."""
    config, params, normaliser, scale = student(family)
    obs = (case["obs"] - normaliser.mean) / normaliser.std
    obs = np.clip(obs, -10, 10)
    forward = jax.jit(model.forward, static_argnums=0)
    return np.asarray(forward(config, params, obs[None], case["first"][None])[0]) * scale


def test_vectors_are_the_flax_forward_past_the_window_and_a_reset(exported):
    folder, family = exported
    vectors = load_vectors(folder / VECTORS)
    assert set(vectors) == {"random", "zero", "extreme", CLOSED_LOOP}
    assert len(vectors[CLOSED_LOOP]["action"]) == LOOP_STEPS == 500
    assert STEPS >= 100
    assert RESET_AT > 2 * 32
    for case in vectors.values():
        np.testing.assert_allclose(case["action"], whole_sequence(family, case), atol=2e-5)
    assert np.abs(vectors["random"]["action"]).max() > 0.3
    sizes = np.abs(vectors["extreme"]["obs"])
    assert sizes.max() == np.float32(1e4)
    assert ((sizes > 0) & (sizes < np.finfo(np.float32).tiny)).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_flax_actions(exported, backend):
    folder, _ = exported
    for case, off in parity(load_policy(folder, backend=backend), folder).items():
        assert off.raw < TOLERANCE, (case, off)


@pytest.mark.parametrize("family", ["tcn", "gru"])
def test_cheap_families_are_exported_too(family, tmp_path):
    """Rings of inputs and hidden states, a student that reads less, and one whose second head stays behind."""
    folder = export_policy(*student(family), ROW, tmp_path / family)
    vectors = load_vectors(folder / VECTORS)
    np.testing.assert_allclose(vectors["random"]["action"], whole_sequence(family, vectors["random"]), atol=2e-5)
    assert np.abs(vectors["random"]["action"]).max() > 0.3
    for backend in BACKENDS:
        for case, off in parity(load_policy(folder, backend=backend), folder).items():
            assert off.limited < TOLERANCE and off.relative < TOLERANCE, (backend, case, off)


def test_a_shuffled_observation_would_be_noticed(exported):
    """The parity is no tautology: one entry out of place is far beyond the tolerance."""
    folder, _ = exported
    case = load_vectors(folder / VECTORS)["random"]
    policy = load_policy(folder)
    wrong = [policy.act(np.roll(obs, 1), first) for obs, first in zip(case["obs"], case["first"], strict=True)]
    assert np.abs(np.stack(wrong) - case["action"]).max() > 1000 * TOLERANCE


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_its_rows(exported, backend):
    folder, _ = exported
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(40, 3, OBS)).astype(np.float32)
    first = rng.random((40, 3)) < 0.1
    together = load_policy(folder, batch=3, backend=backend)
    batch = np.stack([together.act(x, f) for x, f in zip(obs, first, strict=True)])
    alone = load_policy(folder, backend=backend)
    for row in range(3):
        alone.reset()
        single = np.stack([alone.act(x[row], f[row]) for x, f in zip(obs, first, strict=True)])
        np.testing.assert_allclose(batch[:, row], single, atol=1e-5)


def test_reset_forgets(exported):
    folder, _ = exported
    policy = load_policy(folder)
    obs = np.random.default_rng(2).normal(size=(5, OBS)).astype(np.float32)
    once = np.stack([policy.act(x) for x in obs])
    on = np.stack([policy.act(x) for x in obs])
    policy.reset()
    again = np.stack([policy.act(x) for x in obs])
    np.testing.assert_array_equal(once, again)
    assert np.abs(on[0] - once[0]).max() > 1e-3


def test_an_observation_of_another_length_is_refused(exported):
    policy = load_policy(exported[0])
    for shape in ((OBS - 1,), (1,), (2, OBS), (1, 1, OBS)):
        with pytest.raises(ValueError, match="observation of shape"):
            policy.act(np.zeros(shape))


def test_manifest_tells_the_student(exported):
    folder, family = exported
    manifest = read_manifest(folder)
    config, params, *_ = student(family)
    assert manifest.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(manifest.parameter_groups.values()) == manifest.parameters
    assert manifest.parameter_groups["head"] == 29 * (config.width + 1)
    assert manifest.student["family"] == config.family
    assert manifest.student["context"] == config.context
    assert {"scaling", "jax", "flax", "onnx", "numpy", "python"} <= set(manifest.versions)
    assert manifest.row == {**ROW, "val_loss": None}
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    rings = {f"{kind}.{layer}" for kind in ("keys", "values") for layer in range(2)}
    expected = {"mlp": {"history", "fresh"}, "transformer": {*rings, "position", "filled"}}
    assert {leaf.name for leaf in manifest.state} == expected[family]


def test_the_programs_are_for_cpu_and_cuda_and_for_one_row_or_any(exported):
    folder, _ = exported
    one, any_ = (jax.export.deserialize(bytearray((folder / name).read_bytes())) for name in (PROGRAM, BATCH_PROGRAM))
    assert one.platforms == any_.platforms == ("cpu", "cuda")
    obs = next(n for n, shape in enumerate(one.in_avals) if shape.shape == (1, OBS))
    assert str(any_.in_avals[obs].shape) == f"(batch, {OBS})"


@pytest.mark.parametrize(
    "name", ["params.npz", "normaliser.npz", "policy.stablehlo", "policy_batch.stablehlo", "policy.onnx", VECTORS]
)
def test_a_flipped_byte_in_any_file_is_refused(exported, name, tmp_path):
    folder = tmp_path / "policy"
    shutil.copytree(exported[0], folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 0x10
    (folder / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        load_policy(folder)


def test_it_exports_again_from_its_own_parameters(exported, tmp_path):
    """Where its programs no longer open, too; the one for ONNX Runtime is the same bytes, in whatever process."""
    folder = shutil.copytree(exported[0], tmp_path / "aged")
    (folder / PROGRAM).write_bytes(b"of another age")
    manifest = read_manifest(folder)
    replace(manifest, files=hash_files(folder, list(manifest.files))).write(folder)
    with pytest.raises(InputError, match="scaling export POLICY --out DIR"):
        load_policy(folder, backend="xla")
    code = "import sys; from scaling.policy.export import reexport; reexport(*sys.argv[1:])"
    again = tmp_path / "again"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(folder), str(again)], check=True, env=environment)
    old, new = (load_vectors(path / VECTORS)["random"]["action"] for path in (folder, again))
    np.testing.assert_array_equal(old, new)
    for name in (ONNX_PROGRAM, "params.npz"):
        assert (again / name).read_bytes() == (exported[0] / name).read_bytes(), name
    assert read_manifest(again).row == manifest.row


def test_a_failed_export_leaves_the_older_policy(exported, tmp_path, monkeypatch):
    _, family = exported
    out = tmp_path / "policy"
    export_policy(*student(family), ROW, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_vectors", broken)
    with pytest.raises(InputError, match="disk is full"):
        export_policy(*student(family), {"run": "other"}, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]
    monkeypatch.undo()
    export_policy(*student(family), {"run": "other"}, out)
    assert read_manifest(out).row == {"run": "other"}
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_run_is_not_exported(tmp_path):
    config, params, normaliser, scale = student("mlp")
    out = tmp_path / "policy"
    bad = jax.tree.map(lambda leaf: leaf * np.nan, params)
    with pytest.raises(InputError, match="not finite everywhere"):
        export_policy(config, bad, normaliser, scale, ROW, out)
    with pytest.raises(InputError, match="std of shape"):
        export_policy(config, params, Normaliser(normaliser.mean, 0 * normaliser.std), scale, ROW, out)
    with pytest.raises(InputError, match="action_scale"):
        export_policy(config, params, normaliser, scale[:5], ROW, out)
    with pytest.raises(InputError, match="parameters are not those"):
        export_policy(config, {**params, "extra": {"kernel": np.zeros(2)}}, normaliser, scale, ROW, out)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a policy folder"):
        export_policy(config, params, normaliser, scale, ROW, out)
    assert (out / "thesis.tex").exists()
