"""Does one learning rate serve both sizes, or the rate over width that `dagger.rate_rule=width` gives?

    python experiments/student_rates.py                  # not timed yet; the rehearsal says how long
    python experiments/student_rates.py --updates 6      # a rehearsal: seconds of each group, nothing is kept

Students of the kept bank of generated motion on the full arm, MLP and Transformer of 0.05 M and 0.2 M parameters, seven
rates a factor of two apart and two seeds, all 14 runs of a student in one program. Prints, and keeps in
`student_rates/RESULT.md`, the validation loss by rate, the best rate of each size (the vertex of a parabola through the
best and its neighbours, log rate), and what either rule loses that was tuned at 0.05 M and is used at 0.2 M.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from scaling.bench.row import machine
from scaling.distill.dagger import RunSpec, train_group
from scaling.motion.corpus import Corpus
from scaling.record.store import ArtifactStore
from scaling.study import corpus_stages, stages
from scaling.study.config import quickstart
from scaling.study.keep import grid

BANK = "experiments/banks/generated"
FOLDER, OUT = Path(__file__).with_suffix(""), Path("runs/student_rates")
SIZES = ("0.05M", "0.2M")
FACTORS = tuple(2.0**power for power in range(-3, 4))
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
    if updates is not None:
        config = replace(config, dagger=replace(config.dagger, updates=updates))
    store = ArtifactStore(OUT.resolve() / "store")
    artifact = corpus_stages.corpus_stage(store, config)
    corpus = Corpus.load(artifact.path)
    clusters = corpus_stages.kept_cluster_stage(store, artifact, BANK)
    bank = stages.bank_stage(store, config, artifact, clusters)
    valset = stages.valset_stage(store, config, artifact, clusters, bank)
    teacher = stages.load_teacher(clusters, bank, valset)
    runs = [
        RunSpec(f"rate x{factor:g} seed {seed}", corpus.indices("train"), seed, rate=factor)
        for factor in FACTORS
        for seed in range(SEEDS)
    ]
    rates = config.dagger.learning_rate * np.array(FACTORS)
    lines, losses, widths = [], {}, {}
    for family in config.families:
        for size in SIZES:
            student = stages.student_config(config, family, size)
            physics = stages.shared_physics(config.physics)
            trained = train_group(student, runs, [teacher], corpus, physics, config.dagger)
            acting, learning = (sum(one.columns[name] for one in trained) for name in ("acting_s", "learning_s"))
            print(f"{family} {size}: acting {acting:.0f} s, learning {learning:.0f} s, compiling included")
            each = np.array([one.columns["val_loss"] or np.inf for one in trained]).reshape(len(FACTORS), SEEDS)
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
    text += [*grid(head, lines), "", *(sentence(family, rates, losses, widths) for family in config.families)]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "RESULT.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


def sentence(family: str, rates: np.ndarray, losses: dict, widths: dict) -> str:
    """What either rule costs at the larger size, read off its measured losses by interpolation in log rate."""
    small, large = ((family, size) for size in SIZES)
    tuned, ratio = best_rate(rates, losses[small]), widths[small] / widths[large]
    fixed, scaled = (float(np.interp(np.log(rate), np.log(rates), losses[large])) for rate in (tuned, tuned * ratio))
    return (
        f"- {family}: tuned at {SIZES[0]} the rate is {tuned:.2g}; at {SIZES[1]} it gives a loss of {fixed:.4f} as it "
        f"is, {scaled:.4f} over width ({tuned * ratio:.2g}), and the best measured is {losses[large].min():.4f}."
    )


if __name__ == "__main__":
    main()
