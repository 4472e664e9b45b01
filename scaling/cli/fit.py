"""`scaling fit` and `scaling predict`: a table in, a law out; a law and a point in, a loss with its interval out."""

import argparse
import dataclasses
import difflib
import json
import shlex
from pathlib import Path
from typing import Any

from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add
from scaling.errors import InputError

_ROLES = ("size", "data", "compute", "unique_data", "clusters", "teacher", "alone")


def add_verbs(verbs: Verbs) -> None:
    """`fit` and `predict`."""
    fit = add(verbs, "fit", _fit, "fit a scaling law to a table of runs and test it on held-out rows")
    fit.add_argument("table", metavar="TABLE", help=".csv or .jsonl (.gz allowed) or .parquet")
    fit.add_argument("--loss", required=True, metavar="COLUMN")
    for role, what in (("size", "parameters"), ("data", "frames, tokens or hours"), ("compute", "FLOPs")):
        fit.add_argument(f"--{role}", metavar="COLUMN", help=what)
    fit.add_argument("--run", metavar="COLUMN", help="rows of one run are drawn together in the bootstrap")
    fit.add_argument("--unique-data", metavar="COLUMN", help="unique data, for the form with repeated data")
    fit.add_argument("--clusters", metavar="COLUMN", help="cluster count: adds C K^-gamma to the law")
    fit.add_argument("--teacher", metavar="COLUMN", help="the teacher's loss, for the form distillation")
    fit.add_argument("--alone", metavar="COLUMN", help="loss of the same student without a teacher, for distillation")
    fit.add_argument("--success", metavar="COLUMN", help="success rate: also fit the link from loss to success")
    fit.add_argument("--form", default="auto", metavar="FORM", help="auto, power, log, chinchilla, repeated, broken, "
                     "overtraining, distillation, clusters or straight (no floor)")  # fmt: skip
    fit.add_argument("--drop-highest", type=int, default=0, metavar="N", help="leave the N highest losses out")
    fit.add_argument("--holdout", metavar="EXPR", help="like data>1e6, or none (default: the largest budgets)")
    fit.add_argument("--resamples", type=int, default=1000, metavar="N")
    fit.add_argument("--level", type=float, default=0.95, metavar="P", help="of the intervals")
    fit.add_argument("--residuals", default="log", metavar="log|loss", help="what the Huber loss is of")
    fit.add_argument("--delta", type=float, default=1e-3, metavar="X", help="width of the Huber loss")
    fit.add_argument("--seed", type=int, default=0, metavar="N")
    fit.add_argument("--report", metavar="DIR", help="also write the fit card, its figures and an offline page there")
    predict = add(verbs, "predict", _predict, "what a fitted law says of a new run, with its interval")
    predict.add_argument("fit", metavar="FIT.json", help="what `scaling fit --json` wrote, or a study's law.json")
    for role in _ROLES:
        predict.add_argument(f"--{role.replace('_', '-')}", type=float, metavar="X")
    predict.add_argument("--optimal", type=float, metavar="FLOP", help="instead: the best size and data of that budget")
    predict.add_argument("--law", metavar="NAME", help="which law of a study's law.json")


def _fit(arguments: argparse.Namespace) -> Outcome:
    from scaling.laws import card_markdown, fit_link, fit_table, read_table

    table = read_table(arguments.table)
    law = fit_table(
        table,
        loss=arguments.loss,
        **{role: getattr(arguments, role) for role in _ROLES},
        run=arguments.run,
        form=arguments.form,
        holdout=arguments.holdout,
        drop_highest=arguments.drop_highest,
        resamples=arguments.resamples,
        seed=arguments.seed,
        level=arguments.level,
        delta=arguments.delta,
        residuals_in=arguments.residuals,
        command=shlex.join(["scaling", *arguments.given]),
    )
    if arguments.success is not None:
        link = fit_link(table, loss=arguments.loss, success=arguments.success, run=arguments.run,
                        resamples=arguments.resamples, seed=arguments.seed, level=arguments.level)  # fmt: skip
        law = law.with_link(link)
    words = [card_markdown(law, f"Fit of {arguments.table}")]
    if arguments.report is not None:
        from scaling.view.fit_report import write_fit_report

        page = write_fit_report(law, table, arguments.report, f"Fit of {Path(arguments.table).name}")
        words.append(f"report: {page}")
    return Outcome(law.to_json(), words)


def _predict(arguments: argparse.Namespace) -> Outcome:
    from scaling.laws import Law

    law = Law.from_json(_record(Path(arguments.fit), arguments.law))
    point = {role: getattr(arguments, role) for role in _ROLES}
    level = f"{law.record['level']:.0%} interval"
    if arguments.optimal is not None:
        given = {
            role: point[role] for role in ("unique_data", "clusters", "teacher", "alone") if point[role] is not None
        }
        best = dataclasses.asdict(law.optimal(arguments.optimal, **given))
        shown = {k: v for k, v in best.items() if not k.endswith("_interval")}
        spans = {f"{k} {level}": list(best[f"{k}_interval"]) for k in ("size", "data", "loss")}
        return Outcome({**law.record, "optimal": best}, [pairs({**shown, **spans, "form": law.form}), law.verdict])
    loss, low, high = law.predict(**point)
    given = {role: value for role, value in point.items() if value is not None}
    prediction = {**given, "loss": loss, "interval": [low, high], "level": law.record["level"]}
    shown = {**given, "loss": loss, level: [low, high], "form": law.form}
    success = law.success(**point)
    if success is not None:
        prediction |= {"success": success[0], "success_interval": list(success[1:])}
        shown |= {"success": success[0], f"success {level}": list(success[1:])}
    words: list[str | Grid] = [pairs(shown), f"{law.label}: {law.record['label_reason']}. {law.verdict}"]
    return Outcome({**law.record, "prediction": prediction}, words)


def _record(path: Path, name: str | None) -> Any:
    """The record of a fit, or of one of the laws of a study."""
    if not path.is_file():
        raise InputError(f"{path} is not there or not a file: make one with scaling fit --json")
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no fit ({error}): make one with scaling fit --json") from None
    if not (isinstance(record, dict) and isinstance(record.get("laws"), dict)):
        if name is not None:
            raise InputError(f"{path} holds a single law: leave --law out")
        return record
    known = list(record["laws"])
    if name not in known:
        near = difflib.get_close_matches(name or "", known, n=2, cutoff=0.4) or known
        raise InputError(f"{path} holds {len(known)} laws: name one with --law, such as {' or '.join(map(repr, near))}")
    return record["laws"][name]
