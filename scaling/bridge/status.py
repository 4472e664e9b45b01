"""How the bridge is: a JSON file that a running bridge renews, for `scaling bridge status` and whoever watches."""

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scaling.bridge.runtime import Runtime
from scaling.errors import InputError
from scaling.record.files import told, write_json

EVERY = 0.5  # s between two renewals


def default_path(robot: str | None = None) -> Path:
    """One file for each user of a machine, and for each robot of a fleet."""
    home = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    return home / f"scaling-bridge-{os.getuid()}{'' if robot is None else f'-{robot}'}.json"


class StatusFile:
    """Renews the file from a thread of its own, for a disk may be busy for longer than a tick."""

    def __init__(self, path: Path, runtime: Runtime, about: dict[str, Any]) -> None:
        self._path, self._runtime, self._about = path, runtime, about
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "StatusFile":
        """Write the first status and go on doing so. Raises InputError where it cannot be written."""
        try:
            self._write()
        except OSError as error:
            other = InputError(f"{self._path} cannot be written ({error.strerror}): name another file with --status")
            raise (told(error, self._path, "writing") or other) from None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the last status, which says that the run is over."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._write()

    def _renew(self) -> None:
        while not self._over.wait(EVERY):
            with contextlib.suppress(OSError):  # a full disk must not stop a robot
                self._write()

    def _write(self) -> None:
        runtime = self._runtime
        about = {"pid": os.getpid(), "written": time.time(), "over": self._over.is_set(), "frame": runtime.frame}
        write_json(self._path, runtime.report() | about | self._about)


def read_status(path: Path | None = None) -> dict[str, Any]:
    """The newest status, with `running` and `age_s`. Raises InputError where no bridge has written one."""
    path = default_path() if path is None else path
    try:
        status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pid, written = int(status["pid"]), float(status["written"])
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: no bridge has run here yet, start one with bridge run") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a status of the bridge ({error}): name another file") from None
    return status | {"running": _runs(pid) and not status.get("over", False), "age_s": max(time.time() - written, 0.0)}


def fleet_status(names: Iterable[str]) -> dict[str, Any]:
    """`{robots: {name: its newest status, None where no bridge has driven it here}, running, faults}`."""
    robots: dict[str, dict[str, Any] | None] = {}
    for name in names:
        path = default_path(name)
        robots[name] = read_status(path) if path.exists() else None
    known = {name: status for name, status in robots.items() if status is not None}
    return {
        "robots": robots,
        "running": sorted(name for name, status in known.items() if status["running"]),
        "faults": {name: status["faults"] for name, status in known.items() if status.get("faults")},
    }


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
