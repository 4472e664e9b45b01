"""The flight recorder: a ring of ticks in a file that outlives its process, and the replay that checks every action."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.bridge.clock import spread
from scaling.bridge.reference import Followed
from scaling.bridge.runtime import Tick
from scaling.bridge.safety import State
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.errors import InputError
from scaling.policy.load import load_policy
from scaling.record.files import told, write_json

RING, ABOUT = "ring.npy", "flight.json"
SCHEMA = 2
TICKS = 15_000  # five minutes at 50 Hz, 24 MB
PHASES = list(State)
# A replay on the same program is equal to the last bit; another backend or machine may differ this much.
TOLERANCE = 1e-4
TICK = np.dtype(
    [
        ("number", "i8"),  # 1 for the first tick of the run, 0 where nothing has been written
        ("frame", "i4"),  # -1 before tracking
        ("phase", "u1"),  # index of `PHASES`
        ("answered", "?"),  # whether the policy did, and was obeyed; NaN stands for what a tick did not come to
        ("time", "f8"),
        ("stamp", "f8"),
        ("latency", "f4"),
        ("quat", "f4", 4),
        ("gyro", "f4", 3),
        ("joint_pos", "f4", 29),
        ("joint_vel", "f4", 29),
        ("torque", "f4", 29),
        ("obs", "f4", observation_dim(STUDENT_TERMS)),
        ("action", "f4", 29),
        ("target", "f4", 29),
    ]
)


class Recorder:
    """Keeps the newest `capacity` ticks. The file is mapped: a killed process has written what it has recorded."""

    def __init__(
        self, folder: Path, policy: Path, manifest_hash: str, backend: str, clip: Followed, capacity: int = TICKS
    ) -> None:
        """Raises InputError where the folder cannot be written."""
        if capacity < 1:
            raise ValueError(f"capacity is {capacity} ticks; it must be positive")
        about = {
            "schema": SCHEMA,
            "policy": str(policy.resolve()),
            "manifest": manifest_hash,
            "backend": backend,
            "clip": clip.name,
            "frames": clip.frames,
            "capacity": capacity,
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / ABOUT, about)
            self._ring: Any = np.lib.format.open_memmap(folder / RING, "w+", TICK, (capacity,))
        except OSError as error:
            raise (told(error, folder, "writing") or error) from None
        self._ring[:] = 0  # every page is there before the first deadline
        self.folder, self._count = folder, 0

    def write(self, tick: Tick) -> None:
        """Keep one tick, in the place of the oldest."""
        row = self._ring[self._count % len(self._ring)]
        state = tick.state
        row["frame"], row["time"], row["stamp"], row["latency"] = tick.frame, tick.time, state.stamp, tick.latency
        for name in ("quat", "gyro", "joint_pos", "joint_vel"):
            row[name] = getattr(state, name)
        row["torque"] = np.nan if state.health is None else state.health.torque
        row["phase"], row["answered"] = PHASES.index(tick.phase), tick.action is not None and tick.target is not None
        for name in ("obs", "action", "target"):
            value = getattr(tick, name)
            row[name] = np.nan if value is None else value
        self._count += 1
        row["number"] = self._count  # last: a tick without its number is not whole

    def close(self) -> None:
        """Hand everything to the system."""
        self._ring.flush()


def read_log(folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What a recording is about, and its ticks in order of time. Raises InputError that says what is wrong."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        ring = np.lib.format.open_memmap(folder / RING, mode="r")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder} is no flight recording: name the folder `flight` below bridge run's --out"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} cannot be read ({error}): it is not whole") from None
    if not isinstance(about, dict) or about.get("schema") != SCHEMA or ring.dtype != TICK:
        raise InputError(f"{folder} was recorded by another version: replay it with that one")
    kept = np.asarray(ring[ring["number"] > 0])
    return about, kept[np.argsort(kept["number"])]


def replay(log: Path | str, policy_dir: Path | str | None = None, backend: str | None = None) -> dict[str, Any]:
    """Recompute every action from the recorded observations; `ticks` are those that the policy answered.

    Returns `{ticks, compared, first_difference, max_abs_difference, state, overruns, latency_ms, faults}`. Where the
    ring has lost the beginning, as many ticks as the policy remembers only bring its memory back. Raises InputError
    for a recording or a policy that cannot be opened, and for another policy than was flown.
    """
    about, kept = read_log(Path(log))
    ticks = kept[kept["answered"]]
    if not len(ticks):
        raise InputError(f"{log} holds no tick: the run ended before it tracked")
    folder = Path(policy_dir if policy_dir is not None else about["policy"])
    policy = load_policy(folder, backend=backend or about["backend"])
    if policy.manifest_hash != about["manifest"]:
        raise InputError(f"{folder} is not the policy of this recording: give its folder with --policy")
    warm = 0 if ticks["frame"][0] == 0 else min(_memory(policy.manifest.student), len(ticks) - 1)
    off: list[float] = []
    for n, tick in enumerate(ticks):
        action = policy.act(tick["obs"], n == 0)
        off.append(_difference(action, tick["action"]) if n >= warm else 0.0)
    worst = np.array(off)
    differs = np.flatnonzero(~(worst <= TOLERANCE))
    where = int(differs[0]) if len(differs) else None
    return {
        "ok": where is None,
        "ticks": len(ticks),
        "compared": len(ticks) - warm,
        "first_difference": None if where is None else _place(ticks[where], worst[where]),
        "max_abs_difference": float(worst.max()),
        "identical": bool((worst == 0).all()),
        "backend": policy.backend,
        "state": "replayed",
        "overruns": int((np.diff(ticks["frame"]) > 1).sum()),
        "latency_ms": spread(ticks["latency"]),
        "faults": [],
    }


def _memory(student: dict[str, Any]) -> int:
    """Ticks after which nothing older can matter: each layer looks back over one context at most, but a GRU may not
    forget at all.
    """
    if student.get("family") == "gru":
        return sys.maxsize
    if student.get("family") in ("transformer", "tcn"):
        return int(student["context"]) * int(student["depth"])
    return int(student.get("history", 0))


def _difference(found: Float[np.ndarray, "29"], recorded: Float[np.ndarray, "29"]) -> float:
    return float(np.abs(found - recorded).max())


def _place(tick: np.ndarray, off: float) -> dict[str, Any]:
    return {"tick": int(tick["number"]), "frame": int(tick["frame"]), "time_s": float(tick["time"]), "by": float(off)}
