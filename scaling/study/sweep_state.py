"""Where each job of a sweep stands by its store, and the changes that people ask for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from scaling.errors import InputError
from scaling.record.ledger import CLAIMED, DAMAGED, DONE, FAILED, RETRY, RUNS, Entry, Ledger
from scaling.study.sweep import Job, differences
from scaling.study.sweep_worker import SPEC, output
from scaling.study.uncollected import uncollected

NEW, WAITING, RUNNING, FINISHED, BROKEN, BLOCKED = "new", "waiting", "running", "finished", "failed", "blocked"


@dataclass(frozen=True)
class Standing:
    """A job, the last entry about it, and its state in one word."""

    job: Job
    entry: Entry
    state: str

    @property
    def hash(self) -> str:
        """The job's key."""
        return self.job.key

    def to_json(self) -> dict[str, Any]:
        """One element of `status`."""
        return {
            "hash": self.hash,
            "name": self.job.name,
            "stage": self.job.stage,
            "state": self.state,
            "attempts": self.entry.attempts,
            "preemptions": self.entry.preemptions,
            "seconds": round(self.entry.seconds, 3) if self.entry.number else None,
            "worker": self.entry.data.get("worker") if self.state == RUNNING else None,
            "error": self.entry.error if self.state in (BROKEN, NEW, WAITING) else None,
        }


@uncollected()
def survey(jobs: Mapping[str, Job], ledger: Ledger) -> list[Standing]:
    """Every job's state: blocked is what needs, however far back, one that failed; waiting, one that is not done."""
    entries = ledger.standing(jobs)
    found: dict[str, Standing] = {}
    for key, job in jobs.items():
        entry = entries.get(key, Entry())
        before = [found[need].state for need in job.needs.values()]
        if entry.state == DONE:
            state = FINISHED
        elif entry.state == FAILED:
            state = BROKEN
        elif entry.state in (CLAIMED, DAMAGED) and not ledger.gone(entry):
            state = RUNNING
        elif BROKEN in before or BLOCKED in before:
            state = BLOCKED
        else:
            state = WAITING if any(one != FINISHED for one in before) else NEW
        found[key] = Standing(job, entry, state)
    return list(found.values())


def chosen(standings: Sequence[Standing], hashes: Sequence[str]) -> list[Standing]:
    """The jobs whose key begins with one of `hashes`. Raises InputError where one has none."""
    found: dict[str, Standing] = {}
    for start in hashes:
        matching = [one for one in standings if one.hash.startswith(start)]
        if not matching:
            raise InputError(f"no run of this sweep has the hash {start!r}: scaling sweep status SWEEP lists them")
        found |= {one.hash: one for one in matching}
    return list(found.values())


def retry(standings: Sequence[Standing], ledger: Ledger) -> list[str]:
    """Makes failed runs claimable again; their hashes."""
    broken = [one for one in standings if one.state == BROKEN]
    return [one.hash for one in broken if ledger.append(one.hash, one.entry, RETRY, deaths=0)]


def invalidate(standings: Sequence[Standing], picked: Sequence[Standing], ledger: Ledger) -> list[str]:
    """Takes runs back, with everything in the store that was begun from them; their hashes. Outputs are removed.

    Each after those that it needs: a worker that claims one later finds that what it needs is gone, and one that was
    earlier is fenced, so that nothing is published or resumed that comes from what was taken back.
    """
    known = {one.hash: set(one.job.needs.values()) for one in standings}
    needs = {**_needs_of_others(ledger, known), **known}
    gone, taken = {one.hash for one in picked}, []
    for key in TopologicalSorter(needs).static_order():
        if key not in gone and not gone & needs.get(key, set()):
            continue
        gone.add(key)
        left = _outputs(ledger, key)  # before it can be claimed anew
        if ledger.withdraw(key) is None:
            continue
        for name in left:
            ledger.shelf.remove(f"{RUNS}/{key}/{name}")
        taken.append(key)
    return taken


def _needs_of_others(ledger: Ledger, known: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """What runs of other sweeps in the store need."""
    texts = {key: ledger.shelf.read(f"{RUNS}/{key}/{SPEC}") for key in ledger.shelf.names(RUNS) if key not in known}
    return {key: set(json.loads(text)["needs"].values()) for key, text in texts.items() if text is not None}


def gc(standings: Sequence[Standing], ledger: Ledger) -> list[str]:
    """Removes what no entry points to: the folders of superseded attempts of finished runs; their names."""
    removed = []
    for one in standings:
        if one.state != FINISHED:
            continue
        kept = output(one.hash, one.entry)
        for name in _outputs(ledger, one.hash):
            path = f"{RUNS}/{one.hash}/{name}"
            if path != kept:
                ledger.shelf.remove(path)
                removed.append(path)
    return removed


def _outputs(ledger: Ledger, key: str) -> list[str]:
    return [name for name in ledger.shelf.names(f"{RUNS}/{key}") if name.startswith("out-")]


def diff(one: str, other: str, ledger: Ledger) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> both figures, where two runs of a store differ. Raises InputError for a hash it does not have."""
    return differences(_spec(one, ledger), _spec(other, ledger))


def _spec(start: str, ledger: Ledger) -> dict[str, Any]:
    found = [name for name in ledger.shelf.names(RUNS) if name.startswith(start)]
    text = ledger.shelf.read(f"{RUNS}/{found[0]}/{SPEC}") if len(found) == 1 else None
    if text is None:
        many = "several runs begin" if len(found) > 1 else "no run begins"
        raise InputError(f"{many} with {start!r} in {ledger.shelf.url}: scaling sweep status SWEEP lists the hashes")
    return json.loads(text)
