"""`scaling sweep`: many runs on many machines, each done once; the verbs of people and of launchers."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import suggestions
from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Parser, Verbs, add, family
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.record.ledger import Ledger
    from scaling.study.sweep import Sweep
    from scaling.study.sweep_state import Standing

STORE = "runs/sweeps"
_SHOWN = 40  # lines of a table of runs, the failed ones first


def add_verbs(verbs: Verbs) -> None:
    """`sweep plan`, `work`, `status`, ..."""
    rooms = family(verbs, "sweep", "many runs on many machines, each done once")
    _verb(rooms, "plan", _plan, "what is new, cached, running, failed or blocked, and what it will cost")
    work = _verb(rooms, "work", _work, "claim and run until nothing is left", on_signal="save")
    work.add_argument("--max-runs", type=int, metavar="N", help="stop after this many runs of this worker")
    work.add_argument("--only", nargs="+", default=[], metavar="HASH", help="these runs and what they need (suggest)")
    work.add_argument("--workers", type=int, default=1, metavar="N", help="so many workers (default 1)")
    work.add_argument("--launcher", choices=("local", "slurm", "ray", "k8s"), default="local")
    work.add_argument("--heartbeat", type=float, default=30.0, metavar="S", help="seconds between heartbeats (30)")
    work.add_argument(
        "--stale", type=float, default=90.0, metavar="S", help="a heartbeat that stood still so long (90)"
    )
    work.add_argument("--image", metavar="IMAGE", help="of k8s: the container image")
    work.add_argument("--queue", metavar="QUEUE", help="of k8s: the Kueue queue")
    status = _verb(rooms, "status", _status, "every run's state, attempts, seconds and last words")
    status.add_argument("--live", action="store_true", help="refresh the table until nothing is left to do")
    retry = _verb(rooms, "retry", _retry, "let failed runs be claimed again")
    retry.add_argument("hashes", nargs="*", metavar="HASH", help="these alone (default all)")
    invalid = _verb(rooms, "invalidate", _invalidate, "take runs back, with everything made from them")
    invalid.add_argument("hashes", nargs="+", metavar="HASH")
    _verb(rooms, "gc", _gc, "remove the leavings of superseded attempts")
    table = _verb(rooms, "table", _table, "the rows of finished runs as CSV")
    table.add_argument("--out", metavar="FILE", help="the CSV (default NAME.csv here)")
    diff = add(rooms, "diff", _diff, "what differs between two runs, or between two sweeps")
    diff.add_argument("one", metavar="HASH")
    diff.add_argument("other", metavar="HASH")
    diff.add_argument("--store", default=STORE, metavar="URL")
    suggest = _verb(rooms, "suggest", _suggest, "the next runs, by how much they narrow a prediction for their cost")
    suggestions.add_arguments(suggest)


def _verb(rooms: Verbs, name: str, verb: Any, help_: str, on_signal: str = "plain") -> Parser:
    parser = add(rooms, name, verb, help_, on_signal=on_signal)
    parser.add_argument("sweep", metavar="SWEEP", help="a name (data_size-tiny, engine_check) or a file")
    parser.add_argument("--store", default=STORE, metavar="URL", help=f"a folder or URL that all see (default {STORE})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a figure of all runs"
    )
    return parser


def _overrides(arguments: argparse.Namespace) -> list[tuple[str, Any]]:
    from scaling.cli.pipeline import overrides

    return list(overrides(arguments.set).items())


def _sweep(arguments: argparse.Namespace) -> "Sweep":
    from scaling.study.sweep_find import find_sweep

    return find_sweep(arguments.sweep, _overrides(arguments))


def _ledger(arguments: argparse.Namespace) -> "Ledger":
    from scaling.record.ledger import Ledger
    from scaling.record.shelf import open_shelf

    return Ledger(open_shelf(arguments.store))


def _survey(arguments: argparse.Namespace) -> tuple["Sweep", "Ledger", "list[Standing]"]:
    from scaling.study.sweep_state import survey

    sweep, ledger = _sweep(arguments), _ledger(arguments)
    return sweep, ledger, survey(sweep.jobs(), ledger)


def _plan(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_bill import plan

    sweep, _, standings = _survey(arguments)
    found = {"sweep": sweep.name, "runs": len(sweep.runs), **plan(standings, sweep.devices)}
    words: list[str | Grid] = [pairs({name: value for name, value in found.items() if name != "stages"})]
    return Outcome(found, [*words, _bill(found["stages"], ("jobs", "left", *_BILL))])


_BILL = ("device_hours", "share", "env_steps")


def _bill(stages: dict[str, dict[str, Any]], columns: Sequence[str] = _BILL) -> Grid:
    """Stages beside each other, the dearest first."""
    order = sorted(stages.items(), key=lambda item: -item[1]["device_hours"])
    rows = [(stage, *(row[name] for name in columns)) for stage, row in order]
    return Grid(("stage", *(name.replace("_", " ") for name in columns)), rows)


def _work(arguments: argparse.Namespace) -> Outcome:
    from scaling.record.lease import LeaseTimes
    from scaling.study.launch.command import WorkerCommand

    try:
        times = LeaseTimes(arguments.heartbeat, arguments.stale, min(0.25, arguments.heartbeat))
    except ValueError as error:
        raise InputError(f"--heartbeat {arguments.heartbeat:g} --stale {arguments.stale:g}: {error}") from None
    if arguments.max_runs is not None and arguments.max_runs < 1:
        raise InputError(f"--max-runs {arguments.max_runs}: give at least 1")
    command = WorkerCommand(arguments.sweep, arguments.store, _overrides(arguments), times, arguments.only)
    if arguments.launcher == "local" and arguments.workers == 1:
        return _work_here(arguments, times)
    if arguments.max_runs is not None:
        raise InputError("--max-runs is for one worker: leave it out, or leave out --workers and --launcher")
    _sweep(arguments)  # a mistake in the name is told before anything starts
    return _launch(arguments, command)


def _launch(arguments: argparse.Namespace, command: Any) -> Outcome:
    if arguments.launcher == "k8s":
        from scaling.study.launch.k8s import jobset, yaml

        if not arguments.image:
            raise InputError("--launcher k8s needs --image: the container that has scaling installed")
        manifest = jobset(command, arguments.workers, arguments.image, arguments.queue)
        return Outcome(manifest, [yaml(manifest)])
    if arguments.launcher == "slurm":
        from scaling.study.launch import slurm

        jobs = slurm.launch(command, arguments.workers, Path("runs/slurm").resolve())
        ids = [job.job_id for job in jobs]
        return Outcome({"jobs": ids}, [f"submitted {', '.join(ids)}; scaling sweep status {arguments.sweep} --live"])
    if arguments.launcher == "ray":
        from scaling.study.launch import ray

        ray.launch(command, arguments.workers)
    else:
        from scaling.study.launch import local

        local.launch(command, arguments.workers)
    return _summary(arguments, {})


def _work_here(arguments: argparse.Namespace, times: Any) -> Outcome:
    from dataclasses import asdict

    from scaling.record.ledger import Ledger
    from scaling.record.progress import Progress
    from scaling.record.shelf import open_shelf
    from scaling.study.sweep_worker import Order, Worker

    order = Order(arguments.sweep, _overrides(arguments), arguments.only)
    ledger = Ledger(open_shelf(arguments.store), times)
    with Progress(arguments.sweep) as progress:
        worker = Worker(order, ledger, lambda done, of, words: progress.update(done, of, words))
        tally = worker.run(arguments.max_runs)
    return _summary(arguments, asdict(tally))


def _summary(arguments: argparse.Namespace, did: dict[str, Any]) -> Outcome:
    """What is left after working: exit code 1 where something failed, which the JSON names."""
    from scaling.study.sweep_bill import status
    from scaling.study.sweep_state import BLOCKED, BROKEN

    sweep, _, standings = _survey(arguments)
    found = status(standings, sweep.devices)
    broken = [one for one in found["runs"] if one["state"] in (BROKEN, BLOCKED)]
    data = {**did, "counts": found["counts"], "stages": found["stages"], "failures": broken}
    code = 1 if found["counts"][BROKEN] else 0
    return Outcome(data, [pairs(found["counts"]), *_failures(broken)], code)


def _failures(broken: Sequence[dict[str, Any]]) -> list[str | Grid]:
    told = [one for one in broken if one["error"]]
    return [f"{one['name']} ({one['hash']}) failed:\n{one['error']}" for one in told[:5]]


def _status(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_bill import status

    if arguments.live:
        _watch(arguments)
    sweep, _, standings = _survey(arguments)
    found = status(standings, sweep.devices)
    data = {"sweep": sweep.name, "store": arguments.store, **found["counts"], **found}
    words: list[str | Grid] = [pairs(found["counts"]), _bill(found["stages"]), _grid(found["runs"])]
    return Outcome(data, [*words, *_failures([one for one in found["runs"] if one["state"] == "failed"])])


def _grid(runs: Sequence[dict[str, Any]]) -> Grid:
    order = ("failed", "running", "blocked", "new", "waiting", "finished")
    shown = sorted(runs, key=lambda one: order.index(one["state"]))[:_SHOWN]
    rows = [(one["hash"], one["stage"], one["name"], one["state"], one["attempts"], one["seconds"]) for one in shown]
    title = f"{len(shown)} of {len(runs)} runs" if len(shown) < len(runs) else ""
    return Grid(("hash", "stage", "run", "state", "attempts", "seconds"), rows, title)


def _watch(arguments: argparse.Namespace) -> None:
    """A table on standard error, anew every two seconds, until nothing runs and nothing can be claimed."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from scaling.cli.output import cell
    from scaling.study.sweep_bill import status
    from scaling.study.sweep_state import survey

    sweep, ledger = _sweep(arguments), _ledger(arguments)
    jobs, began, first = sweep.jobs(), time.monotonic(), None
    with Live(console=Console(stderr=True), refresh_per_second=2) as live:
        while True:
            found = status(survey(jobs, ledger))
            counts = found["counts"]
            done, left = counts["finished"], counts["new"] + counts["waiting"] + counts["running"]
            first = done if first is None else first
            pace = (time.monotonic() - began) / (done - first) if done > first else None
            eta = "" if pace is None else f", about {pace * left:.0f} s left"
            grid = _grid([one for one in found["runs"] if one["state"] in ("running", "failed")])
            table = Table(*grid.header, title=f"{sweep.name}: {done} of {len(jobs)} finished{eta}", box=None)
            for row in grid.rows:
                table.add_row(*(cell(value).replace("[", r"\[") for value in row))
            live.update(table)
            if not left:
                return
            time.sleep(2.0)


