"""`bridge run` end to end: a real artifact, a real clip, the twin; and every refusal in one sentence."""

import contextlib
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scaling.bridge.fleet import TWIN
from scaling.bridge.run import run_bridge
from scaling.bridge.score import score, sonic_failures
from scaling.bridge.watchdog import Limits
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.motion.native import write_npz
from scaling.robot.g1 import standing_qpos
from scaling.tracking import terminations
from scaling.tracking.errors import tracking_errors
from scaling.view.rollout import Rollout

OBS = observation_dim(STUDENT_TERMS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A file with 1.2 s of standing, facing left."""
    qpos = standing_qpos()
    qpos[3:7] = np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)
    motion = Motion(np.tile(qpos, (60, 1)), 50.0, "standing")
    return write_npz(motion, tmp_path_factory.mktemp("clips") / "standing.npz")


def test_held_by_the_harness_it_stands_to_the_end(policy, clip, tmp_path):
    report = run_bridge(policy, clip, "sim", realtime=False, assist=1.0, out=tmp_path)
    assert report["faults"] == []
    assert report["state"] == "damping"
    assert report["ended"] == "the clip has ended"
    assert report["ticks"] >= 60
    assert report["overruns"] == 0
    assert report["metrics"]["success_sonic"] == 1.0
    assert report["metrics"]["survival_s"] == pytest.approx(59 * 0.02)
    assert report["metrics"]["mpjpe_rad"] < 0.1
    assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["p99"]
    json.dumps(report, allow_nan=False)
    rollout = Rollout.load(report["rollout"])
    assert rollout.assist == 1.0
    assert len(rollout.qpos) == report["ticks"]
    assert rollout.metrics == report["metrics"]
    np.testing.assert_allclose(rollout.reference[0], rollout.reference[-1])


def test_on_its_own_feet_zero_actions_fall_and_it_says_so(policy, tmp_path):
    """The ankles cannot hold the robot up (FACTS section 3): a tilt fault, and success is not claimed."""
    motion = Motion(np.tile(standing_qpos(), (200, 1)), 50.0, "long")
    report = run_bridge(policy, write_npz(motion, tmp_path / "long.npz"), "sim", realtime=False)
    assert report["assist"] == 0.0
    assert "tilted" in report["faults"][0]
    assert report["state"] == "damping"
    assert report["metrics"]["success_sonic"] == 0.0
    assert 0.3 < report["metrics"]["survival_s"] < 3.0


def test_both_backends_move_it_alike(policy, clip):
    robots = [replace(TWIN, backend=name) for name in ("xla", "onnx")]
    reports = [run_bridge(policy, clip, realtime=False, assist=1.0, robot=robot) for robot in robots]
    assert [r["policy_backend"] for r in reports] == ["xla", "onnx"]
    left, right = (r["metrics"]["mpjpe_l_mm"] for r in reports)
    assert left == pytest.approx(right, rel=1e-3)


def test_in_real_time_it_takes_the_time_it_should(policy, clip):
    # A loaded machine may overrun, and what the watchdogs say of that is tested on clocks of their own.
    patient = replace(TWIN, limits=Limits(overrun=2.0, late_ticks=500, gap=5.0))
    report = run_bridge(policy, clip, realtime=True, assist=1.0, robot=patient)
    assert report["ended"] == "the clip has ended"
    times = {t["to"]: t["time_s"] for t in report["transitions"]}
    # The clock of the clip must not stretch with the load.
    assert times["damping"] - times["track"] == pytest.approx(1.2 + 0.5, abs=0.3)
    assert report["ticks"] + report["skipped"] >= 60
    assert report["jitter_ms"]["median"] < 20


_BASE = """
import sys
absent = sys.argv[3].split()
sys.modules.update({name: None for name in absent})
import scaling.bridge.twin, scaling.bridge.writer, scaling.bridge.link, scaling.bridge.recorder, scaling.bridge.status
import scaling.bridge.fleet, scaling.bridge.listen, scaling.bridge.service
from scaling.bridge.run import run_bridge
from scaling.cli import main
from scaling.policy.check import _measure
from pathlib import Path
report = run_bridge(sys.argv[1], sys.argv[2], realtime=False, assist=1.0)
checked = _measure(Path(sys.argv[1]), 10)
code = main(["bridge", "run", sys.argv[1], "--motion", sys.argv[2], "--fast", "--assist", "1", "--json", sys.argv[4]])
used = sorted(name for name in absent if sys.modules.get(name) is not None)
print(report["policy_backend"], report["metrics"]["success_sonic"], len(report["faults"]), checked["ok"], code, used)
"""


def only_in_training():
    """Modules that the extras bring and the base install does not, by what `pyproject.toml` and the packages say."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    def closure(wanted):
        found, left = set(), [Requirement(one) for one in wanted]
        while left:
            one = left.pop()
            name = canonicalize_name(one.name)
            if (name, *one.extras) in found:
                continue
            found.add((name, *one.extras))
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                for needed in map(Requirement, importlib.metadata.requires(name) or []):
                    if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in ("", *one.extras)):
                        left.append(needed)
        return {name for name, *_ in found}

    extras = [one for name in ("train", "stream", "zmq") for one in project["optional-dependencies"][name]]
    base = closure(project["dependencies"])
    dists = importlib.metadata.packages_distributions()
    away = {name for name, brought in dists.items() if not {canonicalize_name(one) for one in brought} & base}
    return away & {n for n, brought in dists.items() if {canonicalize_name(one) for one in brought} & closure(extras)}


