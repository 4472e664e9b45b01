"""`scaling bridge run`: a policy folder, a clip and a robot."""

from pathlib import Path
from typing import Any

import numpy as np

from scaling.bridge.clock import Clock, VirtualClock, WallClock
from scaling.bridge.reference import ClipReference
from scaling.bridge.runtime import Runtime, RuntimeConfig
from scaling.bridge.safety import State
from scaling.bridge.score import PROTOCOL, score, write_rollout
from scaling.bridge.sim import SimRobot
from scaling.errors import InputError
from scaling.motion.read import read_motion
from scaling.policy.load import load_policy
from scaling.record.files import told

TRANSPORTS = ("sim",)
# The simulated robot already stands at the start pose and nobody waits beside it.
SIMULATED = RuntimeConfig(ramp=0.5, standby=0.5)


def run_bridge(
    policy_dir: Path | str,
    motion_path: Path | str,
    transport: str = "sim",
    *,
    realtime: bool = True,
    assist: float = 0.0,
    out: Path | str | None = None,
    backend: str = "auto",
) -> dict[str, Any]:
    """Track one clip and report `{state, ticks, overruns, latency_ms, faults, metrics, ...}`.

    `realtime` False lets the simulation run as fast as it can. `assist` is the harness of training. `out` (a folder,
    or a path that ends in .npz) receives the rollout. Raises InputError for what the user can mend.
    """
    if transport == "dds":
        raise InputError("transport 'dds' (the robot's own wire) is not built yet: use --transport sim")
    if transport not in TRANSPORTS:
        raise InputError(f"transport is {transport!r}; use one of {', '.join(TRANSPORTS)}")
    if not 0.0 <= assist <= 1.0:
        raise InputError(f"assist is {assist}; give a harness strength from 0 to 1")
    clip = ClipReference(read_motion(motion_path))
    if clip.frames < 2:
        raise InputError(f"{motion_path}: {clip.frames} frame at 50 Hz; a clip to track needs at least two")
    policy = load_policy(policy_dir, backend=backend)
    clock: Clock = WallClock() if realtime else VirtualClock()
    robot = SimRobot(clip, clock, assist)
    rows: list[tuple[int, np.ndarray]] = []

    def changed(state: State) -> None:
        if state is State.TRACK:
            robot.release()

    runtime = Runtime(
        policy,
        clip,
        robot,
        clock,
        SIMULATED,
        may_leave=lambda state: True,
        on_change=changed,
        on_frame=lambda frame, state: rows.append((frame, robot.qpos)),
    )
    report = runtime.run()
    robot.close()
    report |= {
        "transport": transport,
        "realtime": realtime,
        "assist": assist,
        "protocol": PROTOCOL,
        "policy_backend": policy.backend,
        "metrics": None,
        "rollout": None,
    }
    if rows:
        frames = np.minimum([frame for frame, _ in rows], clip.frames - 1)
        qpos, reference = np.stack([state for _, state in rows]), clip.qpos[frames]
        on_clip = int(np.searchsorted([frame for frame, _ in rows], clip.frames))
        result = score(qpos[:on_clip], reference[:on_clip], finished=frames[-1] == clip.frames - 1)
        report["metrics"] = result.metrics
        if out is not None:
            target = Path(out) if Path(out).suffix == ".npz" else Path(out) / "rollout.npz"
            try:
                report["rollout"] = str(write_rollout(target, qpos, reference, clip.name, assist, result))
            except OSError as error:
                raise (told(error, target, "writing") or error) from None
    return report
