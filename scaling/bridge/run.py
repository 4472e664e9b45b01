"""`scaling bridge run`: a policy, something to follow and a robot."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling.bridge.clock import Clock, VirtualClock, WallClock, prioritised
from scaling.bridge.dds import check_domain
from scaling.bridge.fleet import TWIN, RobotConfig
from scaling.bridge.listen import listening, read_address, wait_for
from scaling.bridge.recorder import Recorder
from scaling.bridge.reference import ClipReference, Followed
from scaling.bridge.runtime import Runtime
from scaling.bridge.safety import State
from scaling.bridge.score import PROTOCOL, score, write_rollout
from scaling.bridge.sim import SimRobot
from scaling.bridge.status import StatusFile, default_path
from scaling.bridge.stream import StreamReference
from scaling.bridge.transport import Transport
from scaling.bridge.watchdog import KEY_A, KEY_START
from scaling.errors import InputError
from scaling.motion.paths import motion_paths
from scaling.motion.read import read_motion
from scaling.policy.load import LoadedPolicy, load_policy
from scaling.record.files import told

TRANSPORTS = ("sim", "dds")
FIRST_STATE = 10.0  # s that a robot on the wire may take until it is heard
FIRST_MOTION = 30.0  # s that a stream may take until its first pose
# Which key of the remote allows which step towards tracking.
_KEYS = {State.DAMPING: KEY_START, State.STANDBY: KEY_A}


def run_bridge(
    policy_dir: Path | str,
    motion_path: Path | str | None = None,
    transport: str = "sim",
    *,
    stream: str | None = None,
    robot: RobotConfig = TWIN,
    name: str | None = None,
    release: bool = False,
    realtime: bool = True,
    assist: float = 0.0,
    out: Path | str | None = None,
    status: Path | str | None = None,
) -> dict[str, Any]:
    """Track one clip, or the stream of motion that comes to an address (`udp://HOST:PORT`, `ws://`, `zmq://`).

    Returns `{state, ticks, overruns, latency_ms, faults, metrics, ...}`. `robot` says how it is reached and what it
    may do, `name` what it is called in its fleet. `release` allows its own motion service to be released, upon which
    it goes limp. `realtime` False lets the simulation run as fast as it can. `assist` is the harness of training.
    `out` (a folder, or a path that ends in .npz) receives the rollout, and a folder the flight recording; the twin on
    the wire has its own harness and its own rollout. `status` is the file that is renewed while it runs. Raises
    InputError for what the user can mend.
    """
    _check(motion_path, transport, stream, robot, realtime, assist)
    clock: Clock = WallClock() if realtime else VirtualClock()
    policy = load_policy(policy_dir, backend=robot.backend, providers=robot.providers)
    folder = None if out is None or Path(out).suffix == ".npz" else Path(out) / "flight"
    rows: list[tuple[int, np.ndarray, np.ndarray]] = []
    about = {
        "robot": name,
        "transport": transport,
        "realtime": realtime,
        "policy": str(policy_dir),
        "policy_backend": policy.backend,
        "providers": list(robot.providers) if policy.backend == "onnx" else None,
        "domain": robot.domain if transport == "dds" else None,
        "interface": robot.interface if transport == "dds" else None,
    }
    with (
        _followed(motion_path, stream, clock, robot) as reference,
        _robot(transport, reference, clock, assist, robot, release) as (wire, allowed, changed, true_state),
        _recorder(folder, policy, reference) as recorder,
    ):
        about |= {"clip": reference.name}

        def on_frame(frame: int, _: Any) -> None:
            if true_state is not None:
                rows.append((frame, true_state(), reference.at(frame).qpos))

        runtime = Runtime(
            policy,
            reference,
            wire,
            clock,
            robot,
            may_leave=allowed,
            on_change=changed,
            on_frame=on_frame,
            on_tick=(lambda tick: None) if recorder is None else recorder.write,
        )
        with StatusFile(Path(status) if status is not None else default_path(name), runtime, about):
            report = runtime.run()
    report |= about | {
        "assist": assist if transport == "sim" else None,
        "protocol": PROTOCOL,
        "metrics": None,
        "rollout": None,
        "flight": None if folder is None else str(folder),
    }
    if rows:
        report |= _scored(rows, reference, assist, out)
    return report


def _check(
    motion_path: Path | str | None,
    transport: str,
    stream: str | None,
    robot: RobotConfig,
    realtime: bool,
    assist: float,
) -> None:
    """Raises InputError for what does not go together."""
    if transport not in TRANSPORTS:
        raise InputError(f"transport is {transport!r}; use one of {', '.join(TRANSPORTS)}")
    if (motion_path is None) == (stream is None):
        raise InputError("a bridge follows one thing: give either --motion CLIP or --stream ADDRESS")
    if motion_path is not None:
        motion_paths(motion_path)  # before a policy is opened for nothing
    if not 0.0 <= assist <= 1.0:
        raise InputError(f"assist is {assist}; give a harness strength from 0 to 1")
    if stream is not None and not realtime:
        raise InputError("a stream comes in real time: leave out --fast")
    if transport == "sim":
        return
    if not realtime:
        raise InputError("transport 'dds' runs in real time: leave out --fast")
    if assist:
        raise InputError("the twin on the wire has a harness of its own: give --assist to bridge simulate instead")
    check_domain(robot.domain, "bridge", robot.interface)


@contextlib.contextmanager
def _followed(
    motion_path: Path | str | None, stream: str | None, clock: Clock, robot: RobotConfig
) -> Iterator[Followed]:
    """The clip of a file, or a stream that has begun."""
    if stream is not None:
        address = read_address(stream)
        reference = StreamReference(stream, clock, robot.stream)
        with listening(address, reference):
            wait_for(reference, address, FIRST_MOTION)
            yield reference
        return
    assert motion_path is not None
    clip = ClipReference(read_motion(motion_path))
    if clip.frames < 2:
        raise InputError(f"{motion_path}: {clip.frames} frame at 50 Hz; a clip to track needs at least two")
    yield clip


Robot = tuple[Transport, Callable[[State], bool], Callable[[State], None], Callable[[], np.ndarray] | None]


@contextlib.contextmanager
def _robot(
    transport: str, reference: Followed, clock: Clock, assist: float, robot: RobotConfig, release: bool
) -> Iterator[Robot]:
    """The transport, who allows what, what wants to hear of changes, and the true state where somebody knows it."""
    if transport == "sim":
        twin = SimRobot(reference, clock, assist)
        yield (
            twin,
            lambda state: True,
            lambda state: twin.release() if state is State.TRACK else None,
            lambda: twin.qpos,
        )
        twin.close()
        return
    from scaling.bridge.link import WriterLink
    from scaling.bridge.service import take_over

    if robot.real or release:
        take_over(robot.domain, robot.interface, release)
    link = WriterLink(robot.domain, time.monotonic() - clock.now(), robot.writer(), robot.interface)

    def allowed(state: State) -> bool:
        return robot.start == "at_once" or bool(link.keys & _KEYS[state])

    def changed(state: State) -> None:
        link.phase = list(State).index(state)

    try:
        link.wait(FIRST_STATE)
        with prioritised():
            yield link, allowed, changed, None
    finally:
        link.close()


@contextlib.contextmanager
def _recorder(folder: Path | None, policy: LoadedPolicy, reference: Followed) -> Iterator[Recorder | None]:
    if folder is None:
        yield None
        return
    recorder = Recorder(folder, policy.folder, policy.manifest_hash, policy.backend, reference)
    try:
        yield recorder
    finally:
        recorder.close()


def _scored(
    rows: list[tuple[int, np.ndarray, np.ndarray]], reference: Followed, assist: float, out: Path | str | None
) -> dict[str, Any]:
    """`metrics` of the rollout, and `rollout` where it was written."""
    frames = np.array([frame for frame, _, _ in rows])
    qpos, wanted = np.stack([state for _, state, _ in rows]), np.stack([pose for _, _, pose in rows])
    end = reference.frames
    on_clip = len(frames) if end is None else int(np.searchsorted(frames, end))
    result = score(qpos[:on_clip], wanted[:on_clip], finished=end is None or frames[-1] >= end - 1)
    if out is None:
        return {"metrics": result.metrics}
    target = Path(out) if Path(out).suffix == ".npz" else Path(out) / "rollout.npz"
    try:
        written = str(write_rollout(target, qpos, wanted, reference.name, assist, result))
    except OSError as error:
        raise (told(error, target, "writing") or error) from None
    return {"metrics": result.metrics, "rollout": written}
