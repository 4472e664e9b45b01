"""Leases: who builds an artifact now, by numbered files, so that neither a clock nor a file lock has to be trusted.

`lease-N` is created exclusively by attempt N; the highest number owns the work. To take over a dead owner is to create
`lease-(N+1)`, which one observer alone can do. N is a fencing token: it stands in the path of the attempt's work
folder, which the next attempt renames, so that a paused owner that wakes up late finds its folder gone.
"""

import dataclasses
import json
import os
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

_LEASE = re.compile(r"(lease|released)-(\d+)\.json")


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


@dataclasses.dataclass(frozen=True)
class Claim:
    """One attempt's file on disk."""

    number: int
    released: bool
    path: Path

    def read(self) -> dict[str, Any]:
        """The owner's identity and start; empty where the file is gone or half-written."""
        try:
            content = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def beat(self) -> int | None:
        """The last heartbeat (mtime, ns), of which only a change means anything; None where the file is gone."""
        try:
            # Opening first makes a network file system ask its server.
            with self.path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return None


def claims(folder: Path) -> list[Claim]:
    """All attempts so far, by number, a live one after a released one of the same number."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(match, folder / name) for name in names if (match := _LEASE.fullmatch(name))]
    every = [Claim(int(match[2]), match[1] == "released", path) for match, path in found]
    return sorted(every, key=lambda claim: (claim.number, not claim.released))


class Watch:
    """One observer's view of an owner: dead when its process is, or when its heartbeat stands still too long."""

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._seen: tuple[Path, int | None] | None = None
        self._since = 0.0

    def dead(self, claim: Claim) -> bool:
        """Whether the claim may be taken over."""
        if claim.released or process_gone(claim.read()):
            return True
        now, seen = time.monotonic(), (claim.path, claim.beat())
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since > self._times.stale_s


class Lease:
    """An attempt that owns the work while entered: beats from a thread, released on the way out."""

    def __init__(self, folder: Path, number: int, times: LeaseTimes) -> None:
        self.folder = folder
        self.number = number
        self.token = f"{number:04d}-{uuid.uuid4().hex[:8]}"
        self._path = folder / f"lease-{number:04d}.json"
        self._times = times
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {folder.name}", daemon=True)

    @classmethod
    def take(cls, folder: Path, after: int, times: LeaseTimes) -> "Lease | None":
        """Attempt `after` + 1, or None when another was first."""
        lease = cls(folder, after + 1, times)
        content = json.dumps({"token": lease.token, "started": time.time(), **identity()})
        scratch = folder / f".{lease.token}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_text(content)
            os.link(scratch, lease._path)
        except FileExistsError:
            return None
        except FileNotFoundError:  # the folder was cleared away: its work has just been published
            return None
        finally:
            scratch.unlink(missing_ok=True)
        return lease

    def owned(self) -> bool:
        """Whether this attempt is still the last one."""
        return any(claim.read().get("token") == self.token for claim in claims(self.folder)[-1:])

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            # A rename needs no space on a full disk, and keeps the attempt on the bill.
            now = time.time()
            os.utime(self._path, (now, now))
            self._path.rename(self.folder / f"released-{self.number:04d}.json")
        except OSError:
            pass  # published and cleared away, or the disk is gone: others see the process end

    def _beat(self) -> None:
        while not self._stop.wait(self._times.heartbeat_s):
            try:
                now = time.time()
                os.utime(self._path, (now, now))
            except FileNotFoundError:
                return
            except OSError:
                continue  # a network file system may come back


def spent_seconds(folder: Path, but: int) -> float:
    """Seconds that earlier attempts worked, from their start to their last heartbeat."""
    total = 0.0
    for claim in claims(folder):
        started, beat = claim.read().get("started"), claim.beat()
        if claim.number != but and isinstance(started, int | float) and beat is not None:
            total += max(0.0, beat * 1e-9 - started)
    return total


def owner(claim: Claim) -> str:
    """The owner in words."""
    content = claim.read()
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
    """When a process began (clock ticks since boot), for process numbers are used again; None once it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def process_gone(content: dict[str, Any]) -> bool:
    """Whether the owner ran in sight of this process and is no more."""
    world = _world()
    if world is None or content.get("world") != world or not isinstance(content.get("pid"), int):
        return False
    return _start_ticks(content["pid"]) != content.get("ticks")
