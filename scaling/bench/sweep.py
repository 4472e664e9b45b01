"""The engine of sweeps: two workers beside one, what it costs a run, how soon a lost worker is replaced, big stores."""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.bench.row import Row
from scaling.record.lease import LeaseTimes
from scaling.record.ledger import CLAIMED, DONE, Ledger
from scaling.record.shelf import LocalShelf
from scaling.study.launch import local
from scaling.study.launch.command import WorkerCommand
from scaling.study.sweep import Job, Run, Sweep, grid, simple_jobs
from scaling.study.sweep_base import priced
from scaling.study.sweep_bill import plan, status
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_state import survey
from scaling.study.sweep_worker import Order, Worker

_MANY = 10_000
_DIGESTS = """
import hashlib, os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [int(sys.argv[1])])
digest = b""
for _ in range(int(sys.argv[2])):
    digest = hashlib.sha256(digest).digest()
"""
_LEASE = LeaseTimes(heartbeat_s=1.0, stale_s=3.0, poll_s=0.25)


def rows(quick: bool) -> Iterator[Row]:
    """Figures of the engine alone: the work of the runs is a chain of digests on one core."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _sharing(Path(folder), quick)
        yield _overhead(Path(folder))
        yield from _recovery(Path(folder), 1 if quick else 3)
        yield from _many(Path(folder))
        yield _real(Path(folder))


def _sharing(folder: Path, quick: bool) -> Iterator[Row]:
    """Twenty one-core runs by one worker on one core, then by two on two; start-up of the processes included.

    Beside it the same digests without the engine: the cores of a machine are slower together than each alone.
    """
    rounds, turns = (700_000, 1) if quick else (2_000_000, 3)
    took: dict[int, list[float]] = {1: [], 2: []}
    alone: dict[int, list[float]] = {1: [], 2: []}
    cores = local.own_cores()
    for turn in range(turns):
        for workers in (1, 2):
            command = WorkerCommand(_twenty(folder), str(folder / f"share-{turn}-{workers}"), [("rounds", rounds)])
            began = time.perf_counter()
            running = [local.start(command, share) for share in local.shares(cores[:workers], workers)]
            for process in running:
                if process.wait():
                    raise RuntimeError(f"a worker ended with {process.returncode}")
            took[workers].append(time.perf_counter() - began)
            alone[workers].append(_bare([cores[one % len(cores)] for one in range(workers)], 20 * rounds // workers))
    one, two = statistics.median(took[1]), statistics.median(took[2])
    yield Row("sweep_1_worker", one, "s", higher_is_better=False)
    yield Row("sweep_2_workers", two, "s", higher_is_better=False)
    yield Row("two_workers_of_one", two / one, "x", 0.6, higher_is_better=False, ratio_to="sweep_1_worker")
    bare = statistics.median(alone[2]) / statistics.median(alone[1])
    yield Row("two_cores_of_one", bare, "x", higher_is_better=False, ratio_to="the same on one core")


def _bare(cores: Sequence[int], rounds: int) -> float:
    """Seconds of a process of so many digests on each of these cores, all at once."""
    began = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", _DIGESTS, str(core), str(rounds)]) for core in cores]
    if sum(process.wait() for process in running):
        raise RuntimeError("a chain of digests ended early")
    return time.perf_counter() - began


def _twenty(folder: Path) -> str:
    """The first half of the engine's check, as a file."""
    path = folder / "twenty.py"
    path.write_text(
        "from dataclasses import replace\n"
        "from scaling.study.sweep import Runs\n"
        "from scaling.study.sweep_find import find_sweep\n"
        "def half():\n"
        "    sweep = find_sweep('engine_check')\n"
        "    return replace(sweep, runs=Runs(sweep.runs[:20]))\n"
        "VERSIONS = {'': half}\n"
    )
    return str(path)


def _overhead(folder: Path) -> Row:
    """What a run costs beyond its own work: from one publication to the next, with next to no work in between."""
    order = Order("engine_check", [("rounds", 10)])
    ended: list[float] = []
    worker = Worker(
        order, Ledger(LocalShelf(folder / "overhead")), lambda done, of, w: ended.append(time.perf_counter())
    )
    worker.run()
    gaps = [1e3 * (after - before) for before, after in itertools.pairwise(ended)]
    return Row("overhead_per_run", statistics.median(gaps), "ms", 150.0, higher_is_better=False)


