"""The fit card: everything a reviewer asks about a fit, as Markdown beside its JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.laws.law import Law


def number(value: Any, digits: int = 4) -> str:
    """A number for reading; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """A signed percentage; a dash where there is none."""
    return "-" if value is None else f"{value:+.2%}"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]


def card_markdown(law: Law, title: str = "Fit card") -> str:
    """The card of a law; its first paragraph is the verdict."""
    record = law.record
    level = f"{record['level']:.0%} interval"
    lines = [f"# {title}", "", f"**{record['verdict']}**", ""]
    lines += table(["", ""], [[key, value] for key, value in head(record).items()])
    lines += ["", "## Parameters", ""]
    lines += table(
        ["parameter", "value", "standard error", level, "unit"],
        [[name, number(value, 6), number(record["standard_errors"][name]), span(record["intervals"][name]),
          record["units"][name]] for name, value in record["params"].items()]
        + [[name, number(d["value"]), number(d["standard_error"]), span(d["interval"]), "1"]
           for name, d in record["derived"].items()],
    )  # fmt: skip
    lines += ["", "## Hold-out", ""]
    summary = record["holdout_summary"]
    if summary is None:
        lines.append(f"None: {record['label_reason']}.")
    else:
        lines += [
            f"Held out: {summary['rule']} ({summary['n']} rows, up to {summary['reach']:.3g} x the largest fitted). "
            f"Mean error {percent(summary['mean_relative_error'])}, worst {percent(summary['worst_relative_error'])}, "
            f"coverage {summary['coverage']:.0%} of a nominal {record['level']:.0%}.",
            "",
        ]
        lines += table(
            ["row", "predicted", "actual", "relative error", level],
            [[str(r["row"]), number(r["predicted"], 5), number(r["actual"], 5), percent(r["relative_error"]),
              span(r["interval"])] for r in record["holdout"]],
        )  # fmt: skip
    lines += [
        "",
        "## Forms compared",
        "",
        "Errors are root mean square log errors; `ahead` predicts one level at a time.",
        "",
    ]
    lines += table(
        ["form", "held-out error", "ahead", "AICc", "objective", "status"],
        [[f"**{a['form']}**" if a["chosen"] else a["form"], number(a.get("holdout_error")),
          number(a.get("rolling_error")),
          number(a.get("aicc")), number(a.get("objective"), 7), a["refused"] or a["status"]]
         for a in record["alternatives"]],
    )  # fmt: skip
    lines += checks(record)
    lines += ["", "## Rows", ""]
    lines += table(
        ["axis", "column", "from", "to", "levels"],
        [[role, record["columns"].get(role, "derived"), number(r["min"]), number(r["max"]), str(r["levels"])]
         for role, r in record["ranges"].items()],
    )  # fmt: skip
    if record["excluded"]:
        lines += ["", f"{len(record['excluded'])} rows left out (row: reason):", ""]
        lines += [f"- {entry['row']}: {entry['reason']}" for entry in record["excluded"]]
    if record["notes"]:
        lines += ["", "## Notes", "", *[f"- {note}" for note in record["notes"]]]
    lines += ["", "## How", "", *[f"- {key}: {value}" for key, value in record["fit"].items()]]
    lines += [f"- seed: {record['seed']}", f"- source: {record['source']}", f"- data hash: {record['data_hash']}"]
    lines += [f"- command: `{record['command']}`"] if record["command"] else []
    return "\n".join(lines) + "\n"


