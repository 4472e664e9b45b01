"""`scaling sweep`: the verbs of a fleet, named now so that scripts can rely on them, and not built yet."""

import argparse

from scaling.cli.output import Outcome
from scaling.cli.parser import Verbs, add, family
from scaling.errors import InputError

NAMES = ("plan", "work", "status", "retry", "invalidate", "gc", "table", "diff", "suggest")


def add_verbs(verbs: Verbs) -> None:
    """`sweep plan`, `work`, `status`, ..."""
    rooms = family(verbs, "sweep", "many studies on many machines (not built yet)")
    for name in NAMES:
        verb = add(rooms, name, _later, f"sweep {name} (not built yet)")
        verb.add_argument("sweep", nargs="*", metavar="SWEEP")
        verb.add_argument("--store", metavar="URL")
        verb.set_defaults(name=name)


def _later(arguments: argparse.Namespace) -> Outcome:
    raise InputError(f"sweep {arguments.name} is not built yet: scaling quickstart runs one study on one machine")
