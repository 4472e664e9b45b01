"""`scaling bridge run`: a policy folder, a clip and a robot."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling.bridge.clock import Clock, VirtualClock, WallClock, prioritised
from scaling.bridge.dds import check_domain
from scaling.bridge.recorder import Recorder
from scaling.bridge.reference import ClipReference
from scaling.bridge.runtime import Runtime, RuntimeConfig
from scaling.bridge.safety import State
from scaling.bridge.score import PROTOCOL, score, write_rollout
from scaling.bridge.sim import SimRobot
from scaling.bridge.status import StatusFile, default_path
from scaling.bridge.transport import Transport
from scaling.errors import InputError
from scaling.motion.read import read_motion
from scaling.policy.load import LoadedPolicy, load_policy
from scaling.record.files import told

TRANSPORTS = ("sim", "dds")
# The simulated robot already stands at the start pose and nobody waits beside it: `bridge run` is the person's command.
SIMULATED = RuntimeConfig(ramp=0.5, standby=0.5)
FIRST_STATE = 10.0  # s that a robot on the wire may take until it is heard


def run_bridge(
    policy_dir: Path | str,
    motion_path: Path | str,
    transport: str = "sim",
    *,
    realtime: bool = True,
    assist: float = 0.0,
    out: Path | str | None = None,
    backend: str = "auto",
    domain: int = 1,
    status: Path | str | None = None,
) -> dict[str, Any]:
    """Track one clip and report `{state, ticks, overruns, latency_ms, faults, metrics, ...}`.

    `realtime` False lets the simulation run as fast as it can. `assist` is the harness of training. `out` (a folder,
    or a path that ends in .npz) receives the rollout, and a folder the flight recording. `domain` is the DDS domain of
    transport "dds"; the twin there has its own harness and its own rollout. `status` is the file that is renewed while
    it runs. Raises InputError for what the user can mend.
    """
    if transport not in TRANSPORTS:
        raise InputError(f"transport is {transport!r}; use one of {', '.join(TRANSPORTS)}")
    if not 0.0 <= assist <= 1.0:
        raise InputError(f"assist is {assist}; give a harness strength from 0 to 1")
    if transport == "dds" and not realtime:
        raise InputError("transport 'dds' runs in real time: leave out --fast")
    if transport == "dds":
        check_domain(domain)
    if transport == "dds" and assist:
        raise InputError("the twin on the wire has a harness of its own: give --assist to bridge simulate instead")
    clip = ClipReference(read_motion(motion_path))
    if clip.frames < 2:
        raise InputError(f"{motion_path}: {clip.frames} frame at 50 Hz; a clip to track needs at least two")
    policy = load_policy(policy_dir, backend=backend)
    clock: Clock = WallClock() if realtime else VirtualClock()
    about = {"transport": transport, "realtime": realtime, "policy": str(policy_dir), "clip": clip.name}
    rows: list[tuple[int, np.ndarray]] = []
    folder = None if out is None or Path(out).suffix == ".npz" else Path(out) / "flight"
    with (
        _robot(transport, clip, clock, assist, domain) as (robot, changed, true_state),
        _recorder(folder, policy, clip) as recorder,
    ):
        runtime = Runtime(
            policy,
            clip,
            robot,
            clock,
            SIMULATED,
            may_leave=lambda state: True,
            on_change=changed,
            on_frame=lambda frame, state: rows.append((frame, true_state())) if true_state is not None else None,
            on_tick=(lambda tick: None) if recorder is None else recorder.write,
        )
        with StatusFile(Path(status) if status is not None else default_path(), runtime, about):
            report = runtime.run()
    report |= {
        "transport": transport,
        "realtime": realtime,
        "assist": assist if transport == "sim" else None,
        "protocol": PROTOCOL,
        "policy_backend": policy.backend,
        "metrics": None,
        "rollout": None,
        "flight": None if folder is None else str(folder),
    }
    if rows:
        report |= _scored(rows, clip, assist, out)
    return report


Robot = tuple[Transport, Callable[[State], None], Callable[[], np.ndarray] | None]


@contextlib.contextmanager
def _robot(transport: str, clip: ClipReference, clock: Clock, assist: float, domain: int) -> Iterator[Robot]:
    """The transport, what it wants to hear of changes, and the true state where somebody knows it."""
    if transport == "sim":
        robot = SimRobot(clip, clock, assist)
        yield robot, lambda state: robot.release() if state is State.TRACK else None, lambda: robot.qpos
        robot.close()
        return
    from scaling.bridge.link import WriterLink

    link = WriterLink(domain, origin=time.monotonic() - clock.now())

    def changed(state: State) -> None:
        link.phase = list(State).index(state)

    try:
        link.wait(FIRST_STATE)
        with prioritised():
            yield link, changed, None
    finally:
        link.close()


@contextlib.contextmanager
def _recorder(folder: Path | None, policy: LoadedPolicy, clip: ClipReference) -> Iterator[Recorder | None]:
    if folder is None:
        yield None
        return
    recorder = Recorder(folder, policy.folder, policy.manifest_hash, policy.backend, clip)
    try:
        yield recorder
    finally:
        recorder.close()


def _scored(
    rows: list[tuple[int, np.ndarray]], clip: ClipReference, assist: float, out: Path | str | None
) -> dict[str, Any]:
    """`metrics` of the rollout, and `rollout` where it was written."""
    frames = np.minimum([frame for frame, _ in rows], clip.frames - 1)
    qpos, reference = np.stack([state for _, state in rows]), clip.qpos[frames]
    on_clip = int(np.searchsorted([frame for frame, _ in rows], clip.frames))
    result = score(qpos[:on_clip], reference[:on_clip], finished=frames[-1] == clip.frames - 1)
    if out is None:
        return {"metrics": result.metrics}
    target = Path(out) if Path(out).suffix == ".npz" else Path(out) / "rollout.npz"
    try:
        written = str(write_rollout(target, qpos, reference, clip.name, assist, result))
    except OSError as error:
        raise (told(error, target, "writing") or error) from None
    return {"metrics": result.metrics, "rollout": written}
