"""The bridge and the twin as two processes over DDS: the round trip of a state, and what the wire itself costs."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import scaling
from scaling.bench.row import Row
from scaling.bridge.messages import command_message, state_message, state_of
from scaling.bridge.reference import ClipReference
from scaling.bridge.transport import RobotState, position_command
from scaling.bridge.wire import LOW_CMD, LOW_STATE, crc32, decode, encode, sign
from scaling.motion.native import write_npz
from scaling.motion.synthetic import generate
from scaling.robot.g1 import KNEES_BENT_JOINTS, standing_qpos

DOMAIN = 199
_BRIDGE = (sys.executable, "-m", "scaling", "bridge")


def codec_rows(rounds: int) -> Iterator[Row]:
    """Microseconds of each half of the wire, CRC included."""
    zero = np.zeros(29)
    state = RobotState(0.0, standing_qpos()[3:7], np.zeros(3), KNEES_BENT_JOINTS, zero)
    stream = _signed(state_message(state, np.zeros(35), zero, 1))
    order = _signed(command_message(position_command(KNEES_BENT_JOINTS), 5))
    image = bytes(LOW_STATE.itemsize - 4)
    works: dict[str, Callable[[], Any]] = {
        "crc_of_a_state": lambda: crc32(image),
        "decode_a_state": lambda: state_of(decode(stream, LOW_STATE), 0.0),
        "encode_a_command": lambda: _signed(command_message(position_command(KNEES_BENT_JOINTS), 5)),
        "decode_a_command": lambda: decode(order, LOW_CMD),
    }
    for name, work in works.items():
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            work()
            took.append(time.perf_counter() - began)
        yield Row(name, 1e6 * float(np.median(took)), "us", higher_is_better=False)


def round_trip_rows(policy: Path, size: str, backend: str, seconds: float) -> Iterator[Row]:
    """Milliseconds from a LowState sent to the LowCmd that answers it, on loopback; targets are for size S.

    A tick waits for the next state, which comes every 2 ms. Beside the two processes a third sleeps from tick to tick
    and does nothing else: what it misses is the machine's doing.
    """
    if find_spec("cyclonedds") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        motion = write_npz(generate("squat", seconds, 0), Path(folder) / "clip.npz")
        twin, idler = _twin(motion, Path(folder) / "twin.json"), _idler()
        try:
            run = _run(policy, motion, backend, Path(folder))
        finally:
            twin.terminate()
            idler.terminate()
            twin.communicate(timeout=60)
            idled = json.loads(idler.communicate(timeout=60)[0])
        report = json.loads((Path(folder) / "twin.json").read_text())
    # A machine with too much else to do stalls for longer than the watchdogs allow: that is a finding of its own.
    yield Row(f"dds_faults_{backend}", float(len(run["faults"])), "in one clip", 0.0, False)
    if report["round_trip_ms"] is None or not run["ticks"]:
        return
    trip, small = report["round_trip_ms"], size != "S"
    frames = ClipReference(generate("squat", seconds, 0)).frames
    yield Row(f"dds_round_trip_{size}_{backend}", trip["median"], "ms", None if small else 2.0, False)
    yield Row(f"dds_round_trip_p99_{size}_{backend}", trip["p99"], "ms", None if small else 8.0, False)
    yield Row(f"dds_tick_{size}_{backend}", run["latency_ms"]["median"], "ms", higher_is_better=False)
    yield Row(f"dds_tick_p99_{size}_{backend}", run["latency_ms"]["p99"], "ms", higher_is_better=False)
    yield Row(f"dds_missed_deadlines_{backend}", float(run["skipped"]), f"of {frames} ticks", 0.0, False)
    yield Row(f"dds_missed_by_an_idler_{backend}", float(idled["skipped"]), f"of {idled['ticks']} ticks", None, False)
    yield Row(f"dds_late_starts_p99_{backend}", run["jitter_ms"]["p99"], "ms", higher_is_better=False)


def _signed(message: np.ndarray) -> bytes:
    sign(message)
    return encode(message)


def _environment() -> dict[str, str]:
    home = str(Path(scaling.__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))}


def _run(policy: Path, motion: Path, backend: str, folder: Path) -> dict[str, Any]:
    """The report of a bridge in a process of its own: this one has JAX in it, with threads of its own."""
    flags = ["--transport", "dds", "--domain", str(DOMAIN), "--backend", backend, "--status", str(folder / "status")]
    command = [*_BRIDGE, "run", str(policy), "--motion", str(motion), *flags, "--json"]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(f"the bridge did not run: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


_IDLER = """
import json, signal
from scaling.bridge.clock import FixedRate, WallClock, prioritised
rate = FixedRate(WallClock(), 0.02)
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with prioritised():
        while True:
            rate.wait()
except KeyboardInterrupt:
    print(json.dumps({"ticks": rate.tick, "skipped": rate.skipped}))
"""


def _idler() -> "subprocess.Popen[str]":
    """A process that keeps the control loop's rate and does nothing."""
    return subprocess.Popen([sys.executable, "-c", _IDLER], env=_environment(), stdout=subprocess.PIPE, text=True)


def _twin(motion: Path, report: Path) -> "subprocess.Popen[str]":
    """The twin as a process, once it speaks."""
    arguments = ["--motion", str(motion), "--assist", "1", "--domain", str(DOMAIN), "--json", str(report)]
    process = subprocess.Popen(
        [*_BRIDGE, "simulate", *arguments],
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    if "speaks" not in process.stderr.readline():
        process.kill()
        raise RuntimeError("the twin did not start")
    return process
