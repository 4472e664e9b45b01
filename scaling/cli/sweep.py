"""`scaling sweep`: many runs on many machines, each done once; the verbs of people and of launchers."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import suggestions, working
from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add, family
from scaling.cli.sweeps import BILL, STORE, bill, failures, ledger_of, survey_of, sweep_of, sweep_verb
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.record.ledger import Ledger

_COLUMNS = ("hash", "stage", "name", "state", "attempts", "seconds", "expected_s", "progress")
_SHOWN = 40  # lines of a table of runs, the failed ones first


def add_verbs(verbs: Verbs) -> None:
    """`sweep plan`, `work`, `status`, ..."""
    rooms = family(verbs, "sweep", "many runs on many machines, each done once")
    sweep_verb(rooms, "plan", _plan, "what is new, cached, running, failed or blocked, and what it will cost")
    working.add_arguments(
        sweep_verb(rooms, "work", working.work, "claim and run until nothing is left", on_signal="save")
    )
    status = sweep_verb(rooms, "status", _status, "every run's state, attempts, seconds and last words")
    status.add_argument("--live", action="store_true", help="refresh the table until nothing is left to do")
    status.add_argument(
        "--html", nargs="?", const="", metavar="FILE", help="also as an offline page (default NAME.html in the store)"
    )
    retry = sweep_verb(rooms, "retry", _retry, "let failed runs be claimed again")
    retry.add_argument("hashes", nargs="*", metavar="HASH", help="these alone (default all)")
    invalid = sweep_verb(rooms, "invalidate", _invalidate, "take runs back, with everything made from them")
    invalid.add_argument("hashes", nargs="+", metavar="HASH")
    sweep_verb(rooms, "gc", _gc, "remove the leavings of superseded attempts")
    table = sweep_verb(rooms, "table", _table, "the rows of finished runs as CSV or Parquet")
    table.add_argument("--out", metavar="FILE", help=".csv or .parquet (default NAME.csv here)")
    diff = add(rooms, "diff", _diff, "what differs between two runs, or between two sweeps")
    diff.add_argument("one", metavar="HASH")
    diff.add_argument("other", metavar="HASH")
    diff.add_argument("--store", default=STORE, metavar="URL")
    suggest = sweep_verb(
        rooms, "suggest", _suggest, "the next runs, by how much they narrow a prediction for their cost"
    )
    suggestions.add_arguments(suggest)


def _plan(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_bill import plan

    sweep, _, standings = survey_of(arguments)
    found = {"sweep": sweep.name, "runs": len(sweep.runs), **plan(standings, sweep.devices)}
    words: list[str | Grid] = [pairs({name: value for name, value in found.items() if name != "stages"})]
    return Outcome(found, [*words, bill(found["stages"], ("jobs", "left", *BILL))])


def _status(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_watch import watched

    if arguments.live:
        _watch(arguments)
    sweep, ledger, standings = survey_of(arguments)
    found = watched(standings, ledger, sweep.devices)
    data = {"sweep": sweep.name, "store": arguments.store, **found["counts"], **found}
    words: list[str | Grid] = [pairs(found["counts"]), *_time_left(found), bill(found["stages"]), _grid(found["runs"])]
    if arguments.html is not None:
        words.append(f"page: {_page(arguments, sweep.name, ledger, found)}")
    return Outcome(data, [*words, *failures([one for one in found["runs"] if one["state"] == "failed"])])


def _time_left(found: dict[str, Any]) -> list[str]:
    from scaling.record.progress import duration

    if found["eta_s"] is not None:
        return [f"about {duration(found['eta_s'])} left with the {found['counts']['running']} that work now"]
    return [f"about {duration(found['seconds_left'])} of one worker left"] if found["seconds_left"] else []


def _page(arguments: argparse.Namespace, name: str, ledger: "Ledger", found: dict[str, Any]) -> Path:
    """Next to the store's records where that is a folder, in the current one where it is a bucket."""
    from scaling.study.sweep_page import write_page

    beside = Path() if "://" in ledger.shelf.url else Path(ledger.shelf.url)
    return write_page(Path(arguments.html) if arguments.html else beside / f"{name}.html", name, arguments.store, found)


def _grid(runs: Sequence[dict[str, Any]]) -> Grid:
    order = ("failed", "running", "blocked", "new", "waiting", "finished")
    shown = sorted(runs, key=lambda one: order.index(one["state"]))[:_SHOWN]
    rows = [tuple(one[name] for name in _COLUMNS) for one in shown]
    title = f"{len(shown)} of {len(runs)} runs" if len(shown) < len(runs) else ""
    return Grid(("hash", "stage", "run", "state", "attempts", "seconds", "of about", "last line"), rows, title)


