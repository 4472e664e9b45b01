"""`scaling export` and `scaling policy`: a student leaves the lab, and is checked as whoever receives it would."""

import argparse
from pathlib import Path
from typing import Any

from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add, family
from scaling.cli.sweeps import STORE, survey_of
from scaling.errors import InputError


def add_verbs(verbs: Verbs) -> None:
    """`export`, `policy check`, `policy bench`."""
    export = add(verbs, "export", _export, "export a student to a policy, and check it (exit 1 where it fails)")
    export.add_argument("run", nargs="?", metavar="RUN", help="folder of a saved student, or a policy to make anew")
    export.add_argument(
        "--best", metavar="SWEEP", help="the best student of a sweep, by `val` success in C MuJoCo at assist 0"
    )
    export.add_argument("--store", default=STORE, metavar="URL", help=f"of --best (default {STORE})")
    export.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="of --best, as it was worked")
    export.add_argument("--out", required=True, metavar="DIR|FILE.zip", help="a folder, or one file that ends in .zip")
    rooms = family(verbs, "policy", "a policy artifact")
    check = add(rooms, "check", _check, "verify a policy and compare its programs with the student (exit 1 if not ok)")
    check.add_argument("folder", metavar="POLICY")
    bench = add(rooms, "bench", _bench, "measure the latency of a policy over many steps")
    bench.add_argument("folder", metavar="POLICY")


def _export(arguments: argparse.Namespace) -> Outcome:
    if (arguments.run is None) == (arguments.best is None):
        raise InputError("export needs one of RUN and --best SWEEP: name the folder of a saved student")
    from scaling.cli.actors import find
    from scaling.policy.check import check_policy

    if arguments.best is not None:
        row, folder = _best(arguments)
        out = _export_student(folder, row, arguments.out)
        return _outcome({"policy": str(out), "run": row["run"], **check_policy(out)})
    kind, folder = find(Path(arguments.run))
    if kind == "bank":
        raise InputError(f"{folder} is a bank of experts and experts see what no robot can: export a student")
    if kind == "policy":
        from scaling.policy.export import reexport

        out = reexport(folder, arguments.out)
    else:
        from scaling.record.runs import read_row

        out = _export_student(folder, read_row(arguments.run), arguments.out)
    return _outcome({"policy": str(out), **check_policy(out)})


def _best(arguments: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """Row and folder of the best student of a sweep."""
    from scaling.study.sweep_rows import best_student

    arguments.sweep = arguments.best
    sweep, ledger, standings = survey_of(arguments)
    return best_student(standings, ledger, sweep.devices)


def _export_student(folder: Path, row: dict[str, Any] | None, out: str) -> Path:
    """The policy of a saved student, with its own columns where no row is given."""
    from scaling.distill.student import load_student
    from scaling.policy.export import export_policy

    student = load_student(folder)
    row = student.columns if row is None else row
    return export_policy(student.config, student.params, student.normaliser, student.action_scale, row, out)


def _check(arguments: argparse.Namespace) -> Outcome:
    from scaling.policy.check import check_policy

    return _outcome(check_policy(arguments.folder))


def _bench(arguments: argparse.Namespace) -> Outcome:
    from scaling.policy.check import bench_policy

    report = bench_policy(arguments.folder)
    rows = [
        (name, found["latency_ms"]["median"], found["latency_ms"]["p99"], found["seconds_to_open"])
        for name, found in report["backends"].items()
    ]
    table = Grid(("program", "median (ms)", "99 % (ms)", "opens in (s)"), rows, "One action, batch 1, with its cache")
    outcome = _outcome(report)
    return Outcome(report, [table, *outcome.words] if not outcome.code else outcome.words, outcome.code)


def _outcome(report: dict[str, Any]) -> Outcome:
    shown: dict[str, Any] = {
        name: report[name] for name in ("policy", "run", "ok", "failures", "max_abs_difference") if name in report
    }
    for name, found in report["backends"].items():
        latency = found["latency_ms"]
        shown[f"latency, {name}"] = f"{latency['median']:.3f} ms (99th percentile {latency['p99']:.3f} ms)"
    return Outcome(report, [pairs(shown)], code=0 if report["ok"] else 1)
