"""A trained bank in small: the table of its experts, their learning curves and the command that made them."""

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.experts.bank import load_card
from scaling.laws import figures
from scaling.record.runs import read_log
from scaling.record.store import git_commit
from scaling.study.keep import grid, interval


def keep_bank(work: Path, folder: Path, names: Sequence[str], title: str, command: str, minutes: float) -> Path:
    """Writes `RESULT.md`, `curves.svg` and `card.json` of the bank in `work` into `folder`; returns the first.

    `names` are the experts' in order, `minutes` what the command took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card = load_card(work)
    (folder / "card.json").write_text((work / "card.json").read_text())
    (folder / "curves.svg").write_text(figures.svg(learning_curves(read_log(work / "log"), names)))
    pictures = sorted((work / "pictures").glob("*/strip.png"))
    for path in pictures:
        shutil.copyfile(path, folder / f"{path.parent.name}.png")
    first = card.competence[0]
    text = [
        f"# {title}",
        "",
        f"`{command}`",
        "",
        f"{minutes:.1f} min in all on {os.cpu_count()} cores ({platform.machine()}), "
        f"commit {git_commit() or 'unknown'}.",
        f"{card.clusters} experts by {card.trainer.upper()} in {card.physics}, {card.env_steps:,} environment steps "
        f"together. Scored in converged C MuJoCo over {first['starts']} random starts of at most {first['seconds']:g} "
        f"s by protocol {first['protocol']}, without noise; 95 % intervals (bootstrap over starts, Wilson on success).",
        "",
        *grid(
            (
                "expert",
                "assist",
                "survival, s",
                "open loop, s",
                "ratio",
                "success",
                "joint error, rad",
                "open loop",
                "updates undone",
            ),
            [_row(row, names) for row in card.competence],
        ),
        "",
        "![learning curves](curves.svg)",
        "",
        "Errors are means up to the fall, so those of who falls early are of short episodes.",
        "",
        *(f"![{path.parent.name} clip]({path.parent.name}.png)\n" for path in pictures),
        "## Configuration",
        "",
        *grid(("setting", "value"), [(name, str(value)) for name, value in card.config.items()]),
    ]
    path = folder / "RESULT.md"
    path.write_text("\n".join(text) + "\n")
    return path


def _row(row: dict[str, Any], names: Sequence[str]) -> list[Any]:
    success = next(name for name in row if name.startswith("expert_success"))
    return [
        names[row["cluster"]],
        row["assist"],
        interval(row["expert_seconds"]),
        interval(row["open_loop_seconds"]),
        f"{row['survival_ratio']:.2f}",
        interval(row[success]),
        interval(row["expert_mpjpe_rad"]),
        interval(row["open_loop_mpjpe_rad"]),
        row["restored"],
    ]


def learning_curves(log: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """Seconds between falls and joint error in training (with exploration noise) against environment steps."""
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    falls, errors = figure.subplots(1, 2)
    steps = np.array([line["env_steps"] for line in log]) / 1e6
    for expert, name in enumerate(names):
        failing = np.array([line.get(f"expert_{expert}/failure_rate", np.nan) for line in log], float)
        error = np.array([line.get(f"expert_{expert}/joint_error", np.nan) for line in log], float)
        falls.plot(steps, 0.02 / np.maximum(_smooth(failing), 1e-5), label=name, linewidth=1.3)
        errors.plot(steps, _smooth(error), label=name, linewidth=1.3)
    falls.set_yscale("log")
    for axes, label in ((falls, "seconds between falls"), (errors, "joint error, rad")):
        axes.set_xlabel("environment steps of each expert, millions")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    falls.legend(frameon=False, fontsize="small")
    return figure


def _smooth(values: np.ndarray, width: int = 9) -> np.ndarray:
    """Mean over the last `width` values; NaN (an expert not in its slot) stays out of it."""
    return np.array([np.nanmean(values[max(0, i - width + 1) : i + 1]) for i in range(len(values))])
