"""The flags and the answer of `scaling sweep suggest`."""

import argparse
from typing import TYPE_CHECKING, Any

from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Parser
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.study.sweep_suggest import Question

ROLES = {"size": "params", "data": "unique_frames", "compute": "flops", "clusters": "clusters"}
_SHOWN = ("form", "rows", "width", "expected_width", "device_hours", "candidates")


def add_arguments(parser: Parser) -> None:
    """What is to be predicted, from which columns, and what may be spent on it."""
    parser.add_argument("--target", required=True, metavar="ROLE=X,...", help="where to predict: size=2e6,data=1e6")
    parser.add_argument(
        "--budget", type=float, required=True, metavar="H", help="device-hours before it is asked again"
    )
    parser.add_argument("--loss", default="val_loss", metavar="COLUMN", help="what the law predicts (val_loss)")
    for role, column in ROLES.items():
        parser.add_argument(f"--{role}", default=column, metavar="COLUMN", help=f"({column})")
    parser.add_argument("--form", default="auto", metavar="FORM", help="of the law, as in scaling fit (auto)")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only such rows")


def question(arguments: argparse.Namespace) -> "Question":
    """The flags as a question."""
    from scaling.study.sweep_suggest import Question

    columns = {role: getattr(arguments, role) for role in ROLES}
    where = dict(pair("--where", text) for text in arguments.where)
    target = _figures(arguments.target)
    return Question(target, columns, arguments.budget, arguments.loss, arguments.form, where)


def outcome(found: dict[str, Any], arguments: argparse.Namespace) -> Outcome:
    """The runs, what is expected of them, and the command that does them."""
    runs = [(one["hash"], one["name"], one["device_hours"], one["width_after"]) for one in found["runs"]]
    prediction = {"loss at the target": found["prediction"]["loss"], "interval": found["prediction"]["interval"]}
    words: list[str | Grid] = [pairs(prediction | {name: found[name] for name in _SHOWN})]
    if not runs:
        return Outcome(found, [*words, "no run fits into this budget: raise --budget"])
    settings = "".join(f" --set {text}" for text in arguments.set)
    hashes = " ".join(one["hash"] for one in found["runs"])
    command = f"scaling sweep work {arguments.sweep} --store {arguments.store}{settings} --only {hashes}"
    grid = Grid(("hash", "run", "device hours", "width after"), runs)
    return Outcome(found, [*words, grid, found["verdict"], command])


def _figures(text: str) -> dict[str, float]:
    """`size=2e6,data=1e6` as numbers by role."""
    found = {}
    for part in text.split(","):
        role, value = pair("--target", part)
        try:
            found[role] = float(value)
        except ValueError:
            raise InputError(f"--target {part}: {value!r} is not a number") from None
        if not 0 < found[role] < float("inf"):
            raise InputError(f"--target {part}: give a number above 0")
    return found


def pair(option: str, text: str) -> tuple[str, str]:
    """`NAME=VALUE` in two."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"{option} {text}: write it as NAME=VALUE")
    return name.strip(), value.strip()
