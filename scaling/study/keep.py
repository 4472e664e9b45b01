"""A finished study in small: what `experiments/` keeps of it beside the command that made it."""

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.experts.bank import load_card
from scaling.record.files import read_json
from scaling.record.store import DONE
from scaling.record.table import read_table, rows_of
from scaling.study.config import StudyConfig
from scaling.study.results import LawResult, law_figure

_COLUMNS = (
    "run",
    "arm",
    "unique_frames",
    "val_loss",
    "val_loss_own",
    "success_sonic",
    "survival_s",
    "success_sonic_assist0",
    "survival_s_assist0",
    "mpjpe_l_mm",
)


def keep_results(config: StudyConfig, out: Path, folder: Path, command: str) -> Path:
    """Copies the tables and writes the curves and `RESULT.md` into `folder`; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = read_json(out / "summary.json")
    shutil.copyfile(summary["table"], folder / "runs.csv")
    shutil.copyfile(Path(summary["table"]).with_name("learning.csv"), folder / "learning.csv")
    rows = rows_of(read_table(folder / "runs.csv"))
    result = LawResult.from_json(read_json(Path(summary["law"])))
    (folder / "curves.svg").write_text(law_figure(rows, result, config))
    cards = [load_card(Path(path)) for path in summary["banks"]]
    columns = [name for name in _COLUMNS if any(name in row for row in rows)]
    experts = [row | {"clusters": card.clusters} for card in cards for row in card.competence]
    commit = read_json(Path(summary["banks"][0]) / DONE).get("commit") or "unknown"
    text = [
        f"# {config.name}",
        "",
        f"`{command}`",
        "",
        f"{len(rows)} runs in {sum(summary['seconds'].values()) / 60:.1f} min of stages, on {os.cpu_count()} cores "
        f"({platform.machine()}), commit {commit}. All figures at assist {config.assist:g}"
        + ("; `_assist0` is the same at 0" if config.assist else "")
        + ". Closed loop in converged C MuJoCo.",
        "",
        *(f"- {sentence}" for sentence in result.sentences),
        "",
        "![curves](curves.svg)",
        "",
        "## Experts beside open-loop playback",
        "",
        *grid(
            (
                "K",
                "cluster",
                "assist",
                "survival, s",
                "open loop",
                "ratio",
                "joint error, rad",
                "open loop",
                "beats it",
            ),
            [_expert(row) for row in experts],
        ),
        "",
        "## Students",
        "",
        *grid(columns, [[row.get(name) for name in columns] for row in rows]),
        "",
        "## Seconds of each stage",
        "",
        *grid(("stage", "seconds"), list(summary["seconds"].items())),
    ]
    path = folder / "RESULT.md"
    path.write_text("\n".join(text) + "\n")
    return path


def _expert(row: dict[str, Any]) -> list[Any]:
    return [
        row["clusters"],
        row["cluster"],
        row["assist"],
        interval(row["expert_seconds"]),
        interval(row["open_loop_seconds"]),
        row["survival_ratio"],
        interval(row["expert_mpjpe_rad"]),
        interval(row["open_loop_mpjpe_rad"]),
        "yes" if row["beats_open_loop"] else "no",
    ]


def interval(triple: Sequence[float]) -> str:
    """ "value [low, high]"."""
    value, low, high = triple
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def grid(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """The lines of a Markdown table."""

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
