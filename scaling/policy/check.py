"""Parity and latency of a policy artifact, measured in a fresh process that holds no training code."""

import json
import math
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

import scaling
from scaling.contract.action import ACTION_LIMIT
from scaling.contract.manifest import read_manifest
from scaling.errors import InputError
from scaling.policy.archive import opened
from scaling.policy.load import BACKENDS, ONNX_PROGRAM, LoadedPolicy, load_policy
from scaling.policy.loop import closed_loop
from scaling.policy.vectors import CLOSED_LOOP, VECTORS, load_vectors

# Largest difference of any action from the training-time forward, float32. Decoding limits actions to +-5 before
# anything else, so that is where they are compared; beyond it (extreme inputs) the bound grows with the action.
TOLERANCE = 1e-5
TRAINING = ("brax", "flax", "optax", "orbax", "grain")
CHECK_STEPS = 200
BENCH_STEPS = 2000


def check_policy(folder: Path | str) -> dict[str, Any]:
    """`{ok, failures, max_abs_difference, latency_ms, ...}` of a policy, folder or zip; a bad one raises nothing.

    A fresh process verifies it and compares every backend with the reference vectors; where the training code is
    installed, the vectors themselves are compared with a forward made anew from the parameters.
    Raises InputError where there is no policy at all.
    """
    report = _in_fresh_process(Path(folder), CHECK_STEPS)
    if report["ok"] and find_spec("flax") is not None:
        with opened(folder) as unpacked:
            off = _vectors_against_flax(unpacked)
        report["reference_vectors_against_flax"] = off.raw
        if not (off.limited < TOLERANCE and off.relative < TOLERANCE):
            report["failures"].append(f"the reference vectors differ from the Flax forward by {off.raw:.3g}")
            report["ok"] = False
    return report


def bench_policy(folder: Path | str) -> dict[str, Any]:
    """The report of `check_policy` without Flax, latencies over many more steps."""
    return _in_fresh_process(Path(folder), BENCH_STEPS)


class Actor(Protocol):
    """What is timed: `LoadedPolicy` is one."""

    obs_dim: int

    def reset(self) -> None:
        """Forget the episode."""
        ...

    def act(self, obs: Float[np.ndarray, "obs"]) -> Float[np.ndarray, "29"]:
        """An action for one raw observation."""
        ...


class Parity(NamedTuple):
    """Largest action difference of one case: as decoded (limited to +-5), unlimited, and that per unit of action."""

    limited: float
    raw: float
    relative: float


