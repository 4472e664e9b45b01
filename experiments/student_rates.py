"""Does one learning rate serve families and sizes, or one rate over width, as `dagger.rate_rule=width` gives?

    python experiments/student_rates.py                  # six minutes on one core
    python experiments/student_rates.py --updates 6      # a rehearsal: seconds of each group, nothing is kept

Students of the kept bank of generated motion on the full arm, MLP and Transformer of 0.05 M and 0.2 M parameters, eight
rates a factor of two apart and two seeds, all 16 runs of a student in one program. Prints, and keeps in
`student_rates/RESULT.md`, the validation loss by rate, the best rate of each student (the vertex of a parabola through
the best and its neighbours, log rate), and what either rule costs with the one figure that serves all four best.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from scaling.bench.row import machine
from scaling.distill.dagger import RunSpec, train_group
from scaling.motion.corpus import Corpus
from scaling.record.store import ArtifactStore
from scaling.study import corpus_stages, stages, student_stages
from scaling.study.config import quickstart
from scaling.study.keep import grid

BANK = "experiments/banks/generated"
FOLDER, OUT = Path(__file__).with_suffix(""), Path("runs/student_rates")
SIZES = ("0.05M", "0.2M")
RATES = tuple(2.5e-4 * 2.0**power for power in range(8))
SEEDS = 2


def best_rate(rates: np.ndarray, losses: np.ndarray) -> float:
    """The vertex of the parabola through the lowest loss and its neighbours in log rate; the rate itself at an end."""
    low = int(np.argmin(losses))
    if low in (0, len(rates) - 1):
        return float(rates[low])
    square, linear, _ = np.polyfit(np.log(rates[low - 1 : low + 2]), losses[low - 1 : low + 2], 2)
    return float(np.exp(-linear / (2 * square)))


def main() -> None:
    """Four groups of students and the table of their losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, help="of each student, for a rehearsal")
    updates = parser.parse_args().updates
    config = replace(quickstart(bank=BANK), sizes=SIZES)
    dagger = replace(config.dagger, rate_rule="fixed", learning_rate=RATES[0])
    config = replace(config, dagger=dagger if updates is None else replace(dagger, updates=updates))
    store = ArtifactStore(OUT.resolve() / "store")
    artifact = corpus_stages.corpus_stage(store, config)
    corpus = Corpus.load(artifact.path)
    clusters = corpus_stages.kept_cluster_stage(store, artifact, BANK)
    bank = stages.bank_stage(store, config, artifact, clusters)
    valset = stages.valset_stage(store, config, artifact, clusters, bank)
    teacher = stages.load_teacher(clusters, bank, valset)
    runs = [
        RunSpec(f"rate {rate:g} seed {seed}", corpus.indices("train"), seed, rate=rate / RATES[0])
        for rate in RATES
        for seed in range(SEEDS)
    ]
    rates = np.array(RATES)
    lines, losses, widths = [], {}, {}
    for family in config.families:
        for size in SIZES:
            student = student_stages.student_config(config, family, size)
            physics = stages.shared_physics(config.physics)
            trained = train_group(student, runs, [teacher], corpus, physics, config.dagger)
            acting, learning = (sum(one.columns[name] for one in trained) for name in ("acting_s", "learning_s"))
            print(f"{family} {size}: acting {acting:.0f} s, learning {learning:.0f} s, compiling included")
            each = np.array([one.columns["val_loss"] or np.inf for one in trained]).reshape(len(RATES), SEEDS)
            losses[family, size], widths[family, size] = each.mean(axis=1), student.width
            best = best_rate(rates, losses[family, size])
            lines.append([family, size, student.width, *losses[family, size], best])
    if updates is not None:
        return
    head = ["student", "size", "width", *(f"{rate:.2g}" for rate in rates), "best rate"]
    text = [
        "# Rates of students",
        "",
        f"`python experiments/student_rates.py`, {machine()}. Validation loss by rate:",
        "",
    ]
    text += [*grid(head, lines), "", *sentences(rates, losses, widths)]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "RESULT.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


def costs(rates: np.ndarray, losses: dict, at: dict) -> dict:
    """How much higher than its lowest each student's loss is at the rate `at[student]`, as a share; linear in log rate.

    Infinite at a rate outside of those measured.
    """
    return {
        who: float(np.interp(np.log(at[who]), np.log(rates), each, left=np.inf, right=np.inf)) / each.min() - 1
        for who, each in losses.items()
    }


def sentences(rates: np.ndarray, losses: dict, widths: dict) -> list[str]:
    """Each rule with the one figure whose mean cost over the students is the lowest."""
    said = []
    fine = np.geomspace(rates[0], rates[-1], 200)
    for name, over in (("one rate for all", dict.fromkeys(losses, 1)), ("one rate over width", widths)):
        figures = np.unique(np.outer(fine, list(over.values())))
        tried = [(figure, costs(rates, losses, {who: figure / over[who] for who in losses})) for figure in figures]
        figure, cost = min(tried, key=lambda one: np.mean(list(one[1].values())))
        each = ", ".join(f"{' '.join(who)} {share:.1%}" for who, share in cost.items())
        mean = np.mean(list(cost.values()))
        said.append(f"- {name}, {figure:.2g}: the loss is {mean:.1%} above each student's lowest on average ({each}).")
    return said


if __name__ == "__main__":
    main()
