"""Does a Transformer earn its cost over an MLP of its size on real clips, and does either's loss fall with frames?

    python experiments/students_on_real_clips.py               # 58 core-minutes
    python experiments/students_on_real_clips.py --rehearse    # the same 60 runs with a few updates; says how long

The 20 minutes of g1_moves (41 clips of a Unitree G1, CC BY 4.0, not kept here) and their kept bank of four experts. MLP
and Transformer at two matched sizes, five nested arms, three seeds: 60 runs, the 15 of a student in one program. Every
run is shown more states of its own than its arm has frames, or the arms could not differ. The table, the curves and
the sentences that the data supports are in `students_on_real_clips/`. Stopped, it goes on where it was.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.bench.row import machine
from scaling.laws.figures import svg
from scaling.record.table import read_table, rows_of
from scaling.study.comparisons import comparisons
from scaling.study.config import ClosedLoopConfig, StudyConfig, quickstart
from scaling.study.keep import grid, keep_results
from scaling.study.quickstart import run_study
from scaling.tracking.intervals import bootstrap_mean

MOTIONS, BANK = "../shared/motions/g1_29dof/g1_moves", "experiments/banks/g1_moves"
FOLDER, OUT = Path(__file__).with_suffix(""), Path("runs/students_on_real_clips")
SIZES = ("0.05M", "0.2M")
ROUNDS, UPDATES = 8, 3200
FEW = (2, 40)  # rounds and updates of the rehearsal
PAIRED = (("val_loss", "validation loss"), ("val_loss_own", "loss on its own states"), ("survival_s", "survival, s"))


def study(rounds: int, updates: int) -> StudyConfig:
    """Sixty runs of so many rounds and updates."""
    base = quickstart(MOTIONS, bank=BANK)
    dagger = replace(
        base.dagger, rounds=rounds, updates=updates, slots=16, envs=8, batch=8, val_every=max(1, updates // 32)
    )
    return replace(
        base,
        name="students on real clips",
        families=("mlp", "transformer"),
        sizes=SIZES,
        seeds=3,
        dagger=dagger,
        closed_loop=ClosedLoopConfig(starts=64, seconds=10.0),
    )


def pairs(rows: list[dict[str, Any]], size: str, column: str) -> np.ndarray:
    """Transformer less MLP on the same arm and seed."""
    found = {(row["student"], row["arm"], row["seed"]): row[column] for row in rows if row["size"] == size}
    return np.array([found["transformer", *key] - value for (kind, *key), value in found.items() if kind == "mlp"])


def beside(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The families side by side at each size: a table of paired differences, and what they say."""
    lines, words = [], []
    for size in SIZES:
        for column, name in PAIRED:
            found = pairs(rows, size, column)
            spread = bootstrap_mean(found)
            lines.append([size, name, spread.value, f"[{spread.low:.3g}, {spread.high:.3g}]"])
            if column == "val_loss":
                lower, higher = spread.high < 0, spread.low > 0
                says = "lower than" if lower else "higher than" if higher else "not told apart from"
                words.append(
                    f"- At {size} the Transformer's validation loss is {says} the MLP's: {spread.value:+.4f}, 95 % "
                    f"interval [{spread.low:+.4f}, {spread.high:+.4f}] over {len(found)} pairs of arm and seed"
                )
        mine = {
            kind: np.mean([row["learning_s"] for row in rows if (row["student"], row["size"]) == (kind, size)])
            for kind in ("mlp", "transformer")
        }
        words[-1] += f"; its updates take {mine['transformer'] / mine['mlp']:.1f}x the MLP's time here."
    return grid(("size", "Transformer less MLP", "mean", "95 % interval"), lines), words


def keep(config: StudyConfig) -> Path:
    """Everything of the finished study that stays in the repository."""
    path = keep_results(config, OUT, FOLDER, "python experiments/students_on_real_clips.py")
    rows = rows_of(read_table(FOLDER / "runs.csv"))
    table, words = beside(rows)
    for name, figure in comparisons(rows, rows_of(read_table(FOLDER / "learning.csv"))).items():
        (FOLDER / f"{name}.svg").write_text(svg(figure))
        table += ["", f"![{name}]({name}.svg)"]
    head, rest = path.read_text().split("![curves](curves.svg)", 1)
    path.write_text(head + "\n".join([*words, "", "![curves](curves.svg)", "", "## The families", "", *table]) + rest)
    return path


def told(summary: dict[str, Any], config: StudyConfig) -> str:
    """How long the whole study takes, from a rehearsal: what grows with rounds and with updates, and what does not."""
    rows = rows_of(read_table(summary["table"]))
    acting, learning = (sum(row[name] for row in rows) for name in ("acting_s", "learning_s"))
    whole = sum(summary["seconds"].values())
    grown = whole + acting * (ROUNDS / config.dagger.rounds - 1) + learning * (UPDATES / config.dagger.updates - 1)
    return (
        f"{machine()}: {whole / 60:.1f} min, of which acting {acting / 60:.1f} and learning {learning / 60:.1f} "
        f"(compiling included); {ROUNDS} rounds and {UPDATES} updates would take at most {grown / 60:.0f} min"
    )


def main() -> None:
    """The study, or its rehearsal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="a few updates, to learn how long the study takes")
    if parser.parse_args().rehearse:
        config = study(*FEW)
        print(told(run_study(config, OUT.with_name(f"{OUT.name}_rehearsal"), "a rehearsal"), config))
        return
    config = study(ROUNDS, UPDATES)
    run_study(config, OUT, "python experiments/students_on_real_clips.py")
    print(keep(config))


if __name__ == "__main__":
    main()
