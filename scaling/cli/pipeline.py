"""`scaling quickstart` and `scaling run`: the whole pipeline, and one experiment by name."""

import argparse
import json
from pathlib import Path
from typing import Any

from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Parser, Verbs, add, add_mirrors, choose_mirrors
from scaling.errors import InputError

OUT = "runs/quickstart"
_COLUMNS = (
    "run", "params", "arm", "clusters", "seed", "unique_frames", "val_loss", "val_loss_own", "success_sonic",
    "survival_s", "success_sonic_assist0", "survival_s_assist0", "status",
)  # fmt: skip


def add_verbs(verbs: Verbs) -> None:
    """`quickstart` and `run`; both keep their state as they go, so SIGTERM asks to be requeued."""
    quickstart = add(
        verbs, "quickstart", _quickstart, "motion files in; table, law, report and policy out", on_signal="save"
    )
    quickstart.add_argument("--motions", metavar="PATH", help="real clips (default: motion that it generates itself)")
    quickstart.add_argument(
        "--experts", choices=("dream", "ppo"), default="dream", help="how experts are trained (default dream)"
    )
    quickstart.add_argument(
        "--bank", metavar="DIR", help="experts that are kept (experiments/banks/NAME) instead of training any"
    )
    quickstart.add_argument("--out", default=OUT, metavar="DIR", help=f"where results go (default {OUT})")
    add_mirrors(quickstart)
    _settable(quickstart)
    run = add(verbs, "run", _run, "one experiment by name", on_signal="save")
    run.add_argument("experiment", metavar="EXPERIMENT")
    run.add_argument("--out", default="runs", metavar="DIR", help="where results go (default runs)")
    add_mirrors(run)
    _settable(run)


def _settable(parser: Parser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="override a figure, by dotted path (finetune.iterations=60: PPO on the finished students)",
    )


def _quickstart(arguments: argparse.Namespace) -> Outcome:
    choose_mirrors(arguments)
    if arguments.motions is not None:
        from scaling.motion.read import motion_paths

        motion_paths(arguments.motions)  # a mistake in the path is told before anything heavy is imported
    from scaling.study.quickstart import run_quickstart

    figures = overrides(arguments.set)
    summary = run_quickstart(arguments.motions, Path(arguments.out), arguments.experts, arguments.bank, figures)
    return Outcome(summary, _told(summary))


def _told(summary: dict[str, Any]) -> list[str | Grid]:
    """The table of runs, the law with its interval and hold-out error, and the paths."""
    from scaling.record.table import read_table, rows_of

    rows = rows_of(read_table(summary["table"]))
    columns = [name for name in _COLUMNS if rows and name in rows[0]]
    words: list[str | Grid] = [Grid(columns, [[row[name] for name in columns] for row in rows], "Runs")]
    laws = _laws(Path(summary["law"]))
    if laws:
        words.append(Grid(("law", "form", "fitted", "95 % interval", "hold-out error", "label"), laws, "Laws"))
    words += summary.get("sentences", [])
    kinds = ("table", "law", "report", "policy", "render", "video")
    paths: dict[str, Any] = {name: summary[name] for name in kinds if name in summary}
    if summary.get("renderer_reason"):
        paths["about the picture"] = summary["renderer_reason"]
    words.append(pairs(paths))
    seconds = summary.get("seconds", {})
    words.append(Grid(("stage", "seconds"), [(stage, float(took)) for stage, took in seconds.items()], "Time"))
    return words


def _laws(path: Path) -> list[tuple[Any, ...]]:
    """A line for every law of a study's `law.json`."""
    record = json.loads(path.read_text())
    found: list[tuple[Any, ...]] = []
    for name, law in record.get("laws", {}).items():
        key = next((one for one in ("alpha", "B") if one in law["params"]), next(iter(law["params"])))
        held = law["holdout_summary"]
        error = None if held is None else f"{held['mean_relative_error']:.1%}"
        if not law["supported"]:  # parameters of noise are nobody's business
            found.append((name, "no law", None, None, error, law["label"]))
            continue
        params = ", ".join(f"{one} {value:.3g}" for one, value in law["params"].items())
        low, high = law["intervals"][key]
        found.append((name, law["form"], params, f"{key} {low:.3g} to {high:.3g}", error, law["label"]))
    return found


def _run(arguments: argparse.Namespace) -> Outcome:
    choose_mirrors(arguments)
    from scaling.study.experiments import run_experiment

    row = run_experiment(arguments.experiment, overrides(arguments.set), arguments.out)
    return Outcome(row, [pairs(row)])


def overrides(settings: list[str]) -> dict[str, Any]:
    """Dotted path -> value; a value that is no JSON is a text."""
    found: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path.strip():
            raise InputError(f"--set {setting!r} is not understood: write it like dagger.updates=200")
        try:
            found[path.strip()] = json.loads(value)
        except ValueError:
            found[path.strip()] = value
    return found