def _watch(arguments: argparse.Namespace) -> None:
    """A table on standard error, anew every two seconds, until nothing runs and nothing can be claimed."""
    from rich.console import Console
    from rich.live import Live

    from scaling.study.sweep_state import survey
    from scaling.study.sweep_watch import watched

    sweep, ledger = sweep_of(arguments), ledger_of(arguments)
    jobs = sweep.jobs()
    with Live(console=Console(stderr=True), refresh_per_second=2) as live:
        while True:
            found = watched(survey(jobs, ledger), ledger, sweep.devices)
            live.update(_frame(sweep.name, found))
            counts = found["counts"]
            if not counts["new"] + counts["waiting"] + counts["running"]:
                return
            time.sleep(2.0)


def _frame(name: str, found: dict[str, Any]) -> Any:
    """What runs and what has failed, the time that is left, and the last words of failures."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from scaling.cli.output import cell

    broken = [one for one in found["runs"] if one["state"] == "failed"]
    grid = _grid([*broken, *(one for one in found["runs"] if one["state"] == "running")])
    counts = found["counts"]
    title = ", ".join([f"{name}: {counts['finished']} of {sum(counts.values())} finished", *_time_left(found)])
    table = Table(*grid.header, title=title, box=None)
    for row in grid.rows:
        table.add_row(*(cell(value).replace("[", r"\[") for value in row))
    return Group(table, *(Text(str(told)) for told in failures(broken)))


def _retry(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_state import chosen, retry

    _, ledger, standings = survey_of(arguments)
    hashes = retry(chosen(standings, arguments.hashes) if arguments.hashes else standings, ledger)
    return Outcome({"retried": hashes}, [f"{len(hashes)} failed runs may be claimed again"])


def _invalidate(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_state import chosen, invalidate

    _, ledger, standings = survey_of(arguments)
    hashes = invalidate(standings, chosen(standings, arguments.hashes), ledger)
    return Outcome({"invalidated": hashes}, [f"{len(hashes)} runs were taken back"])


def _gc(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_state import gc

    _, ledger, standings = survey_of(arguments)
    removed = gc(standings, ledger)
    return Outcome({"removed": removed}, [f"{len(removed)} folders of superseded attempts were removed"])


def _table(arguments: argparse.Namespace) -> Outcome:
    from scaling.record.table import write_parquet, write_table
    from scaling.study.sweep_bill import bill as spent
    from scaling.study.sweep_rows import rows

    sweep, ledger, standings = survey_of(arguments)
    out = Path(arguments.out or f"{sweep.name}.csv")
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {out}: a table is written as .csv (with a .jsonl beside it) or .parquet")
    found = rows(standings, ledger, sweep.devices)
    (write_parquet if out.suffix == ".parquet" else write_table)(found, out)
    stages = spent(standings, sweep.devices)
    left = sum(one.state != "finished" for one in standings)
    words = f"{len(found)} rows in {out}" + (f"; {left} runs are not finished" if left else "")
    data = {"table": str(out), "rows": len(found), "unfinished": left, "stages": stages}
    return Outcome(data, [words, bill(stages)])


def _diff(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_find import find_sweep, names
    from scaling.study.sweep_state import diff

    if all(one.removesuffix(".py").split("/")[-1].split("-")[0] in names() for one in (arguments.one, arguments.other)):
        left, right = (list(map(str, find_sweep(one).runs)) for one in (arguments.one, arguments.other))
        found: Any = {"removed": [n for n in left if n not in right], "added": [n for n in right if n not in left]}
        return Outcome(found, [*(f"- {name}" for name in found["removed"]), *(f"+ {name}" for name in found["added"])])
    found = diff(arguments.one, arguments.other, ledger_of(arguments))
    grid = Grid(("", arguments.one, arguments.other), [(path, *map(json.dumps, both)) for path, both in found.items()])
    return Outcome({path: list(both) for path, both in found.items()}, [grid])


def _suggest(arguments: argparse.Namespace) -> Outcome:
    from scaling.study.sweep_suggest import suggest

    question = suggestions.question(arguments)
    sweep, ledger, standings = survey_of(arguments)
    return suggestions.outcome(suggest(standings, ledger, question, sweep.devices), arguments)