def _recovery(folder: Path, turns: int) -> Iterator[Row]:
    """From the kill of a worker that nobody can see die (as on another machine) to the claim of its run by another."""
    took = []
    for turn in range(turns):
        store = folder / f"recovery-{turn}"
        command = WorkerCommand("engine_check", str(store), [("rounds", 50_000_000), ("seed", 0)], _LEASE)
        victim = local.start(command, local.own_cores())
        ledger = Ledger(LocalShelf(store), _LEASE)
        [key] = find_sweep("engine_check", command.overrides).jobs()
        while ledger.last(key).state != CLAIMED:
            time.sleep(0.01)
        _hide(store / "runs" / key / "0001.json")
        other = local.start(command, local.own_cores())
        time.sleep(3.0)  # it is up, and waits for the one run
        victim.kill()
        began = time.perf_counter()
        victim.wait()
        while ledger.last(key).number < 2:
            time.sleep(0.01)
        took.append(time.perf_counter() - began)
        other.kill()
        other.wait()
    yield Row("recovery_lease", _LEASE.stale_s, "s", higher_is_better=False)
    yield Row("recovery_after_kill", statistics.median(took), "s", _LEASE.stale_s + 5.0, higher_is_better=False)


def _hide(claim: Path) -> None:
    """Rewrites a claim as that of a process on another machine, which no process table here speaks of."""
    record = json.loads(claim.read_text()) | {"world": "another machine"}
    claim.write_text(json.dumps(record))


@dataclass(frozen=True)
class _Point:
    size: int = 0
    rate: float = 1e-3
    name: str = "point"


def _points() -> Sweep:
    runs = grid(Run(_Point()), {"size": range(100), "rate": [1e-4 * (1 + index) for index in range(_MANY // 100)]})
    return Sweep("points", runs, simple_jobs("point", 1, lambda config, folder: {}, 1.0))


def _many(folder: Path) -> Iterator[Row]:
    """Ten thousand runs: stated, hashed and looked up in a store that has all of them finished."""
    ledger = Ledger(LocalShelf(folder / "many"))
    began = time.perf_counter()
    plan(survey(_points().jobs(), ledger))
    yield Row("plan_10000_new", time.perf_counter() - began, "s", 2.0, higher_is_better=False)
    jobs = _points().jobs()
    _finish(jobs, ledger, folder / "many")
    began = time.perf_counter()
    found = plan(survey(_points().jobs(), ledger))
    yield Row("plan_10000_cached", time.perf_counter() - began, "s", 2.0, higher_is_better=False)
    began = time.perf_counter()
    counts = status(survey(_points().jobs(), ledger))["counts"]
    yield Row("status_10000_finished", time.perf_counter() - began, "s", 3.0, higher_is_better=False)
    if found["cached"] != _MANY or counts["finished"] != _MANY:
        raise RuntimeError(f"{found['cached']} cached and {counts['finished']} finished of {_MANY}")


def _real(folder: Path) -> Row:
    """Ten thousand studies: seeds x arms x families x sizes of the shipped data sweep, some forty thousand jobs."""
    base = find_sweep("data_size-tiny").runs[0].config
    axes = {
        "seed": range(_MANY // 50),
        "arms": [(0.0625, 1.0), (0.125, 1.0), (0.25, 1.0), (0.5, 1.0), (1.0,)],
        "families": [("mlp",), ("transformer",)],
        "sizes": [("0.05M",), ("0.2M",), ("1M",), ("S",), ("B",)],
    }
    priced("first", grid(base, axes | {"seed": [_MANY]})).jobs()  # what students of these sizes are is solved once
    began = time.perf_counter()
    sweep = priced("real", grid(base, axes))
    found = plan(survey(sweep.jobs(), Ledger(LocalShelf(folder / "real"))))
    took = time.perf_counter() - began
    if len(sweep.runs) != _MANY or found["new"] < 4 * _MANY:
        raise RuntimeError(f"{len(sweep.runs)} runs of {found['new']} jobs")
    return Row("plan_10000_real", took, "s", 2.0, higher_is_better=False)


def _finish(jobs: dict[str, Job], ledger: Ledger, store: Path) -> None:
    """The two entries of a finished run for every job, written at once: one run's are made by the engine and copied."""
    first = next(iter(jobs))
    claim = ledger.claim(first, ledger.last(first), "bench")
    if claim is None or ledger.append(first, claim, DONE) is None:
        raise RuntimeError("the store is in use")
    entries = [(path.name, path.read_bytes()) for path in (store / "runs" / first).iterdir()]
    for key in jobs:
        (store / "runs" / key).mkdir(exist_ok=True)
        for name, text in entries:
            (store / "runs" / key / name).write_bytes(text)