def difference(found: Float[np.ndarray, "T act"], wanted: Float[np.ndarray, "T act"]) -> Parity:
    """Infinite where an action is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return Parity(math.inf, math.inf, math.inf)
    raw = np.abs(found - wanted)
    limited = np.abs(np.clip(found, -ACTION_LIMIT, ACTION_LIMIT) - np.clip(wanted, -ACTION_LIMIT, ACTION_LIMIT))
    return Parity(float(limited.max()), float(raw.max()), float((raw / np.maximum(np.abs(wanted), 1.0)).max()))


def parity(policy: LoadedPolicy, folder: Path) -> dict[str, Parity]:
    """Difference from the reference vectors by case."""
    found = {}
    for name, case in load_vectors(folder / VECTORS).items():
        policy.reset()
        pairs = zip(case["obs"], case["first"], strict=True)
        found[name] = difference(np.stack([policy.act(obs, first) for obs, first in pairs]), case["action"])
    policy.reset()
    return found


def batch_parity(folder: Path, backend: str) -> dict[str, Parity]:
    """The same of the program for any number of rows: the cases of one length, each a row, as the case "batch"."""
    cases = [case for name, case in load_vectors(folder / VECTORS).items() if name != CLOSED_LOOP]
    obs, first, wanted = (np.stack([case[key] for case in cases], axis=1) for key in ("obs", "first", "action"))
    policy = load_policy(folder, batch=len(cases), backend=backend)
    found = np.stack([policy.act(*rows) for rows in zip(obs, first, strict=True)])
    return {"batch": difference(found, wanted)}


def drift(policy: LoadedPolicy, folder: Path) -> float:
    """Largest action difference (limited to +-5) from the Flax episode where the policy closes its own loop.

    Told and not judged: a policy of high gain is chaotic, and leaves itself as well when nudged in the last bit. What
    is judged is the case `closed_loop` of `parity`: every action on the observations of the loop that Flax closed.
    """
    vectors = load_vectors(folder / VECTORS)
    if CLOSED_LOOP not in vectors:
        raise InputError(f"{folder / VECTORS} holds no closed loop, being of an older version: export the policy again")
    policy.reset()
    _, actions = closed_loop(policy.act)
    policy.reset()
    return difference(actions, vectors[CLOSED_LOOP]["action"]).limited


def latency(policy: Actor, steps: int) -> dict[str, float]:
    """Median and 99th percentile (ms) of one batch-1 action, transfers included."""
    obs = np.random.default_rng(0).normal(size=policy.obs_dim).astype(np.float32)
    policy.reset()
    took = []
    for _ in range(steps):
        before = time.perf_counter()
        policy.act(obs)
        took.append(time.perf_counter() - before)
    policy.reset()
    return {"median": 1e3 * float(np.median(took)), "p99": 1e3 * float(np.percentile(took, 99))}


def _measure(path: Path, steps: int) -> dict[str, Any]:
    """The report, as made inside the fresh process."""
    report = _empty()
    try:
        with opened(path) as folder:
            report["backends"] = _measure_backends(folder, steps)
    except InputError as error:
        report["failures"].append(str(error))
        return report
    for name, found in report["backends"].items():
        for case, off in found["difference"].items():
            if not (off["limited"] < TOLERANCE and off["relative"] < TOLERANCE):
                report["failures"].append(
                    f"{name}: actions on {case} inputs differ from the Flax forward by {off['raw']:.3g}"
                )
    if loaded := sorted(name for name in TRAINING if sys.modules.get(name)):
        report["failures"].append(f"opening the policy imported training code: {', '.join(loaded)}")
    differences = [off for found in report["backends"].values() for off in found["difference"].values()]
    report["max_abs_difference"] = max(off["limited"] for off in differences)
    report["max_abs_difference_unlimited"] = max(off["raw"] for off in differences)
    report["closed_loop_drift"] = max(found["closed_loop_drift"] for found in report["backends"].values())
    report["latency_ms"] = next(iter(report["backends"].values()))["latency_ms"]
    report["ok"] = not report["failures"]
    return report


def _measure_backends(folder: Path, steps: int) -> dict[str, Any]:
    """By the name of each backend that is installed and that the policy has a program for."""
    before = time.perf_counter()
    manifest = read_manifest(folder)
    names = [name for name in BACKENDS if name != "onnx" or ONNX_PROGRAM in manifest.files]
    names = [name for name in names if find_spec("jax" if name == "xla" else "onnxruntime") is not None]
    found = {}
    for name in names:
        policy = load_policy(folder, backend=name)
        took = time.perf_counter() - before
        found[name] = {
            "seconds_to_open": took,
            "difference": {
                case: off._asdict() for case, off in (parity(policy, folder) | batch_parity(folder, name)).items()
            },
            "closed_loop_drift": drift(policy, folder),
            "latency_ms": latency(policy, steps),
        }
        before = time.perf_counter()
    return found


def _empty() -> dict[str, Any]:
    return {"ok": False, "failures": [], "max_abs_difference": None, "latency_ms": None, "backends": {}}


def _in_fresh_process(folder: Path, steps: int) -> dict[str, Any]:
    if not folder.exists():
        raise InputError(f"{folder} does not exist: name a folder or zip that `scaling export` wrote")
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
        return _empty() | {"failures": failures}
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _vectors_against_flax(folder: Path) -> Parity:
    import jax

    from scaling.policy.export import read_student
    from scaling.policy.program import forward
    from scaling.policy.vectors import act

    config, weights = read_student(folder)
    run = jax.jit(lambda *args: forward(config, *args))
    cases = load_vectors(folder / VECTORS).values()
    return max(difference(act(weights, run, case), case["action"]) for case in cases)


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]))))
