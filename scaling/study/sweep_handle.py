"""What a worker works on, and the child process that it holds for it."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.record.files import jsonable
from scaling.study.sweep import Job, needed_for
from scaling.study.sweep_find import find_sweep

_GRACE_S = 20.0


@dataclass(frozen=True)
class Order:
    """What a worker works on: the sweep as it is spelt, figures replaced in every run, and keys where not all count."""

    sweep: str
    overrides: Sequence[tuple[str, Any]] = ()
    only: Sequence[str] = ()

    def jobs(self) -> dict[str, Job]:
        """The jobs by key: all, or those whose key begins as one of `only` with what they need.

        Raises InputError for a hash that no job has.
        """
        return needed_for(find_sweep(self.sweep, self.overrides).jobs(), self.only)


class Child:
    """The child process, started when it is needed and again when it has died."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._held = b""

    def start(self) -> None:
        """A fresh child, unless one is alive."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        self._answers, theirs = os.pipe()
        spec = json.dumps(jsonable({"sweep": self._order.sweep, "overrides": list(self._order.overrides)}))
        command = [sys.executable, "-m", "scaling.study.sweep_child", str(theirs), spec, str(os.getpid())]
        environment = {**os.environ, **self._environment}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(theirs,), env=environment)
        os.close(theirs)

    def renew(self, environment: dict[str, str]) -> None:
        """The next job gets a fresh child with these variables: JAX joins one gang in its life."""
        self.stop()
        self._environment = environment

    def order(self, key: str, work: Path, needed: Mapping[str, Path]) -> None:
        """Begins a job."""
        self.start()
        assert self._process is not None and self._process.stdin is not None
        line = json.dumps({"key": key, "work": str(work), "needed": {label: str(p) for label, p in needed.items()}})
        with contextlib.suppress(BrokenPipeError):  # it has died: `answer` finds that out
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """What the job came to, {"exit": code} for a child that died, or None when `seconds` have passed."""
        assert self._process is not None
        if b"\n" not in self._held:
            ready, _, _ = select.select([self._answers], [], [], seconds)
            if not ready:
                return None
            chunk = os.read(self._answers, 1 << 16)
            if not chunk:
                return {"exit": self._process.wait()}
            self._held += chunk
        line, end, rest = self._held.partition(b"\n")
        if not end:
            return None
        self._held = rest
        answer = json.loads(line)
        return None if "ready" in answer else answer

    def stop(self, gently: bool = False) -> None:
        """Ends the child; `gently` lets it see SIGTERM first."""
        if self._process is None:
            return
        if gently and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        os.close(self._answers)
        self._process, self._held = None, b""
