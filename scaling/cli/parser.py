"""The verbs and their flags; nothing heavy is imported before a verb runs."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from scaling import __version__
from scaling.cli.output import Outcome

Verb = Callable[[argparse.Namespace], Outcome]


class Parser(argparse.ArgumentParser):
    """Usage errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


Verbs = Any  # argparse's own type for a set of sub-parsers is private


def add(verbs: Verbs, name: str, verb: Verb, help_: str, *, on_signal: str = "plain", json: bool = True) -> Parser:
    """A verb with its function; `json` for one that reports."""
    parser: Parser = verbs.add_parser(name, help=help_, description=help_)
    parser.set_defaults(verb=verb, on_signal=on_signal)
    if json:
        parser.add_argument(
            "--json",
            nargs="?",
            const="-",
            metavar="FILE",
            help="write the result as JSON (-: to standard output) and print nothing else there",
        )
    return parser


def add_mirrors(parser: Parser) -> None:
    """The flag of verbs that train."""
    parser.add_argument(
        "--mirrors",
        metavar="NAME,...",
        help="where learning curves are shown too: tensorboard (default), wandb, mlflow",
    )


def choose_mirrors(arguments: argparse.Namespace) -> list[str]:
    """The mirrors that the flag names, set for this process and all that it starts; none where it is not given."""
    if arguments.mirrors is None:
        return []
    from scaling.record.mirrors import choose

    names = [name for name in arguments.mirrors.split(",") if name]
    choose(names)
    return names


def family(verbs: Verbs, name: str, help_: str) -> Verbs:
    """A verb that has verbs of its own."""
    parser: Parser = verbs.add_parser(name, help=help_, description=help_)
    return parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)


def build_parser() -> Parser:
    """The whole surface."""
    from scaling.cli import bench, bridge, evaluate, fit, motions, pipeline, policy, robot, sweep, view

    parser = Parser(
        prog="scaling",
        description="An instrument for measuring how humanoid motion tracking scales.",
        epilog="Exit codes: 0 done, 1 a check failed, 2 bad input or usage, 75 stopped by SIGTERM, state saved.",
    )
    parser.add_argument("--version", action="version", version=f"scaling {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    for room in (pipeline, robot, motions, evaluate, sweep, fit, policy, bridge, view, bench):
        room.add_verbs(verbs)
    return parser
