"""The report: one HTML file with everything inside, that opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

import scaling
from scaling.view import sections as parts
from scaling.view.cells import Cell, as_rows, column_cells, flatten, format_value, is_missing
from scaling.view.chart import chart_svg, legend
from scaling.view.forest import forest_svg
from scaling.view.player import template, write_text

# CommonMark with tables; HTML is escaped, and pictures are off because they would be fetched.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
_MEDIA = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".mp4": "video/mp4",
}
COLUMN_HELP = {
    "unique_frames": "frames before augmentation (the fits' data axis)",
    "augmented_frames": "frames that augmentation added",
    "student_frames": "student-state frames seen",
    "val_loss": "SmoothL1 of normalised actions on the frozen validation states",
    "val_loss_own": "the same on the student's own states",
    "assist": "harness strength at which the row's tracking figures were measured",
    "success_sonic": "clip finished: pelvis and end-effector height within .25 m, pelvis orientation within 1 rad",
    "success_hgpt": "clip finished: pelvis and torso height within .25 m, their orientation within 1 rad",
    "survival_s": "seconds until failure",
    "mpjpe_l_mm": "mean Euclidean body-position error, root-relative, 14 bodies, mm",
    "mpjpe_rad": "mean absolute joint error over 29 joints, rad",
    "arm": "fraction of the training segments",
    "flops": "exact training FLOPs of the student",
}


def write_report(path: Path | str, *, title: str, sections: Sequence[parts.Section], subtitle: str = "") -> Path:
    """Lay out `sections` in their order; atomically replaces `path`."""
    laid_out = [_lay_out(section) for section in sections]
    for index, section in enumerate(laid_out):
        section["anchor"] = f"s{index + 1}"
    page = template("report.html").render(
        title=title, subtitle=subtitle, sections=laid_out, version=scaling.__version__
    )
    return write_text(Path(path), page)


def _lay_out(section: parts.Section) -> dict[str, Any]:
    """A section as the template wants it."""
    kind = type(section).__name__
    context: dict[str, Any] = {"kind": kind, "title": section.title, "note": markdown(getattr(section, "note", ""))}
    match section:
        case parts.Headline():
            state = {True: "validated", False: "refuted", None: "none"}[section.validated]
            facts = [(name, format_value(value)) for name, value in section.facts.items()]
            context |= {
                "sentences": [_MARKDOWN.renderInline(sentence) for sentence in section.sentences],
                "verdict": _MARKDOWN.renderInline(section.verdict),
                "state": state,
                "facts": facts,
            }
        case parts.Text():
            context |= {"body": markdown(section.markdown)}
        case parts.Table():
            context |= {"table": _table(section.rows, section.columns, COLUMN_HELP | dict(section.help))}
        case parts.Figures():
            context |= {"figures": [(_media(f.source), markdown(f.caption), f.wide) for f in section.figures]}
        case parts.Charts():
            context |= {
                "charts": [(chart_svg(chart), legend(chart), markdown(chart.caption)) for chart in section.charts]
            }
        case parts.FitCard():
            context |= _fit_card(section.content)
        case parts.Competence():
            context |= _competence(section.comparisons)
        case parts.Renderings():
            context |= {"views": [_rendering(view, caption) for view, caption in section.views]}
        case parts.Stages():
            context |= _stages(section)
        case parts.Configuration():
            context |= {"config": _leaves(section.config), "hashes": list(section.hashes.items())}
        case parts.Reproduce():
            context |= {"commands": list(section.commands)}
        case _:
            raise TypeError(f"{kind} is not a section of a report")
    return context


def markdown(text: str) -> Markup:
    """Markdown as HTML; HTML inside it is escaped."""
    return Markup(_MARKDOWN.render(text))


def _table(rows: Any, columns: Sequence[str] | None = None, help: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Header and cells; columns that are empty in every row go to the hidden ones."""
    rows = as_rows(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [name for name in (columns if columns is not None else names) if name in names]
    order = shown + [name for name in names if name not in shown]
    body = {name: column_cells(row.get(name) for row in rows) for name in order}
    empty = {name for name in order if all(is_missing(row.get(name)) for row in rows)}
    head = [
        {
            "name": name,
            "help": (help or {}).get(name, ""),
            "hidden": name not in shown or (name in empty and columns is None),
            "numeric": all(cell.numeric for cell in body[name]) and name not in empty,
        }
        for name in order
    ]
    return {"head": head, "rows": [[body[name][i] for name in order] for i in range(len(rows))]}


def _fit_card(content: str | Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with their errors and intervals in one table, alternatives in another, the rest as leaves."""
    if isinstance(content, str):
        return {"body": markdown(content), "leaves": [], "tables": []}
    rest, tables = dict(content), []
    params = rest.get("params")
    if isinstance(params, Mapping) and params:
        errors, intervals = rest.pop("standard_errors", None) or {}, rest.pop("intervals", None) or {}
        rest.pop("params")
        rows = []
        for name, value in params.items():
            low, high = intervals.get(name) or (None, None)
            rows.append({"parameter": name, "value": value, "std. error": errors.get(name), "low": low, "high": high})
        # Parameters differ by orders of magnitude, so that each is formatted by itself.
        rows = [{key: format_value(cell) if key != "parameter" else cell for key, cell in row.items()} for row in rows]
        tables.append(("Parameters", _numeric_text(_table(rows))))
    for name in [name for name, value in rest.items() if _is_rows(value)]:
        tables.append((name, _table(rest.pop(name))))
    return {"body": "", "leaves": _leaves(rest), "tables": tables}


def _numeric_text(table: dict[str, Any]) -> dict[str, Any]:
    """Set all but the first column, which hold numbers already formatted, as numbers."""
    for column in table["head"][1:]:
        column["numeric"] = True
    table["rows"] = [[row[0], *(Cell(cell.text, cell.sort, True) for cell in row[1:])] for row in table["rows"]]
    return table


def _is_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(item, Mapping) for item in value)


def _competence(comparisons: Sequence[parts.Comparison]) -> dict[str, Any]:
    """One block a quantity: the plot, then the table."""
    blocks = []
    for quantity in dict.fromkeys((c.quantity, c.unit, c.better) for c in comparisons):
        chosen = [c for c in comparisons if (c.quantity, c.unit, c.better) == quantity]
        unit = f" ({quantity[1]})" if quantity[1] else ""
        rows = [
            {
                "cluster": c.cluster,
                "assist": c.assist,
                "expert": c.expert,
                "open loop": c.open_loop,
                "expert / open loop": c.ratio,
                "verdict": c.verdict,
            }
            for c in chosen
        ]
        blocks.append({"name": quantity[0] + unit, "plot": forest_svg(chosen), "table": _table(rows)})
    return {"blocks": blocks}


def _rendering(view: Mapping[str, Path | str], caption: str) -> dict[str, Any]:
    player = Path(view["player"]) if view.get("player") else None
    return {
        "caption": markdown(caption),
        "strip": _media(Path(view["strip"])) if view.get("strip") else None,
        "video": _media(Path(view["video"])) if view.get("video") else None,
        "player": player.read_text(encoding="utf-8") if player is not None and player.exists() else None,
        "reason": view.get("reason", ""),
    }


def _stages(section: parts.Stages) -> dict[str, Any]:
    longest = max(section.seconds.values(), default=0.0) or 1.0
    rows = [
        {"name": name, "seconds": f"{value:,.1f}", "share": 100 * value / longest, "cached": name in section.cached}
        for name, value in section.seconds.items()
    ]
    return {"stages": rows, "total": f"{sum(section.seconds.values()):,.1f}"}


def _leaves(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(path, format_value(value)) for path, value in flatten(tree)]


def _media(source: Path | str | bytes) -> dict[str, str]:
    """A data URI, or, where the file is not there, its name, so that the gap is seen and the report is not lost."""
    if isinstance(source, bytes):
        kind, data = "image/png", source
    elif isinstance(source, str) and source.lstrip()[:5] in ("<svg ", "<?xml", "<svg>", "<!DOC"):
        kind, data = "image/svg+xml", source.encode()
    else:
        file = Path(source)
        kind = _MEDIA.get(file.suffix.lower(), "")
        if not kind:
            raise ValueError(f"{file}: must end in one of {', '.join(_MEDIA)}")
        if not file.is_file():
            return {"uri": "", "kind": kind, "missing": file.name}
        data = file.read_bytes()
    return {"uri": f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}", "kind": kind, "missing": ""}
