"""Do four experts on real clips balance and track without any help, within an hour on two cores?

    python experiments/real_experts.py     # about 50 minutes on two idle cores; stopped and run again, it goes on

PPO, one program for four experts: a walk (LAFAN1), a dance, deep stretches and squats, and standing with gestures
(g1_moves). The clips stay outside this repository, under ../shared/motions/g1_29dof. Every expert is scored at assist 0
in converged C MuJoCo over 512 random starts of at most 10 s, beside open-loop playback of the same clips. Expected: at
least twice the survival of open-loop playback for every expert. The table, the curves and what helped on the way are in
`real_experts/`.
"""

import time
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int

from scaling.experts.competence import CompetenceConfig
from scaling.experts.ppo import PPOConfig
from scaling.experts.train import train_bank
from scaling.motion.clip import resample
from scaling.motion.read import read_motion
from scaling.study.keep_bank import keep_bank
from scaling.tracking.env import EnvConfig
from scaling.tracking.reference import ClipStore, pack
from scaling.view.experts import picture_bank

POOL = Path("../shared/motions/g1_29dof")
OUT = Path("runs/real_experts")
EXPERTS = {  # file, from and to (s)
    "walk": (("lafan1/walk1_subject1", 0, 60),),
    "dance": (("g1_moves/J_Dance12_LushLife", 0, 60),),
    "squat-like": (("g1_moves/B_StretchDance", 0, 60),),
    "stand and gesture": (("g1_moves/B_HandsChop", 0, 60), ("g1_moves/B_HandsUp", 0, 60)),
}
CONFIG = PPOConfig(iterations=1600, env=EnvConfig(episode_seconds=10.0, start_noise=0.5))


def clips_and_clusters() -> tuple[ClipStore, list[Int[np.ndarray, "m"]]]:
    """The clips of all experts in one store, and which are whose."""
    clips: list[np.ndarray] = []
    clusters = []
    for parts in EXPERTS.values():
        clusters.append(np.arange(len(clips), len(clips) + len(parts)))
        clips += [
            resample(read_motion(POOL / f"{name}.csv.gz")).qpos[50 * first : 50 * last] for name, first, last in parts
        ]
    return pack(clips), clusters


if __name__ == "__main__":
    began = time.monotonic()
    store, clusters = clips_and_clusters()
    bank, card = train_bank(
        jax.random.key(0),
        store,
        clusters,
        CONFIG,
        OUT,
        competence=CompetenceConfig(starts=512, seconds=10.0, target=2.0),
        title="4 experts on real clips",
    )
    picture_bank(OUT, bank, card, store)
    minutes = (time.monotonic() - began) / 60
    command = "python experiments/real_experts.py"
    print(keep_bank(OUT, Path(__file__).with_suffix(""), list(EXPERTS), "Experts on real clips", command, minutes))
