"""Does PPO improve a distilled student, and what does holding it to the distilled policy cost or save?

    python experiments/student_finetuning.py                    # 16 minutes on one core
    python experiments/student_finetuning.py --iterations 5     # a rehearsal: prints, keeps nothing

Students of the kept bank of real clips (g1_moves, not kept here), MLP and Transformer of 0.2 M parameters on the full
arm, two seeds; then PPO from their weights at three prices of the KL divergence. Each is played before and after on the
same starts of `val` and `test`, at most 10 s, assist 0, in converged C MuJoCo. The table is in
`student_finetuning/RESULT.md`. Stopped, it goes on where it was.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.bench.row import machine
from scaling.motion.corpus import Corpus
from scaling.record.store import ArtifactStore
from scaling.study import corpus_stages, judge, stages, student_stages, tuned_stages
from scaling.study.config import ClosedLoopConfig, quickstart
from scaling.study.keep import grid

MOTIONS, BANK = "../shared/motions/g1_29dof/g1_moves", "experiments/banks/g1_moves"
FOLDER, OUT = Path(__file__).with_suffix(""), Path("runs/student_finetuning")
PRICES = (0.0, 0.1, 1.0)
ITERATIONS = 60
SHOWN = ("survival_s", "success_sonic", "mpjpe_l_mm")


def line(words: list[Any], columns: list[dict[str, Any]]) -> list[Any]:
    """A row of the table: each figure's mean over seeds, and survival of each seed."""
    found = list(words)
    for split in ("", "test_"):
        each = [row[f"{split}survival_s"] for row in columns]
        found += [float(np.mean([row[f"{split}{name}"] for row in columns])) for name in SHOWN]
        found.append(", ".join(f"{value:.2f}" for value in each))
    return found


def sentence(family: str, price: float, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """Seconds of survival gained on the same starts, each seed and split apart."""
    each = [
        f"{split} {', '.join(f'{new[name] - old[name]:+.2f}' for old, new in zip(before, after, strict=True))}"
        for split, name in (("val", "survival_s"), ("test", "test_survival_s"))
    ]
    return f"- {family}, kl {price:g}: seconds gained, one figure a seed: {'; '.join(each)}."


def main() -> None:
    """Every stage that is not done yet, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    iterations = parser.parse_args().iterations
    base = quickstart(MOTIONS, bank=BANK)
    dagger = replace(base.dagger, rounds=4, slots=8, envs=8, updates=600)
    loop = ClosedLoopConfig(starts=64, seconds=10.0)
    config = replace(base, sizes=("0.2M",), arms=(1.0,), seeds=2, dagger=dagger, closed_loop=loop)
    store = ArtifactStore(OUT.resolve() / "store")
    corpus = corpus_stages.corpus_stage(store, config)
    teaching = stages.teaching_stages(store, config, corpus, config.clusters[0])
    held, strata = Corpus.load(corpus.path), corpus_stages.load_clusters(teaching.clusters)

    def played(group: Any, runs: Any) -> list[dict[str, Any]]:
        splits = corpus_stages.played_splits(config)
        return judge.load_closed_loop(
            {split: judge.closed_loop_stage(store, config, corpus, group, runs, split) for split in splits}
        )

    lines, said = [], []
    for family in config.families:
        runs = student_stages.runs_of(config, held, strata)
        group = student_stages.students_stage(store, config, corpus, [teaching], family, "0.2M")
        losses = [student.columns["val_loss"] for student in student_stages.load_students(group, runs)]
        before = played(group, runs)
        lines.append(line([family, "distilled", group.seconds / 60, float(np.mean(losses))], before))
        for price in PRICES:
            dearer = replace(config, finetune=replace(config.finetune, iterations=iterations, kl=price))
            after = tuned_stages.tuned_runs(dearer, held, strata)
            tuned = tuned_stages.tuned_stage(store, dearer, corpus, group, teaching.valset, after)
            losses = [student.columns["tuned_val_loss"] for student in student_stages.load_students(tuned, after)]
            words = [family, f"PPO, kl {price:g}", tuned.seconds / 60, float(np.mean(losses))]
            now = played(tuned, after)
            lines.append(line(words, now))
            said.append(sentence(family, price, before, now))
    head = ["student", "recipe", "minutes", "loss on the bank's val set"]
    for split in ("val", "test"):
        head += [f"{split}: {what}" for what in ("survival, s", "success", "error, mm", "survival of each seed")]
    steps = iterations * config.finetune.ppo.envs * config.finetune.ppo.unroll
    note = (
        f"`python experiments/student_finetuning.py`, {iterations} iterations of {steps // iterations:,} steps each, "
        f"{machine()}. Means over two seeds."
    )
    text = ["# Students fine-tuned by PPO", "", note, "", *grid(head, lines), "", *said]
    print("\n".join(text))
    if iterations == ITERATIONS:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "RESULT.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
