"""What the verbs of `scaling sweep` share: their flags, the sweep and the store that these name, and the bill."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scaling.cli.output import Grid
from scaling.cli.parser import Parser, Verbs, add

if TYPE_CHECKING:
    from scaling.record.ledger import Ledger
    from scaling.study.sweep import Sweep
    from scaling.study.sweep_state import Standing

STORE = "runs/sweeps"
BILL = ("device_hours", "share", "env_steps")


def sweep_verb(rooms: Verbs, name: str, verb: Any, help_: str, on_signal: str = "plain") -> Parser:
    """A verb on one sweep in one store."""
    parser = add(rooms, name, verb, help_, on_signal=on_signal)
    parser.add_argument("sweep", metavar="SWEEP", help="a name (data_size-tiny, engine_check) or a file")
    parser.add_argument("--store", default=STORE, metavar="URL", help=f"a folder or URL that all see (default {STORE})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a figure of all runs"
    )
    return parser


def overrides_of(arguments: argparse.Namespace) -> list[tuple[str, Any]]:
    """The figures that the flags replace in every run."""
    from scaling.cli.pipeline import overrides

    return list(overrides(arguments.set).items())


def sweep_of(arguments: argparse.Namespace) -> "Sweep":
    """The sweep that the flags name."""
    from scaling.study.sweep_find import find_sweep

    return find_sweep(arguments.sweep, overrides_of(arguments))


def ledger_of(arguments: argparse.Namespace) -> "Ledger":
    """The record of the store that the flags name."""
    from scaling.record.ledger import Ledger
    from scaling.record.shelf import open_shelf

    return Ledger(open_shelf(arguments.store))


def survey_of(arguments: argparse.Namespace) -> tuple["Sweep", "Ledger", "list[Standing]"]:
    """The sweep that the flags name, its ledger, and where its jobs stand."""
    from scaling.study.sweep_state import survey

    sweep, ledger = sweep_of(arguments), ledger_of(arguments)
    return sweep, ledger, survey(sweep.jobs(), ledger)


def bill(stages: dict[str, dict[str, Any]], columns: Sequence[str] = BILL) -> Grid:
    """Stages beside each other, the dearest first."""
    order = sorted(stages.items(), key=lambda item: -item[1]["device_hours"])
    rows = [(stage, *(row[name] for name in columns)) for stage, row in order]
    return Grid(("stage", *(name.replace("_", " ") for name in columns)), rows)


def failures(broken: Sequence[dict[str, Any]]) -> list[str | Grid]:
    """The last words of the first few that failed."""
    told = [one for one in broken if one["error"]]
    return [f"{one['name']} ({one['hash']}) failed:\n{one['error']}" for one in told[:5]]
