"""Does it help the learned simulator to be given the motion of a robot that touches nothing?

    python experiments/gray_box.py      # about 11 minutes of one core

The same transitions of C MuJoCo (playback with noise along four real takes, falls kept), the same updates: black
(everything learned) and gray (MJX without contacts, exact, and a network for what contacts add). Errors after 1, 8 and
32 steps on four takes that neither saw, and what the updates cost in processor time (of all cores, compiling included).
The table is in `gray_box/RESULT.md`. Gray with windows of 6 is left out: back-propagation through MJX did not make 50
updates in 5 minutes of a core.
"""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from real_experts import POOL

from scaling.bench.row import machine
from scaling.dynamics.card import measure
from scaling.dynamics.data import CollectConfig, Transitions, collect
from scaling.dynamics.model import ModelConfig
from scaling.dynamics.train import TrainConfig, train
from scaling.motion.clip import resample
from scaling.motion.read import read_motion
from scaling.study.keep import grid
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.physics import CPhysics
from scaling.tracking.reference import ClipStore, pack

FOLDER = Path(__file__).with_suffix("")
SEEN = ("lafan1/walk1_subject1", "g1_moves/J_Dance12_LushLife", "g1_moves/B_StretchDance", "g1_moves/B_HandsChop")
UNSEEN = ("lafan1/dance1_subject2", "g1_moves/B_HandsUp", "lafan1/walk3_subject1", "g1_moves/J_Dance4_Broadway")
WAYS = {
    "black": (ModelConfig(), TrainConfig(window=1, updates=1500, batch=512)),
    "gray": (ModelConfig(gray=True), TrainConfig(window=1, updates=1500, batch=512)),
    "black, windows of 6": (ModelConfig(), TrainConfig(window=6, updates=500, batch=256)),
}


def play(names: tuple[str, ...], seed: int) -> tuple[ClipStore, Transitions]:
    """Noisy playback of 40 s of each take, and the clips."""
    store = pack([resample(read_motion(POOL / f"{name}.csv.gz")).qpos[:2000] for name in names])
    count = len(names)
    task = Task(store, jnp.arange(count), jnp.full((count,), 1.0 / count), jnp.zeros(()))
    env = TrackingEnv(CPhysics(), EnvConfig(start_noise=0.5))
    return store, collect(jax.random.key(seed), env, task, CollectConfig(envs=128, steps=500))


def main() -> None:
    """Both models, with the shorter and the longer windows."""
    _, seen = play(SEEN, 0)
    store, unseen = play(UNSEEN, 1)
    lines: list[list[Any]] = []
    for name, (model, config) in WAYS.items():
        began = time.process_time()
        trained = train(jax.random.key(0), seen, config, model, title=name)
        minutes = (time.process_time() - began) / 60
        card = measure(model, trained.dream, unseen, store, (1, 8, 32), most=2048)
        rows = {row["horizon"]: row for row in card.errors if (row["states"], row["predictor"]) == ("all", "model")}
        explained = np.mean([value for value in card.r2["all"].values() if value is not None])
        errors = [rows[steps][what] for steps in (1, 8, 32) for what in ("root_rad", "joints_rad")]
        lines.append([name, config.updates, minutes, explained, *errors])
        head = ("model", "updates", "core minutes", "R2 of a step", *(f"{what}, {n}" for n in (1, 8, 32) for what in ("root, rad", "joints, rad")))  # fmt: skip  # noqa: E501
        table = grid(head, lines)
        text = ["# Black or gray box", "", f"`python experiments/gray_box.py`, {machine()}", "", *table]
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "RESULT.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
