"""Banks of experts that really track, kept in the repository for whoever has no GPU and little time.

    python experiments/banks.py generated --iterations 100    # on the motion that the quickstart generates
    python experiments/banks.py g1_moves --iterations 480     # on 20 minutes of real clips (CC BY 4.0, not kept here)

Four experts each; what they took is in `banks/NAME/RESULT.md`.
Dreamed experts on the quickstart's corpus and clustering, trained longer than the quickstart can afford; kept in
`banks/NAME` with the parameters in float16 and scored as they are kept: 512 random starts of at most 10 s at assist 0
in converged C MuJoCo. `banks/NAME/SIMULATOR.md` is the error card of the simulator that they dreamed in, on test
motions that neither it nor they saw, against C MuJoCo and against MJX. `scaling quickstart --bank
experiments/banks/NAME` distils from them. Stopped, it goes on where it was.
"""

import argparse
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import jax

from scaling.dynamics.artifact import FOLDER as SIMULATOR
from scaling.dynamics.card import text
from scaling.dynamics.data import CollectConfig
from scaling.dynamics.model import ModelConfig
from scaling.experts.bank import load_bank, save_bank
from scaling.experts.competence import CompetenceConfig, measure_competence
from scaling.experts.dream_config import DreamConfig
from scaling.experts.kept import halved, save_kept
from scaling.experts.simulator import card_simulator
from scaling.motion.corpus import Corpus
from scaling.record.store import ArtifactStore
from scaling.study import corpus_stages, stages
from scaling.study.config import quickstart
from scaling.study.keep_bank import keep_bank
from scaling.tracking.env import EnvConfig
from scaling.tracking.physics import make_physics
from scaling.view.experts import picture_bank

FOLDER = Path(__file__).with_suffix("")
MOTIONS = {"generated": None, "g1_moves": "../shared/motions/g1_29dof/g1_moves"}
PLAY = CollectConfig(envs=32, steps=250)
EXPERTS = DreamConfig(
    iterations=300,
    model=ModelConfig(activation="elu"),  # two of three seeds beyond all of SiLU's: dream_vs_ppo/LOG.md
    env=EnvConfig(reward="absolute", episode_seconds=10.0, start_noise=0.5),
)
SCORE = CompetenceConfig(starts=512, seconds=10.0, target=2.0)


def main() -> None:
    """One bank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=tuple(MOTIONS))
    parser.add_argument("--iterations", type=int, default=EXPERTS.iterations)
    parser.add_argument("--out", type=Path, default=Path("runs/banks"))
    given = parser.parse_args()
    began = time.monotonic()
    config = replace(
        quickstart(MOTIONS[given.name]),
        clusters=(4,),
        experts=replace(EXPERTS, iterations=given.iterations),
        competence=CompetenceConfig(starts=16, seconds=3.0),  # the figures kept are of the rounded experts, below
    )
    store = ArtifactStore(given.out.resolve() / given.name)
    made = corpus_stages.corpus_stage(store, config)
    clusters = corpus_stages.cluster_stage(store, made, corpus_stages.embedding_stage(store, made), 4, config.seed)
    trained = stages.bank_stage(store, config, made, clusters)
    corpus, grouped = Corpus.load(made.path), corpus_stages.load_clusters(clusters)
    clips, members = corpus_stages.store_of(corpus), grouped.experts(corpus)
    bank, card = load_bank(trained.path)
    bank = halved(bank)
    before = {row["cluster"]: row["restored"] for row in card.competence}
    rows = measure_competence(bank, clips, members, 0.0, SCORE, given.name)
    card = replace(card, competence=[row | {"restored": before[row["cluster"]]} for row in rows])
    command = f"python experiments/banks.py {given.name} --iterations {given.iterations}"
    settings = {"motions": asdict(replace(config.motions, path=None)), "corpus": asdict(config.corpus)}
    settings["clustering"] = grouped.report
    save_kept(FOLDER / given.name, bank, card, grouped.labels, corpus, settings, command)
    work = given.out.resolve() / given.name / "kept"
    save_bank(work, bank, card)
    shutil.copytree(trained.path / "log", work / "log", dirs_exist_ok=True)
    picture_bank(work, bank, card, clips)
    minutes = trained.seconds / 60 if trained.cached else (time.monotonic() - began) / 60
    unseen = grouped.of_split(corpus, "test")
    cards = [f"# The simulator that {given.name} dreamed in", ""]
    for backend in ("mujoco", "mjx"):
        found = card_simulator(
            jax.random.key(1), trained.path / SIMULATOR, bank, clips, unseen, make_physics(backend), PLAY
        )
        if found is not None:
            cards += [f"## Against {backend}", "", "```", text(found), "```", ""]
    (FOLDER / given.name / "SIMULATOR.md").write_text("\n".join(cards))
    names = [f"cluster {k}" for k in range(4)]
    title = f"Kept bank: {given.name}"
    print(keep_bank(work, FOLDER / given.name, names, title, command, minutes))


if __name__ == "__main__":
    main()
