"""A worker: claims jobs, holds their leases and the record while a child process does the work, until nothing is left.

A child that aborts (JAX does when a peer is lost: 134) or is killed counts as preempted and its job is tried again; one
that ends with 75 is put back without counting; one that raises has failed, until somebody says `retry`.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record.files import jsonable
from scaling.record.ledger import CLAIMED, DAMAGED, DONE, FAILED, INVALID, PREEMPTED, REQUEUED, RUNS, Entry, Ledger
from scaling.record.progress import say
from scaling.study.sweep import Job, needed_for
from scaling.study.sweep_child import LOG, REQUEUE
from scaling.study.sweep_find import find_sweep

MOST_DEATHS = 10  # of one job, before it is thought to be the job's own fault
SPEC = "run.json"
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
        # Keys name the physics of this machine's device, so JAX may start here; the memory is the child's.
        key, before = "XLA_PYTHON_CLIENT_PREALLOCATE", os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE")
        os.environ[key] = "false"
        try:
            return needed_for(find_sweep(self.sweep, self.overrides).jobs(), self.only)
        finally:
            os.environ.pop(key)
            if before is not None:
                os.environ[key] = before


@dataclass
class Tally:
    """What one worker did."""

    done: int = 0
    failed: int = 0
    preempted: int = 0
    requeued: int = 0
    refused: int = 0
    hashes: list[str] = field(default_factory=list)


class Child:
    """The child process, started when it is needed and again when it has died."""

    def __init__(self, order: Order) -> None:
        self._order = order
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
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(theirs,))
        os.close(theirs)

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


class Worker:
    """Claims and runs the jobs of an order; `watch(done, of, words)` sees how it goes."""

    def __init__(
        self, order: Order, ledger: Ledger, watch: Callable[[int, int, str], None] = lambda done, of, words: None
    ) -> None:
        self._order, self._ledger, self._watch = order, ledger, watch
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._done: dict[str, Entry] = {}
        self.tally = Tally()

    def run(self, max_runs: int | None = None) -> Tally:
        """Until nothing is left to claim or to wait for, or `max_runs` jobs were run here.

        Raises InputError for a store that cannot be written and for a full disk; what is finished stays, and whatever
        was being done is taken up by a later worker.
        """
        jobs = self._order.jobs()
        pending, child = dict(jobs), Child(self._order)
        try:
            while pending and (max_runs is None or len(self.tally.hashes) < max_runs):
                ran, alive = self._round(jobs, pending, child, max_runs)
                if not ran and not alive:
                    break
                if not ran:
                    time.sleep(self._ledger.times.poll_s)
        finally:
            child.stop(gently=True)
        return self.tally

    def _round(
        self, jobs: Mapping[str, Job], pending: dict[str, Job], child: Child, max_runs: int | None
    ) -> tuple[bool, bool]:
        """One pass over what is left: whether a job was run, and whether somebody else still works on one."""
        ran = alive = False
        for key, job in list(pending.items()):
            if any(need in pending and need not in self._done for need in job.needs.values()):
                continue
            entry = self._ledger.last(key)
            if entry.state == DONE:
                self._finished(key, entry, pending, len(jobs))
            elif self._ledger.claimable(key, entry):
                claim = self._claim(job, entry)
                if claim is None:
                    alive = True
                    continue
                self._attempt(job, claim, child, pending, len(jobs), afresh=entry.state == INVALID)
                ran = True
                if max_runs is not None and len(self.tally.hashes) >= max_runs:
                    break
            elif entry.state in (CLAIMED, DAMAGED):
                alive = True
        return ran, alive

    def _finished(self, key: str, entry: Entry, pending: dict[str, Job], total: int) -> None:
        self._done[key] = entry
        job = pending.pop(key, None)
        self._watch(len(self._done), total, job.name if job else "")

    def _claim(self, job: Job, entry: Entry) -> Entry | None:
        if entry.number == 0:
            self._ledger.shelf.create(f"{RUNS}/{job.key}/{SPEC}", json.dumps(jsonable(job.spec())).encode())
        return self._ledger.claim(job.key, entry, self._name)

    def _attempt(self, job: Job, claim: Entry, child: Child, pending: dict[str, Job], total: int, afresh: bool) -> None:
        """Runs a claimed job and writes down what became of it; whoever was superseded meanwhile writes nothing."""
        shelf, began = self._ledger.shelf, time.monotonic()
        try:
            work = self._folder(job.key, claim, afresh)
            needed = {label: shelf.fetch(output(need, self._done[need])) for label, need in job.needs.items()}
            child.order(job.key, work, needed)
            answer = self._await(job.key, claim, child)
        except BaseException:
            with contextlib.suppress(InputError, OSError):
                child.stop(gently=True)
                self._end(job, claim, REQUEUED, began, error="the worker was stopped")
            raise
        self.tally.hashes.append(job.key)
        if answer is None:
            child.stop()
            self._refuse(job, claim)
        elif not self._ledger.owned(job.key, claim):  # an error too is no news: the heir has moved the folder away
            self._refuse(job, claim)
        elif "ok" in answer:
            shelf.keep(work, output(job.key, claim))
            steps = answer.get("env_steps")
            done = self._end(job, claim, DONE, began, **({} if steps is None else {"env_steps": steps}))
            if done is None:
                self._refuse(job, claim)
            else:
                self.tally.done += 1
                self._finished(job.key, done, pending, total)
        elif answer.get("machine"):
            self._end(job, claim, REQUEUED, began, error=answer["error"])
            raise InputError(f"the disk is full while building {job.name} in {shelf.url}: free some space and go on")
        elif "error" in answer:
            self._fail(job, claim, began, answer["error"])
        else:
            self._died(job, claim, began, answer["exit"], work)

    def _await(self, key: str, claim: Entry, child: Child) -> dict[str, Any] | None:
        """The child's answer, with heartbeats meanwhile; None once another attempt has taken over."""
        beat_s = self._ledger.times.heartbeat_s
        beaten = time.monotonic()
        while True:
            answer = child.answer(max(0.0, beaten + beat_s - time.monotonic()))
            if answer is not None:
                return answer
            if time.monotonic() - beaten >= beat_s:
                if not self._ledger.owned(key, claim):
                    return None
                self._ledger.beat(key, claim)
                beaten = time.monotonic()

    def _folder(self, key: str, claim: Entry, afresh: bool) -> Path:
        """This attempt's folder with what the last one left, which fences whoever still writes there; or `afresh`."""
        work = self._ledger.shelf.scratch(output(key, claim))
        earlier = sorted(path for path in work.parent.glob("out-*") if path.name < work.name)
        if earlier and not afresh:
            with contextlib.suppress(FileNotFoundError):
                work.rmdir()
                earlier[-1].rename(work)
            work.mkdir(exist_ok=True)
        return work

    def _end(self, job: Job, claim: Entry, state: str, began: float, **data: Any) -> Entry | None:
        seconds = claim.seconds + time.monotonic() - began
        data = {"name": job.name, "stage": job.stage, "worker": self._name, **data}
        return self._ledger.append(job.key, claim, state, seconds=seconds, **data)

    def _refuse(self, job: Job, claim: Entry) -> None:
        self.tally.refused += 1
        self._ledger.shelf.remove(output(job.key, claim))
        say(f"{job.name}: attempt {claim.token} was taken over by another worker; its result is refused")

    def _fail(self, job: Job, claim: Entry, began: float, error: str) -> None:
        self.tally.failed += 1
        self._end(job, claim, FAILED, began, error=error, failures=claim.failures + 1)
        say(f"{job.name} failed: {error.splitlines()[-1] if error else 'it said nothing'}")

    def _died(self, job: Job, claim: Entry, began: float, code: int, work: Path) -> None:
        if code == REQUEUE:
            self.tally.requeued += 1
            self._end(job, claim, REQUEUED, began, error="ended with 75: put back")
            time.sleep(self._ledger.times.poll_s)  # whatever it waits for needs a moment
            return
        killed = code < 0 or code in (134, 137)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        error = "\n".join([*_tail(work / LOG), f"ended by {how}"])
        if not killed or claim.preemptions + 1 >= MOST_DEATHS:
            self._fail(job, claim, began, error)
            return
        self.tally.preempted += 1
        self._end(job, claim, PREEMPTED, began, error=error, preemptions=claim.preemptions + 1)
        say(f"{job.name} was ended by {how} and is tried again")


def output(key: str, entry: Entry) -> str:
    """The folder of an attempt's results, its fencing token in the name."""
    return f"{RUNS}/{key}/out-{entry.token}"


def _tail(path: Path, lines: int = 8) -> list[str]:
    try:
        return path.read_bytes()[-8000:].decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
