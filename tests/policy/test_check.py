"""The check opens a policy in a fresh process without training code, and says which input fails."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from scaling.contract.manifest import MANIFEST, SCHEMA, hash_files, read_manifest
from scaling.contract.normaliser import Normaliser
from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.motion.native import write_npz
from scaling.policy import export
from scaling.policy.archive import pack
from scaling.policy.check import TOLERANCE, bench_policy, check_policy, difference
from scaling.policy.export import export_policy
from scaling.policy.load import BATCH_PROGRAM
from scaling.policy.vectors import VECTORS, load_vectors, save_vectors
from scaling.robot.g1 import standing_qpos
from tests.policy.conftest import OBS, student

_LOAD = """
import sys
{block}
import numpy as np
from scaling.policy.load import load_policy
policy = load_policy(sys.argv[1])
policy.act(np.zeros({obs}), True)
print(policy.backend, *sorted({{name.split(".")[0] for name in sys.modules}}))
print(*sorted(name for name in sys.modules if name.startswith("scaling.")))
"""


def in_fresh_process(folder, block=""):
    """(backend, top-level modules, modules of ours) after loading and acting once."""
    code = _LOAD.format(block=block, obs=OBS)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    tops, ours = (line.split() for line in done.stdout.splitlines())
    return tops[0], set(tops[1:]), set(ours)


def test_the_loader_needs_no_training_code(exported):
    backend, modules, ours = in_fresh_process(exported[0])
    assert backend == "xla"
    assert "jax" in modules
    assert not modules & {"flax", "brax", "optax", "orbax", "grain"}
    assert not {name for name in ours if name.split(".")[1] in ("students", "tracking", "experts", "distill")}


def test_without_jax_it_runs_on_onnx(exported):
    backend, modules, _ = in_fresh_process(exported[0], block="sys.modules['jax'] = None")
    assert backend == "onnx"
    assert "jaxlib" not in modules


def test_a_good_policy_passes(exported):
    report = check_policy(exported[0])
    assert report["ok"], report["failures"]
    assert report["failures"] == []
    assert 0 < report["max_abs_difference"] < TOLERANCE
    assert set(report["backends"]) == {"xla", "onnx"}
    assert report["reference_vectors_against_flax"] < TOLERANCE
    for found in report["backends"].values():
        assert found["difference"]["closed_loop"]["raw"] < TOLERANCE
    assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["p99"]
    json.dumps(report, allow_nan=False)


@pytest.fixture
def copied(exported, tmp_path):
    """A policy folder that may be spoilt."""
    return shutil.copytree(exported[0], tmp_path / "policy")


def rehash(folder):
    """Make the manifest agree with what the files have become."""
    manifest = read_manifest(folder)
    replace(manifest, files=hash_files(folder, list(manifest.files))).write(folder)


def test_other_actions_are_a_failure_that_names_the_input(copied):
    vectors = load_vectors(copied / VECTORS)
    vectors["zero"]["action"] = vectors["zero"]["action"] + 1e-3
    save_vectors(copied / VECTORS, vectors)
    rehash(copied)
    report = bench_policy(copied)
    assert not report["ok"]
    told = [line.partition(" inputs differ")[0] for line in report["failures"]]
    assert told == [f"{backend}: actions on {case}" for backend in ("xla", "onnx") for case in ("zero", "batch")]
    assert report["max_abs_difference"] == pytest.approx(1e-3, rel=0.1)


def test_a_calm_policy_stays_with_flax_in_a_loop_of_its_own(tmp_path):
    config, params, normaliser, scale = student("transformer")
    calm = Normaliser(normaliser.mean, 10 * np.ones_like(normaliser.std))
    folder = export_policy(config, params, calm, 0.1 * scale, {}, tmp_path / "calm")
    report = bench_policy(folder)
    assert report["ok"], report["failures"]
    assert 0 < report["closed_loop_drift"] < 1e-4
    actions = load_vectors(folder / VECTORS)["closed_loop"]["action"]
    assert np.abs(np.diff(actions, axis=0)).max() > 1e-2, "and it does something"


def test_another_episode_is_a_failure_of_the_loop(copied):
    vectors = load_vectors(copied / VECTORS)
    vectors["closed_loop"]["obs"] = np.flip(vectors["closed_loop"]["obs"], 0)
    save_vectors(copied / VECTORS, vectors)
    rehash(copied)
    report = bench_policy(copied)
    assert not report["ok"]
    assert all("closed_loop inputs" in line for line in report["failures"])


def test_another_program_for_many_robots_is_a_failure(copied, exported, monkeypatch):
    """The program of one row is right, and that of any number is a little off."""
    make_step = export.make_step

    def off(config):
        step = make_step(config)

        def wrong(*arguments):
            action, *state = step(*arguments)
            return action + 1e-3, *state

        return wrong

    monkeypatch.setattr(export, "make_step", off)
    config, weights = export.read_student(copied)
    program = export._program(config, weights, jax.export.symbolic_shape("batch")[0])
    (copied / BATCH_PROGRAM).write_bytes(bytes(program.serialize()))
    rehash(copied)
    report = bench_policy(copied)
    assert not report["ok"]
    assert report["failures"] == ["xla: actions on batch inputs differ from the Flax forward by 0.001"]


def test_a_policy_without_a_closed_loop_is_told_to_be_made_anew(copied):
    vectors = load_vectors(copied / VECTORS)
    del vectors["closed_loop"]
    save_vectors(copied / VECTORS, vectors)
    rehash(copied)
    report = check_policy(copied)
    assert not report["ok"]
    assert "export the policy again" in report["failures"][0]


REFUSED = pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda raw: raw["joints"].insert(0, raw["joints"].pop(5)), "joints are re-ordered: number 0 is"),
        (lambda raw: raw["terms"].pop(3), "observation term 'joint_vel' is missing"),
        (lambda raw: raw.update(robot="unitree_h1"), "the policy is for robot 'unitree_h1'"),
        (lambda raw: raw.update(schema=SCHEMA + 1), f"has schema {SCHEMA + 1} and this version reads up to {SCHEMA}"),
        (lambda raw: raw.update(kp="stiff"), "kp must be array"),
    ],
)


def edited(folder, edit):
    """The folder with its manifest changed."""
    raw = json.loads((folder / MANIFEST).read_text())
    edit(raw)
    (folder / MANIFEST).write_text(json.dumps(raw))
    return folder


@REFUSED
def test_the_check_refuses_another_contract_by_name(copied, edit, said):
    report = check_policy(edited(copied, edit))
    assert not report["ok"]
    assert len(report["failures"]) == 1
    assert said in report["failures"][0]


@REFUSED
def test_the_bridge_refuses_what_the_check_refuses(copied, edit, said, tmp_path):
    """As a folder and as a zip, and with neither a path of our own nor a traceback in the sentence."""
    from scaling.bridge.run import run_bridge

    clip = write_npz(Motion(np.tile(standing_qpos(), (4, 1)), 50.0, "standing"), tmp_path / "standing.npz")
    edited(copied, edit)
    for policy in (copied, pack(copied, tmp_path / "policy.zip")):
        with pytest.raises(InputError) as caught:
            run_bridge(policy, clip, realtime=False, status=tmp_path / "status.json")
        assert said in str(caught.value)
        assert str(policy) in str(caught.value)
        assert "scaling-policy-" not in str(caught.value)


def test_a_spoilt_file_is_a_failure_and_no_traceback(copied):
    (copied / "params.npz").write_bytes(b"not what was exported")
    report = check_policy(copied)
    assert not report["ok"]
    assert report["max_abs_difference"] is None
    assert "params.npz" in report["failures"][0]


def test_no_policy_is_the_users_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        check_policy(tmp_path / "nowhere")


def test_differences_beyond_what_is_decoded_count_per_unit():
    wanted = np.array([[4.0, 400.0]])
    off = difference(wanted + np.array([[2e-6, 2e-3]]), wanted)
    assert off.limited == pytest.approx(2e-6)
    assert off.raw == pytest.approx(2e-3)
    assert off.relative == pytest.approx(5e-6)
    assert difference(np.array([[np.nan]]), np.zeros((1, 1))).limited == np.inf
