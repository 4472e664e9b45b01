"""Three ways to a student at about the same cost: PPO experts + DAgger, dreamed experts + DAgger, and no experts.

    python experiments/three_recipes.py      # about 40 minutes on two cores

Generated motion (the quickstart's corpus), four clusters, an MLP and a Transformer of 0.2 M parameters, one seed, all
of it at assist 0. The minutes are those of making one student alone, compiling included: its bank, the states that
judge it, and itself. PPO and the direct students are given about as many as a dreamed bank and its student take.
Played on `val` and on `test` from the same starts. The table is in `three_recipes/RESULT.md`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.bench.row import machine
from scaling.distill.direct import DirectConfig
from scaling.experts.dream_config import DreamConfig
from scaling.experts.ppo import PPOConfig
from scaling.motion.corpus import Corpus
from scaling.record.store import ArtifactStore
from scaling.study import corpus_stages, judge, stages, student_stages
from scaling.study.config import ClosedLoopConfig, StudyConfig, quickstart
from scaling.study.keep import grid
from scaling.tracking.env import EnvConfig

FOLDER = Path(__file__).with_suffix("")
OUT = Path("runs/three_recipes")
ENV = EnvConfig(episode_seconds=10.0, start_noise=0.5)
DREAM = DreamConfig(iterations=60, env=replace(ENV, reward="absolute"))
PPO = PPOConfig(envs=128, iterations=300, env=ENV)
DIRECT = DirectConfig(replace(DREAM, envs=128, actor_batch=64, iterations=60, warm_start=0.0))
SIZE = "0.2M"


def study(experts: PPOConfig | DreamConfig) -> StudyConfig:
    """One recipe with experts; the third stands beside both."""
    config = quickstart()
    return replace(
        config,
        name="three recipes",
        clusters=(4,),
        experts=experts,
        sizes=(SIZE,),
        arms=(1.0,),
        seeds=1,
        dagger=replace(config.dagger, rounds=4, updates=600),
        closed_loop=ClosedLoopConfig(starts=96, seconds=10.0),
        direct=DIRECT,
    )


def main() -> None:
    """Every stage that is not done yet, then the table."""
    store, lines = ArtifactStore(OUT.resolve() / "store"), []
    for name, experts in (("dreamed experts", DREAM), ("PPO experts", PPO)):
        config = study(experts)
        corpus = corpus_stages.corpus_stage(store, config)
        teaching = stages.teaching_stages(store, config, corpus, 4)
        runs = student_stages.runs_of(config, Corpus.load(corpus.path), corpus_stages.load_clusters(teaching.clusters))
        made = teaching.bank.seconds + teaching.valset.seconds
        for family in config.families:
            group = student_stages.students_stage(store, config, corpus, [teaching], family, SIZE)
            lines.append(line(store, config, corpus, f"{name} + DAgger", family, group, runs, made + group.seconds))
    config = study(DREAM)
    clusters = corpus_stages.cluster_stage(store, corpus, corpus_stages.embedding_stage(store, corpus), 4, config.seed)
    alone = student_stages.direct_runs(config, Corpus.load(corpus.path), corpus_stages.load_clusters(clusters))
    for family in config.families:
        group = student_stages.direct_stage(store, config, corpus, clusters, family, SIZE)
        lines.append(line(store, config, corpus, "direct", family, group, alone, group.seconds))
    head = ["recipe", "student", "minutes"]
    head += [f"{split}: {what}" for split in ("val", "test") for what in ("survival, s", "success", "error, mm")]
    note = f"`python experiments/three_recipes.py`, {machine()}. Of at most 10 s, assist 0."
    text = ["# Three recipes", "", note, ""]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "RESULT.md").write_text("\n".join([*text, *grid(head, lines)]) + "\n")


def line(
    store: ArtifactStore, config: StudyConfig, corpus: Any, recipe: str, family: str, group: Any, runs: Any, took: float
) -> list[Any]:
    """A row of the table: both splits in converged C MuJoCo."""
    found: list[Any] = [recipe, family, took / 60]
    for split in ("val", "test"):
        played = {"val": judge.closed_loop_stage(store, config, corpus, group, runs, split)}
        [row] = judge.load_closed_loop(played)
        low, high = row["success_sonic_low"], row["success_sonic_high"]
        found += [row["survival_s"], f"{row['success_sonic']:.2f} [{low:.2f}, {high:.2f}]", row["mpjpe_l_mm"]]
    return found


if __name__ == "__main__":
    main()
