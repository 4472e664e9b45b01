"""`scaling bench`: ratios of medians taken side by side in one run."""

import argparse
from typing import TYPE_CHECKING

from scaling.cli.output import Grid, Outcome
from scaling.cli.parser import Verbs, add
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.bench.row import Row

ROOMS = ("robot", "motion", "experts", "students", "laws", "sweep", "bridge")


def add_verbs(verbs: Verbs) -> None:
    """`bench ROOM`."""
    bench = add(verbs, "bench", _bench, "measure a room beside what it could be at best")
    bench.add_argument("room", choices=ROOMS, metavar="|".join(ROOMS))
    bench.add_argument("--quick", action="store_true", help="under 45 s on two cores once compiled programs are cached")
    bench.add_argument("--algorithm", choices=("ppo", "dream", "both"), help="of `bench experts` (default ppo)")
    bench.add_argument("--motions", metavar="DIR", help="of `bench motion`: real files (default ../shared/motions)")
    bench.add_argument("--scratch", metavar="DIR", help="of `bench motion`: where its stores of up to 6 GB are put")


def _bench(arguments: argparse.Namespace) -> Outcome:
    if arguments.algorithm and arguments.room != "experts":
        raise InputError(f"--algorithm is for bench experts: leave it out of bench {arguments.room}")
    for name in ("scratch", "motions"):
        if getattr(arguments, name) and arguments.room != "motion":
            raise InputError(f"--{name} is for bench motion: leave it out of bench {arguments.room}")
    from dataclasses import asdict

    from scaling.bench import measure_room
    from scaling.record.progress import Progress

    rows = []
    with Progress(f"bench {arguments.room}") as progress:
        progress.update(0)
        given = {"algorithm": arguments.algorithm, "scratch": arguments.scratch, "motions": arguments.motions}
        more = {name: value for name, value in given.items() if value}
        for row in measure_room(arguments.room, arguments.quick, **more):
            rows.append(row)
            progress.update(len(rows), message=row.name)
    words = Grid(
        ("", "value", "unit", "target", "met", "against"),
        [(row.name, row.value, row.unit, _target(row), row.met, row.ratio_to or "") for row in rows],
        rows[0].machine,
    )
    return Outcome({"room": arguments.room, "quick": arguments.quick, "rows": [asdict(row) for row in rows]}, [words])


def _target(row: "Row") -> str:
    return "" if row.target is None else f"{'at least' if row.higher_is_better else 'at most'} {row.target:g}"