def _retry(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_state import chosen, retry

    _, ledger, standings = _survey(arguments)
    hashes = retry(chosen(standings, arguments.hashes) if arguments.hashes else standings, ledger)
    return Outcome({"retried": hashes}, [f"{len(hashes)} failed runs may be claimed again"])


def _invalidate(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_state import chosen, invalidate

    _, ledger, standings = _survey(arguments)
    hashes = invalidate(standings, chosen(standings, arguments.hashes), ledger)
    return Outcome({"invalidated": hashes}, [f"{len(hashes)} runs were taken back"])


def _gc(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_state import gc

    _, ledger, standings = _survey(arguments)
    removed = gc(standings, ledger)
    return Outcome({"removed": removed}, [f"{len(removed)} folders of superseded attempts were removed"])


def _table(arguments: argparse.Namespace) -> Outcome:
    from scaling.record.table import write_table
    from scaling.study.sweep_bill import bill
    from scaling.study.sweep_rows import rows

    sweep, ledger, standings = _survey(arguments)
    out = Path(arguments.out or f"{sweep.name}.csv")
    if out.suffix != ".csv":
        raise InputError(f"--out {out}: a table is written as .csv (with a .jsonl beside it)")
    found = rows(standings, ledger, sweep.devices)
    write_table(found, out)
    stages = bill(standings, sweep.devices)
    left = sum(one.state != "finished" for one in standings)
    words = f"{len(found)} rows in {out}" + (f"; {left} runs are not finished" if left else "")
    data = {"table": str(out), "rows": len(found), "unfinished": left, "stages": stages}
    return Outcome(data, [words, _bill(stages)])


def _diff(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_find import find_sweep, names
    from scaling.study.sweep_state import diff

    if all(one.removesuffix(".py").split("/")[-1].split("-")[0] in names() for one in (arguments.one, arguments.other)):
        left, right = (list(map(str, find_sweep(one).runs)) for one in (arguments.one, arguments.other))
        found: Any = {"removed": [n for n in left if n not in right], "added": [n for n in right if n not in left]}
        return Outcome(found, [*(f"- {name}" for name in found["removed"]), *(f"+ {name}" for name in found["added"])])
    found = diff(arguments.one, arguments.other, _ledger(arguments))
    grid = Grid(("", arguments.one, arguments.other), [(path, *map(json.dumps, both)) for path, both in found.items()])
    return Outcome({path: list(both) for path, both in found.items()}, [grid])


def _suggest(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_suggest import suggest

    question = suggestions.question(arguments)
    sweep, ledger, standings = _survey(arguments)
    return suggestions.outcome(suggest(standings, ledger, question, sweep.devices), arguments)
