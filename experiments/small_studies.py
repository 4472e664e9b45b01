"""Do more experts make better students, and does loss fall with motion, on real motion and through the engine?

    python experiments/small_studies.py cluster_count    # K = 2, 4, 8, 16 on the pool: two hours, LAFAN1 and g1_moves
    python experiments/small_studies.py data_size        # five arms of g1_moves, taught by its kept bank

The shipped sweeps with the figures of `STUDIES`, done by two workers of a core each; stopped and run again, they go on.
Experts are dreamed: those of `cluster_count` in the study, so briefly that they survive seconds; those of `data_size`
for an hour before (`experiments/banks/g1_moves`). The clips stay outside this repository. The table, the bill, the
sentence that the data supports and an offline page go to `small_studies/NAME`.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from scaling.cli import main as scaling
from scaling.cli.pipeline import overrides
from scaling.record.ledger import Ledger
from scaling.record.shelf import open_shelf
from scaling.record.store import git_commit
from scaling.record.table import write_table
from scaling.study.keep import grid
from scaling.study.publish import compared
from scaling.study.results import fit_laws, law_figure
from scaling.study.sweep_bill import bill
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_rows import rows
from scaling.study.sweep_state import survey
from scaling.view import sections
from scaling.view.report import write_report

POOL = "../shared/motions/g1_29dof"
OUT = Path(__file__).with_suffix("")
STUDIES: dict[str, dict[str, Any]] = {
    "cluster_count": {
        "motions.path": POOL,
        "motions.curate": True,
        "seeds": 3,
        "dagger.updates": 600,
        "closed_loop.starts": 64,
    },
    "data_size": {
        "motions.path": f"{POOL}/g1_moves",
        "bank": "experiments/banks/g1_moves",
        "seeds": 3,
        "dagger.updates": 600,
    },
}
SHOWN = (
    "student", "size", "clusters", "arm", "seed", "unique_frames", "expert_survival_s_assist0", "val_loss",
    "val_loss_own", "success_sonic", "survival_s", "test_survival_s", "mpjpe_l_mm", "sweep_device_hours",
)  # fmt: skip
OUTCOMES = ("survival_s", "test_survival_s", "success_sonic")


def against_clusters(found: list[dict[str, Any]]) -> list[str]:
    """What doubling K does to the closed loop, a sentence an outcome: slope over students' seeds, with its interval."""
    told = []
    for name in OUTCOMES:
        done = [row for row in found if row.get(name) is not None]
        if not done:
            continue
        x = np.log2([row["clusters"] for row in done])
        y = np.array([row[name] for row in done], float)
        draws = np.random.default_rng(0).integers(0, len(x), (2000, len(x)))
        slopes = [np.polyfit(x[one], y[one], 1)[0] for one in draws if np.ptp(x[one]) > 0]
        low, high = np.quantile(slopes, [0.025, 0.975])
        means = ", ".join(f"K={2**k:.0f}: {y[x == k].mean():.3g}" for k in np.unique(x))
        way = "rises" if low > 0 else "falls" if high < 0 else "neither rises nor falls beyond its noise"
        slope = np.polyfit(x, y, 1)[0]
        told.append(f"{name} {way} with K: {slope:+.3g} a doubling [{low:+.3g}, {high:+.3g}] ({means}).")
    return [*told, "Each K has one bank: the intervals are over students, so a bank's own luck is not in them."]


def keep(name: str, sweep: Any, ledger: Ledger, command: str, workers: int) -> Path:
    """Writes the table, `RESULT.md` and `report.html`."""
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    standings = survey(sweep.jobs(), ledger)
    found, stages = rows(standings, ledger), bill(standings)
    write_table(found, folder / "runs.csv")
    config = sweep.runs[0].config
    figures = compared(found, [])
    if name == "cluster_count":
        told = against_clusters(found)
    else:
        result = fit_laws(found, config)
        told = result.sentences
        curves = law_figure(found, result, config)
        figures.insert(0, sections.Figure(curves, "Hollow points are held out of the fits.", wide=True))
    for index, figure in enumerate(figures):
        (folder / f"figure-{index}.svg").write_text(str(figure.source))
    columns = [one for one in SHOWN if any(one in row for row in found)]
    spent = [{"stage": stage, **row} for stage, row in stages.items()]
    minutes = sum(row["seconds"] for row in stages.values()) / 60
    lead = (
        f"{len(found)} rows in {minutes:.1f} min of stages, shared by up to {workers} workers; {os.cpu_count()} cores "
        f"({platform.machine()}), commit {git_commit()}. Closed loop in converged C MuJoCo at assist 0."
    )
    pictures = [f"![{index}](figure-{index}.svg)" for index in range(len(figures))]
    table = grid(columns, [[row.get(one) for one in columns] for row in found])
    costs = grid(tuple(spent[0]), [list(one.values()) for one in spent])
    words = [f"# {name}, small, on real motion", f"`{command}`", lead, "\n".join(f"- {one}" for one in told)]
    words += [*pictures, "\n".join(table), "## Bill", "\n".join(costs)]
    (folder / "RESULT.md").write_text("\n\n".join(words) + "\n")
    parts: list[sections.Section] = [
        sections.Text("What the data supports", "\n".join(f"- {one}" for one in told)),
        sections.Figures("Figures", figures),
        sections.Table("Runs", found, columns),
        sections.Table("Bill", spent),
        sections.Reproduce([command]),
    ]
    return write_report(folder / "report.html", title=f"{name}, small, on real motion", sections=parts, subtitle=lead)


def main() -> None:
    """Works, then keeps."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--store", default="runs/small_studies")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="for a rehearsal")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    stated = {
        path: value if isinstance(value, str) else json.dumps(value) for path, value in STUDIES[given.study].items()
    }
    settings = [*(f"{path}={value}" for path, value in stated.items()), *given.set]
    words = ["sweep", "work", given.study, "--store", given.store, "--workers", str(given.workers)]
    words += [word for setting in settings for word in ("--set", setting)]
    if code := scaling(words):
        raise SystemExit(code)
    sweep = find_sweep(given.study, list(overrides(settings).items()))
    command = " ".join(["python experiments/small_studies.py", given.study, *(f"--set {one}" for one in given.set)])
    print(keep(given.study, sweep, Ledger(open_shelf(given.store)), command, given.workers))


if __name__ == "__main__":
    main()