def checks(record: Mapping[str, Any]) -> list[str]:
    """Lines on what the fit was tested for beside its hold-out; a law kept from before these has none."""
    lines: list[str] = []
    if record.get("profile"):
        lines += ["", "## Profile likelihood", "", "Each held on a grid, the others fitted again; a dash is open.", ""]
        lines += table(
            ["parameter", f"{record['level']:.0%} interval", "weakly identified"],
            [[name, span(p["interval"]), "yes" if p["weak"] else "no"] for name, p in record["profile"].items()],
        )
    if record.get("rolling"):
        lines += ["", "## Rolling origin", ""]
        lines += table(
            ["level", "rows", "fitted on", "mean error", "coverage"],
            [[number(r["level"]), str(r["n"]), str(r["trained_on"]), percent(r["relative_error"]),
              f"{r['coverage']:.0%}"] for r in record["rolling"]],
        )  # fmt: skip
    if record.get("isoflop"):
        iso = record["isoflop"]
        told = f": optimal size as compute^{number(iso['exponent'])} ({span(iso['interval'] or [None, None])})"
        lines += ["", "## Minima of compute budgets (approach 2)", ""]
        lines += [f"{iso['status']}{told if iso['exponent'] is not None else ''}.", ""]
        lines += table(
            ["compute", "rows", "sizes", "optimal size", "minimum"],
            [[number(b["compute"]), str(b["n"]), str(b["sizes"]), number(b["size"]), b["status"]]
             for b in iso["budgets"]],
        )  # fmt: skip
    if record.get("cluster_test"):
        test = record["cluster_test"]
        kind = "descriptive (three counts or fewer)" if test["descriptive"] else "tested"
        lines += [
            "",
            "## Term in the number of clusters",
            "",
            f"{kind}: {test['levels']} counts, p = {number(test['p_value'], 2)} against {test['form_without']} "
            f"without it (objective {number(test['objective_without'], 7)} to {number(test['objective'], 7)}).",
        ]
    if record.get("influence"):
        lines += outliers(record)
    if record.get("link"):
        link = record["link"]
        lines += ["", "## Success rate", "", f"`{link['formula']}`, {link['status']}, {link['n']} rows.", ""]
        lines += table(
            ["parameter", "value", "standard error", f"{link['level']:.0%} interval"],
            [[name, number(value), number(link["standard_errors"][name]), span(link["intervals"][name])]
             for name, value in link["params"].items()],
        )  # fmt: skip
    return lines


def outliers(record: Mapping[str, Any]) -> list[str]:
    """Lines on single rows and runs: who is far off, and who moves the law."""
    report = record["influence"]
    lines = ["", "## Outliers and influence", ""]
    far = ", ".join(f"{entry['row']} ({percent(entry['residual'])})" for entry in report["outliers"])
    lines.append(f"Rows more than 4 robust standard deviations off: {far or 'none'}.")
    without = report["without_outliers"]
    if without is not None:
        lines += ["", f"The fit without them ({without['n']} rows, {without['status']}):", ""]
        lines += table(
            ["parameter", "with", "without"],
            [[name, number(record["params"][name], 5), number(value, 5)] for name, value in without["params"].items()],
        )
    if report["runs"]:
        lines += ["", "Runs whose absence moves an exponent most:", ""]
        lines += [
            f"- rows {', '.join(map(str, run['rows']))}: {run['parameter']} by "
            f"{run['change_in_standard_errors']:+.2f} standard errors"
            for run in report["runs"]
        ]
    return lines


def head(record: Mapping[str, Any]) -> dict[str, str]:
    """The summary at the top of the card."""
    return {
        "form": f"{record['form']}: `{record['formula']}` (chosen by: {record['chosen_by']})",
        "status": record["status"],
        "label": f"{record['label']}: {record['label_reason']}",
        "rows": f"{record['n']} of {record['runs']} runs",
        "objective": number(record["objective"], 7),
        "residual noise": f"{record['residual_noise']:.2%}",
    }


def span(bounds: list[float | None]) -> str:
    """An interval for reading."""
    return f"{number(bounds[0])} to {number(bounds[1])}"


def write_card(law: Law, folder: str | Path, name: str = "fit") -> tuple[Path, Path]:
    """Write NAME.md and NAME.json into the folder and return both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    markdown, data = folder / f"{name}.md", folder / f"{name}.json"
    markdown.write_text(card_markdown(law))
    data.write_text(json.dumps(law.to_json(), allow_nan=False) + "\n")
    return markdown, data
