"""Parity and latency of a policy artifact, measured in a fresh process that holds no training code."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import scaling
from scaling.contract.manifest import read_manifest
from scaling.errors import InputError
from scaling.policy.load import BACKENDS, ONNX_PROGRAM, LoadedPolicy, load_policy
from scaling.policy.vectors import VECTORS, load_vectors

TOLERANCE = 1e-5  # largest difference of any action from the training-time forward, float32
TRAINING = ("brax", "flax", "optax", "orbax", "grain")
CHECK_STEPS = 200
BENCH_STEPS = 2000


def check_policy(folder: Path | str) -> dict[str, Any]:
    """`{ok, failures, max_abs_difference, latency_ms, ...}` of a policy folder; nothing is raised for a bad policy.

    A fresh process verifies it and compares every backend with the reference vectors; where the training code is
    installed, the vectors themselves are compared with a forward made anew from the parameters.
    Raises InputError where there is no policy at all.
    """
    report = _in_fresh_process(Path(folder), CHECK_STEPS)
    if report["ok"] and find_spec("flax") is not None:
        difference = _vectors_against_flax(Path(folder))
        report["reference_vectors_against_flax"] = difference
        if not difference < TOLERANCE:
            report["failures"].append(f"the reference vectors differ from the Flax forward by {difference:.3g}")
            report["ok"] = False
    return report


def bench_policy(folder: Path | str) -> dict[str, Any]:
    """The report of `check_policy` without Flax, latencies over many more steps."""
    return _in_fresh_process(Path(folder), BENCH_STEPS)


def parity(policy: LoadedPolicy, folder: Path) -> dict[str, float]:
    """Largest absolute action difference from the reference vectors, by case; infinite where not finite."""
    found = {}
    for name, case in load_vectors(folder / VECTORS).items():
        policy.reset()
        pairs = zip(case["obs"], case["first"], strict=True)
        difference = np.abs(np.stack([policy.act(obs, first) for obs, first in pairs]) - case["action"])
        found[name] = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    policy.reset()
    return found


def latency(policy: LoadedPolicy, steps: int) -> dict[str, float]:
    """Median and 99th percentile (ms) of one batch-1 action, transfers included."""
    obs = np.random.default_rng(0).normal(size=policy.manifest.student["obs_dim"]).astype(np.float32)
    policy.reset()
    took = []
    for _ in range(steps):
        before = time.perf_counter()
        policy.act(obs)
        took.append(time.perf_counter() - before)
    policy.reset()
    return {"median": 1e3 * float(np.median(took)), "p99": 1e3 * float(np.percentile(took, 99))}


def _measure(folder: Path, steps: int) -> dict[str, Any]:
    """The report, as made inside the fresh process."""
    report: dict[str, Any] = {"ok": False, "failures": [], "max_abs_difference": None, "latency_ms": None, "backends": {}}
    try:
        before = time.perf_counter()
        manifest = read_manifest(folder)
        names = [name for name in BACKENDS if name != "onnx" or ONNX_PROGRAM in manifest.files]
        names = [name for name in names if find_spec("jax" if name == "xla" else "onnxruntime") is not None]
        for name in names:
            policy = load_policy(folder, backend=name)
            opened = time.perf_counter() - before
            report["backends"][name] = {
                "seconds_to_open": opened,
                "max_abs_difference": parity(policy, folder),
                "latency_ms": latency(policy, steps),
            }
            before = time.perf_counter()
    except InputError as error:
        report["failures"].append(str(error))
        return report
    for name, found in report["backends"].items():
        for case, difference in found["max_abs_difference"].items():
            if not difference < TOLERANCE:
                report["failures"].append(
                    f"{name}: actions on {case} inputs differ from the Flax forward by {difference:.3g}"
                )
    if loaded := sorted(name for name in TRAINING if name in sys.modules):
        report["failures"].append(f"opening the policy imported training code: {', '.join(loaded)}")
    differences = [d for found in report["backends"].values() for d in found["max_abs_difference"].values()]
    report["max_abs_difference"] = max(differences)
    report["latency_ms"] = report["backends"][names[0]]["latency_ms"]
    report["ok"] = not report["failures"]
    return report


def _in_fresh_process(folder: Path, steps: int) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: name a folder that `scaling export` wrote")
    home = str(Path(scaling.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "scaling.policy.check", str(folder), str(steps)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        failures = [f"opening the policy in a fresh process ended with exit code {done.returncode} ({last[0]})"]
        return {"ok": False, "failures": failures, "max_abs_difference": None, "latency_ms": None, "backends": {}}
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _vectors_against_flax(folder: Path) -> float:
    import jax

    from scaling.policy.export import read_student
    from scaling.policy.program import forward
    from scaling.policy.vectors import act

    config, weights = read_student(folder)
    run = jax.jit(lambda *args: forward(config, *args))
    cases = load_vectors(folder / VECTORS).values()
    return float(max(np.abs(act(weights, run, case) - case["action"]).max() for case in cases))


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]))))
