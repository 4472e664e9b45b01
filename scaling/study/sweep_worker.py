"""A worker: claims jobs, holds their leases and the record while a child process does the work, until nothing is left.

A child that aborts (JAX does when a peer is lost: 134) or is killed counts as preempted and its job is tried again; one
that ends with 75 is put back without counting, for a longer time after each; one that raises has failed, until somebody
says `retry`.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record.files import jsonable
from scaling.record.ledger import CLAIMED, DAMAGED, DONE, FAILED, PREEMPTED, REQUEUED, RUNS, Entry, Ledger
from scaling.record.progress import say
from scaling.study.gang import Gang
from scaling.study.launch.devices import held
from scaling.study.sweep import Job
from scaling.study.sweep_child import LOG, REQUEUE
from scaling.study.sweep_handle import Child, Order

MOST_DEATHS = 10  # of one job, one after the other, before it is thought to be the job's own fault
SPEC = "run.json"


@dataclass
class Tally:
    """What one worker did."""

    done: int = 0
    failed: int = 0
    preempted: int = 0
    requeued: int = 0
    refused: int = 0
    hashes: list[str] = field(default_factory=list)


class Worker:
    """Claims and runs the jobs of an order, alone or as leader of a gang; `watch(done, of, words)` sees how it goes."""

    def __init__(
        self,
        order: Order,
        ledger: Ledger,
        watch: Callable[[int, int, str], None] = lambda done, of, words: None,
        gang: Gang | None = None,
    ) -> None:
        self._order, self._ledger, self._watch, self._gang = order, ledger, watch, gang
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._devices = held(gang.place if gang is not None else None)
        self._done: dict[str, Entry] = {}
        self._put_back: dict[str, tuple[int, float]] = {}  # how often, and until when it is left alone
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
            if self._gang is not None:
                self._gang.dismiss()
        return self.tally

    def _round(
        self, jobs: Mapping[str, Job], pending: dict[str, Job], child: Child, max_runs: int | None
    ) -> tuple[bool, bool]:
        """One pass over what is left: whether a job was run, and whether somebody else still works on one."""
        ran = alive = False
        for key, job in list(pending.items()):
            if any(need not in self._done for need in job.needs.values()):
                continue
            if time.monotonic() < self._put_back.get(key, (0, 0.0))[1]:
                alive = True
                continue
            entry = self._ledger.last(key)
            if entry.state == DONE:
                self._finished(key, entry, pending, len(jobs))
            elif self._ledger.claimable(key, entry):
                claim = self._claim(job, entry)
                if claim is None:
                    alive = True
                    continue
                self._attempt(job, claim, child, pending, jobs)
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
            spec, text = f"{RUNS}/{job.key}/{SPEC}", json.dumps(jsonable(job.spec())).encode()
            self._ledger.patiently(lambda: self._ledger.shelf.create(spec, text))
        return self._ledger.claim(job.key, entry, self._name)

    def _attempt(self, job: Job, claim: Entry, child: Child, pending: dict[str, Job], jobs: Mapping[str, Job]) -> None:
        """Runs a claimed job and writes down what became of it; whoever was superseded meanwhile writes nothing."""
        ledger, began = self._ledger, time.monotonic()
        try:
            withdrawn = self._withdrawn(job)
            if withdrawn:
                pending.update({need: jobs[need] for need in withdrawn})
                self._end(job, claim, REQUEUED, began, error="what it needs was taken back")
                return
            work = self._folder(job.key, claim)
            with ledger.beating(job.key, claim):  # for as long as it takes
                needed = {label: self._fetched(need) for label, need in job.needs.items()}
            if self._gang is not None:
                child.renew(self._gang.call(job.key, claim.token, work, needed))
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
        elif not ledger.owned(job.key, claim.token):  # nor is an error news: the folder is gone
            self._refuse(job, claim)
        elif "ok" in answer:
            with ledger.beating(job.key, claim):
                ledger.patiently(lambda: ledger.shelf.keep(work, output(job.key, claim)))
            steps = answer.get("env_steps")
            done = self._end(job, claim, DONE, began, **({} if steps is None else {"env_steps": steps}))
            if done is None:
                self._refuse(job, claim)
            else:
                self.tally.done += 1
                self._finished(job.key, done, pending, len(jobs))
        elif answer.get("machine"):
            self._end(job, claim, REQUEUED, began, error=answer["error"])
            raise InputError(
                f"the disk is full while building {job.name} in {ledger.shelf.url}: free some space and go on"
            )
        elif "lost" in answer:
            child.stop()
            self._preempted(job, claim, began, answer["lost"])
        elif "error" in answer:
            self._fail(job, claim, began, answer["error"])
        else:
            self._died(job, claim, began, answer["exit"], work)

    def _withdrawn(self, job: Job) -> list[str]:
        """What the job needs and is not finished any more; of the rest, the attempts that count now are noted.

        Asked when the job is claimed: whoever takes a need back after that fences the claim too.
        """
        now = {need: self._ledger.last(need) for need in job.needs.values()}
        self._done |= now
        gone = [need for need, entry in now.items() if entry.state != DONE]
        for need in gone:
            del self._done[need]
        return gone

    def _fetched(self, need: str) -> Path:
        return self._ledger.patiently(lambda: self._ledger.shelf.fetch(output(need, self._done[need])))

    def _await(self, key: str, claim: Entry, child: Child) -> dict[str, Any] | None:
        """The child's answer, with heartbeats meanwhile; None once another attempt has taken over.

        In a gang, {"lost": words} once a peer has died: nobody waits until JAX has noticed.
        """
        beat_s = self._ledger.times.heartbeat_s
        look_s = beat_s if self._gang is None else self._ledger.times.poll_s
        beaten = time.monotonic()
        while True:
            answer = child.answer(min(look_s, max(0.0, beaten + beat_s - time.monotonic())))
            lost = None
            if (gang := self._gang) is not None:
                lost = self._ledger.patiently(functools.partial(gang.lost, answer, 2 * look_s))
            if lost is not None:
                return {"lost": lost}
            if answer is not None:
                return answer
            if time.monotonic() - beaten >= beat_s:
                if not self._ledger.owned(key, claim.token):
                    return None
                self._ledger.beat(key, claim)
                beaten = time.monotonic()

    def _folder(self, key: str, claim: Entry) -> Path:
        """This attempt's folder with what the last one left, unless that was taken back. Whoever still writes there is
        fenced by the move.
        """
        work = self._ledger.shelf.scratch(output(key, claim))
        left = [path for path in work.parent.glob("out-*") if int(path.name.split("-")[1]) > claim.since]
        earlier = sorted(path for path in left if path.name < work.name)
        if earlier:
            with contextlib.suppress(FileNotFoundError):
                work.rmdir()
                earlier[-1].rename(work)
            work.mkdir(exist_ok=True)
        return work

    def _end(self, job: Job, claim: Entry, state: str, began: float, **data: Any) -> Entry | None:
        seconds = claim.seconds + time.monotonic() - began
        known = {"name": job.name, "stage": job.stage, "worker": self._name}
        data = {**known, "devices": self._devices, "deaths": 0, **data}
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
            times, count = self._ledger.times, self._put_back.get(job.key, (0, 0.0))[0]
            # whatever it waits for needs a moment, and each time a longer one
            pause = min(times.stale_s, times.poll_s * 2.0 ** min(count, 30))
            self._put_back[job.key] = (count + 1, time.monotonic() + pause)
            return
        killed = code < 0 or code in (134, 137)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        error = "\n".join([*_tail(work / LOG), f"ended by {how}"])
        if killed:
            self._preempted(job, claim, began, error)
        else:
            self._fail(job, claim, began, error)

    def _preempted(self, job: Job, claim: Entry, began: float, error: str) -> None:
        """To be tried again, unless that has happened too often."""
        deaths = claim.deaths + 1
        if deaths >= MOST_DEATHS:
            self._fail(job, claim, began, error)
            return
        self.tally.preempted += 1
        self._end(job, claim, PREEMPTED, began, error=error, preemptions=claim.preemptions + 1, deaths=deaths)
        say(f"{job.name}: {error.splitlines()[-1]}; it is tried again")


def output(key: str, entry: Entry) -> str:
    """The folder of an attempt's results, its fencing token in the name."""
    return f"{RUNS}/{key}/out-{entry.token}"


def _tail(path: Path, lines: int = 8) -> list[str]:
    try:
        return path.read_bytes()[-8000:].decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
