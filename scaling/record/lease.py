"""What a lease rests on: heartbeats, staleness by the observer's own clock, and whether an owner in sight is alive."""

import dataclasses
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class LeaseTimes:
    """Seconds between heartbeats, and without a change after which an owner out of sight counts as dead."""

    heartbeat_s: float = 30.0
    stale_s: float = 90.0
    poll_s: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.poll_s <= self.heartbeat_s:
            raise ValueError(f"poll_s {self.poll_s} must lie in (0, heartbeat_s = {self.heartbeat_s}]")
        if self.stale_s < 2 * self.heartbeat_s:
            raise ValueError(f"stale_s {self.stale_s} must be at least twice heartbeat_s = {self.heartbeat_s}")


def owner(content: Mapping[str, Any]) -> str:
    """The owner of a claim in words."""
    return f"process {content.get('pid', '?')} on {content.get('host', 'another machine')}"


def identity() -> dict[str, Any]:
    """What tells this process from every other, and whether an observer can see it at all."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "ticks": _start_ticks(os.getpid()), "world": _world()}


def _world() -> str | None:
    """This boot and process namespace: only inside it does a process number mean anything. None without /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _start_ticks(pid: int) -> int | None:
    """When a process began (clock ticks since boot), for process numbers are used again; -1 for one that is dead and
    not yet buried, None where /proc does not show it.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in "ZX" else int(fields[19])


def process_gone(content: Mapping[str, Any]) -> bool:
    """Whether the owner ran in sight of this process and is no more; /proc may hide the processes of other users."""
    world, pid = _world(), content.get("pid")
    if world is None or content.get("world") != world or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, and alive
        pass
    ticks = _start_ticks(pid)
    return ticks is not None and ticks != content.get("ticks")
