"""The one command that every launcher starts, as often as it can."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling.record.files import jsonable
from scaling.record.lease import LeaseTimes


@dataclass(frozen=True)
class WorkerCommand:
    """`scaling sweep work` on a store that all workers see."""

    sweep: str
    store: str
    overrides: Sequence[tuple[str, Any]] = ()
    times: LeaseTimes = LeaseTimes()
    only: Sequence[str] = ()
    mirrors: Sequence[str] = ()

    def words(self, python: Sequence[str] = (sys.executable, "-m", "scaling")) -> list[str]:
        """The command line."""
        settings = [
            part for path, value in self.overrides for part in ("--set", f"{path}={json.dumps(jsonable(value))}")
        ]
        lease = ["--heartbeat", f"{self.times.heartbeat_s:g}", "--stale", f"{self.times.stale_s:g}"]
        only = ["--only", *self.only] if self.only else []
        mirrors = ["--mirrors", ",".join(self.mirrors)] if self.mirrors else []
        return [*python, "sweep", "work", self.sweep, "--store", self.store, *lease, *settings, *only, *mirrors]
