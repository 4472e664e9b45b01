"""`scaling sweep work`: a worker here, one of a gang, or workers started by a launcher."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.cli import BAD_INPUT, CHECK_FAILED, DONE, REQUEUE, launching
from scaling.cli.output import Outcome, pairs
from scaling.cli.parser import Parser, add_mirrors, choose_mirrors
from scaling.cli.sweeps import failures, overrides_of, survey_of, sweep_of
from scaling.errors import InputError


def add_arguments(parser: Parser) -> None:
    """Which runs, by how many, started how, and how soon a silent worker counts as dead."""
    parser.add_argument("--max-runs", type=int, metavar="N", help="stop after this many runs of this worker")
    parser.add_argument("--only", nargs="+", default=[], metavar="HASH", help="these runs and what they need (suggest)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="so many workers (default 1)")
    parser.add_argument("--gang", type=int, default=1, metavar="N", help="each of N processes, one JAX program (1)")
    parser.add_argument("--heartbeat", type=float, default=30.0, metavar="S", help="seconds between heartbeats (30)")
    parser.add_argument(
        "--stale", type=float, default=90.0, metavar="S", help="a heartbeat that stood still so long (90)"
    )
    launching.add_arguments(parser)
    add_mirrors(parser)


def work(arguments: argparse.Namespace) -> Outcome:
    """Works here, or starts workers."""
    from scaling.record.lease import LeaseTimes
    from scaling.study.launch.command import WorkerCommand
    from scaling.study.sweep_find import anywhere

    try:
        times = LeaseTimes(arguments.heartbeat, arguments.stale, min(0.25, arguments.heartbeat))
    except ValueError as error:
        raise InputError(f"--heartbeat {arguments.heartbeat:g} --stale {arguments.stale:g}: {error}") from None
    if arguments.max_runs is not None and arguments.max_runs < 1:
        raise InputError(f"--max-runs {arguments.max_runs}: give at least 1")
    mirrors = choose_mirrors(arguments)
    if arguments.workers < 1 or arguments.gang < 1:
        raise InputError(f"--workers {arguments.workers} --gang {arguments.gang}: give at least 1 of each")
    if arguments.launcher == "local" and arguments.workers == arguments.gang == 1:
        launching.check(arguments)
        return _work_here(arguments, times)
    if arguments.max_runs is not None:
        raise InputError("--max-runs is for one worker: leave it out, or leave out --workers, --gang and --launcher")
    sweep_of(arguments)  # a mistake in the name is told before anything starts
    names = (arguments.sweep, arguments.store)
    if arguments.launcher != "k8s":  # workers stand in folders of their own, pods in another file system
        names = (anywhere(arguments.sweep), _absolute(arguments.store))
    command = WorkerCommand(*names, overrides_of(arguments), times, arguments.only, mirrors)
    launched = launching.launch(arguments, command)
    return launched.outcome or _after(_summary(arguments, {}), launched.codes)


def _absolute(store: str) -> str:
    return store if "://" in store else str(Path(store).expanduser().absolute())


def _after(summary: Outcome, codes: Sequence[int]) -> Outcome:
    """The summary with the worst exit code of workers that ended before everything was finished."""
    counts = summary.data["counts"]
    early = [code for code in codes if code not in ((DONE, CHECK_FAILED) if counts["failed"] else (DONE,))]
    if not early or counts["finished"] == sum(counts.values()):
        return summary
    worst = BAD_INPUT if BAD_INPUT in early else REQUEUE if set(early) == {REQUEUE} else CHECK_FAILED
    told = ", ".join(map(str, early))
    words = f"{len(early)} of {len(codes)} workers ended early (exit code {told}): see what they said above"
    return replace(summary, data=summary.data | {"workers": list(codes)}, code=worst, complaint=words)


def _work_here(arguments: argparse.Namespace, times: Any) -> Outcome:
    from dataclasses import asdict

    from scaling.record.ledger import Ledger
    from scaling.record.progress import Progress
    from scaling.record.shelf import open_shelf
    from scaling.study.gang import Gang, place_of
    from scaling.study.sweep_follower import follow
    from scaling.study.sweep_worker import Order, Worker

    order = Order(arguments.sweep, overrides_of(arguments), arguments.only)
    ledger = Ledger(open_shelf(arguments.store), times)
    place = place_of(os.environ)
    gang = Gang(place, ledger) if place is not None else None
    if gang is not None and gang.place.rank:
        return Outcome({"followed": follow(order, ledger, gang)})
    with Progress(arguments.sweep) as progress:
        worker = Worker(order, ledger, lambda done, of, words: progress.update(done, of, words), gang)
        tally = worker.run(arguments.max_runs)
    return _summary(arguments, asdict(tally))


def _summary(arguments: argparse.Namespace, did: dict[str, Any]) -> Outcome:
    """What is left after working: exit code 1 where something failed, which the JSON names."""
    from scaling.study.sweep_bill import status
    from scaling.study.sweep_state import BLOCKED, BROKEN

    sweep, _, standings = survey_of(arguments)
    found = status(standings, sweep.devices)
    broken = [one for one in found["runs"] if one["state"] in (BROKEN, BLOCKED)]
    data = {**did, "counts": found["counts"], "stages": found["stages"], "failures": broken}
    code = 1 if found["counts"][BROKEN] else 0
    return Outcome(data, [pairs(found["counts"]), *failures(broken)], code)