def test_the_base_install_is_enough(policy, clip, tmp_path):
    """The bridge, the check and the command itself, where nothing that only the extras bring can be imported."""
    absent = only_in_training()
    assert {"jax", "flax", "brax", "grain", "onnx", "scipy", "sklearn", "pyarrow", "PIL", "zmq"} <= absent
    assert not {"numpy", "mujoco", "onnxruntime", "cyclonedds", "yaml", "fastjsonschema"} & absent
    done = subprocess.run(
        [sys.executable, "-c", _BASE, str(policy), str(clip), " ".join(absent), str(tmp_path / "report.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["onnx", "1.0", "0", "True", "0", "[]"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transport": "dds"}, "leave out --fast"),
        ({"transport": "dds", "realtime": True, "assist": 1.0}, "bridge simulate"),
        ({"transport": "carrier pigeon"}, "'carrier pigeon'"),
        ({"assist": 1.5}, "assist is 1.5"),
        ({"policy_dir": "nowhere"}, "nowhere"),
        ({"motion_path": "nothing.csv"}, r"nothing\.csv"),
        ({"motion_path": None}, "either --motion CLIP or --stream ADDRESS"),
        ({"stream": "udp://127.0.0.1:1"}, "either --motion CLIP or --stream ADDRESS"),
        ({"motion_path": None, "stream": "udp://127.0.0.1:1"}, "leave out --fast"),
        ({"motion_path": None, "stream": "tcp://127.0.0.1", "realtime": True}, "give udp://HOST:PORT"),
        ({"robot": replace(TWIN, providers=("cuda",), backend="xla")}, "add backend onnx"),
        ({"status": "/proc/nowhere/status.json"}, "cannot be made while writing it"),
    ],
)
def test_bad_input_is_one_sentence(policy, clip, change, said):
    arguments = {"policy_dir": policy, "motion_path": clip, "transport": "sim", "realtime": False} | change
    with pytest.raises(InputError, match=said) as caught:
        run_bridge(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_scores_are_those_of_training(squats):
    """Failure rule and errors against the tracking room's, on states on both sides of the limits."""
    rng = np.random.default_rng(0)
    reference, count = squats.qpos[:120], 120
    qpos = reference.copy()
    qpos[:, :3] += rng.uniform(-0.4, 0.4, (count, 3)) * (np.arange(count) > 40)[:, None]
    qpos[:, 7:] += 0.3 * rng.normal(size=(count, 29))
    still = jnp.zeros((count, 35))
    errors = jax.jit(tracking_errors)(jnp.asarray(qpos, jnp.float32), still, jnp.asarray(reference, jnp.float32), still)
    trained = np.asarray(terminations.failed("sonic", errors, jnp.asarray(qpos)))
    ours = sonic_failures(qpos, reference)
    assert 0 < ours.sum() < count
    np.testing.assert_array_equal(ours, trained)
    result = score(qpos, reference, finished=True)
    until = int(np.argmax(trained))
    assert result.failed_at == until
    assert result.metrics["survival_s"] == pytest.approx((until - 1) * 0.02)
    assert result.metrics["success_sonic"] == 0.0
    wanted = 1e3 * float(np.asarray(errors.local_position)[1:until].mean())
    assert result.metrics["mpjpe_l_mm"] == pytest.approx(wanted, rel=1e-4)


def test_a_diverged_simulation_is_a_failure(squats):
    qpos = squats.qpos[:50].copy()
    qpos[30:] = np.nan
    result = score(qpos, squats.qpos[:50], finished=False)
    assert result.failed_at == 30
    assert result.metrics["mpjpe_rad"] == 0.0
    early = score(qpos[30:], squats.qpos[30:50], finished=False)
    assert early.failed_at == 1
    assert early.metrics["mpjpe_rad"] is None
