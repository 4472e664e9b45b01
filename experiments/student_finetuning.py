"""Does PPO improve a distilled student, and what does holding it to the distilled policy cost or save?

    python experiments/student_finetuning.py                    # 17 minutes on one core
    python experiments/student_finetuning.py --generated        # 10 minutes on one core
    python experiments/student_finetuning.py --iterations 5     # a rehearsal: prints, keeps nothing

Students of the kept bank of real clips (g1_moves, not kept here), MLP and Transformer of 0.2 M parameters on the full
arm, two seeds; then PPO from their weights by the figures that a study takes where it is told no others. These were
chosen on generated motion: with `--generated` the MLPs of the quickstart with its kept bank. Each is played before and
after on the same starts of `val` and `test`, at most 10 s, assist 0, in converged C MuJoCo. The tables are in
`student_finetuning/`. Stopped, it goes on where it was.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.bench.row import machine
from scaling.distill.finetune import FinetuneConfig
from scaling.motion.corpus import Corpus
from scaling.record.store import ArtifactStore
from scaling.study import corpus_stages, judge, stages, student_stages, tuned_stages
from scaling.study.config import ClosedLoopConfig, StudyConfig, quickstart
from scaling.study.keep import grid

MOTIONS, BANK = "../shared/motions/g1_29dof/g1_moves", "experiments/banks/g1_moves"
GENERATED = "experiments/banks/generated"
FOLDER, OUT = Path(__file__).with_suffix(""), Path("runs/student_finetuning")
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


def sentence(family: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """Seconds of survival gained on the same starts, each seed and split apart."""
    each = [
        f"{split} {', '.join(f'{new[name] - old[name]:+.2f}' for old, new in zip(before, after, strict=True))}"
        for split, name in (("val", "survival_s"), ("test", "test_survival_s"))
    ]
    return f"- {family}, PPO: seconds gained, one figure a seed: {'; '.join(each)}."


def study(generated: bool) -> StudyConfig:
    """Motions, bank, students and how they are played."""
    if generated:
        return replace(
            quickstart(bank=GENERATED),
            families=("mlp",),
            sizes=("0.2M",),
            arms=(1.0,),
            seeds=2,
            closed_loop=ClosedLoopConfig(starts=128, seconds=10.0),
        )
    base = quickstart(MOTIONS, bank=BANK)
    dagger = replace(base.dagger, rounds=4, slots=8, envs=8, updates=600)
    loop = ClosedLoopConfig(starts=64, seconds=10.0)
    return replace(base, sizes=("0.2M",), arms=(1.0,), seeds=2, dagger=dagger, closed_loop=loop)


def main() -> None:
    """Every stage that is not done yet, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", action="store_true")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    given = parser.parse_args()
    config, recipe = study(given.generated), FinetuneConfig(iterations=given.iterations)
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
        dearer = replace(config, finetune=recipe)
        after = tuned_stages.tuned_runs(dearer, held, strata)
        tuned = tuned_stages.tuned_stage(store, dearer, corpus, group, teaching.valset, after)
        losses = [student.columns["tuned_val_loss"] for student in student_stages.load_students(tuned, after)]
        now = played(tuned, after)
        lines.append(line([family, "PPO", tuned.seconds / 60, float(np.mean(losses))], now))
        said.append(sentence(family, before, now))
    head = ["student", "recipe", "minutes", "loss on the bank's val set"]
    for split in ("val", "test"):
        head += [f"{split}: {what}" for what in ("survival, s", "success", "error, mm", "survival of each seed")]
    command = f"python experiments/student_finetuning.py{' --generated' if given.generated else ''}"
    if given.generated:
        said.append("- These figures were chosen by trials played on these very starts: other starts may gain less.")
    length = f"{given.iterations} iterations of {recipe.ppo.steps_per_iteration:,} steps"
    note = f"`{command}`, {length}, {machine()}. Means over two seeds."
    text = ["# Students fine-tuned by PPO", "", note, "", *grid(head, lines), "", *said]
    print("\n".join(text))
    if given.iterations == ITERATIONS:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / ("GENERATED.md" if given.generated else "RESULT.md")).write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
