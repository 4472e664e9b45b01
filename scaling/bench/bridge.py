"""One tick of the runtime beside the policy's own step: what observation, safety and the wire cost."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scaling.bench.latency import OPEN_TARGET, export_fresh, latency_rows, open_rows
from scaling.bench.row import Row
from scaling.bench.wire import codec_rows, round_trip_rows
from scaling.bridge.clock import VirtualClock
from scaling.bridge.fleet import TWIN
from scaling.bridge.reference import ClipReference
from scaling.bridge.runtime import Runtime
from scaling.bridge.safety import State
from scaling.bridge.sim import SimRobot
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.motion.synthetic import generate
from scaling.policy.load import BACKENDS, LoadedPolicy, load_policy

OBS = observation_dim(STUDENT_TERMS)


def rows(quick: bool) -> Iterator[Row]:
    """Milliseconds from a reading in hand to its command handed over, by backend; targets are for size S."""
    size, rounds = ("0.2M", 3) if quick else ("S", 7)
    with tempfile.TemporaryDirectory() as folder:
        out = export_fresh(size, Path(folder) / "policy")
        clip = ClipReference(generate("squat", 4.0, 0))
        yield from open_rows(out, size, None if quick else OPEN_TARGET)
        for backend in BACKENDS:
            yield from _beside_the_policy(load_policy(out, backend=backend), clip, size, backend, rounds)
        yield from latency_rows((size,) if quick else ("S", "B", "L"), 200 if quick else 2000)
        yield from codec_rows(200 if quick else 2000)
        # Ten minutes: whatever this machine does once in a while, it has done by then.
        seconds = {"xla": 60.0, "onnx": 600.0}
        for backend in BACKENDS:
            yield from round_trip_rows(out, size, backend, 4.0 if quick else seconds[backend])


def _beside_the_policy(
    policy: LoadedPolicy, clip: ClipReference, size: str, backend: str, rounds: int
) -> Iterator[Row]:
    """Rounds of the whole loop and of the policy alone, in turns."""
    ticks: list[float] = []
    steps: list[float] = []
    obs = np.random.default_rng(0).normal(size=OBS).astype(np.float32)
    for _ in range(rounds):
        ticks += _loop(policy, clip)
        policy.reset()
        for _ in range(clip.frames):
            began = time.perf_counter()
            policy.act(obs)
            steps.append(time.perf_counter() - began)
    tick, step = statistics.median(ticks), statistics.median(steps)
    small = size != "S"
    name = f"{size}_{backend}"
    yield Row(f"tick_{name}", 1e3 * tick, "ms", None if small else 2.0, higher_is_better=False)
    yield Row(f"tick_p99_{name}", 1e3 * float(np.percentile(ticks, 99)), "ms", None if small else 8.0, False)
    yield Row(f"policy_step_{name}", 1e3 * step, "ms", higher_is_better=False)
    yield Row(f"tick_over_policy_step_{name}", tick / step, "x", higher_is_better=False, ratio_to=f"policy_step_{name}")


def _loop(policy: LoadedPolicy, clip: ClipReference) -> list[float]:
    """Latencies of every tick of tracking one clip in the twin, held up so that it reaches the end."""
    clock = VirtualClock()
    robot = SimRobot(clip, clock, assist=1.0)
    changed = lambda state: robot.release() if state is State.TRACK else None  # noqa: E731
    runtime = Runtime(policy, clip, robot, clock, TWIN, may_leave=lambda state: True, on_change=changed)
    report = runtime.run()
    robot.close()
    if report["faults"]:
        raise RuntimeError(f"the twin did not reach the end of the clip: {report['faults'][0]}")
    return runtime.latency
