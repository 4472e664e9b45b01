"""Trains four tiny experts in a process of its own: `python spread.py WORK KILL [RANK PROCESSES PORT]`.

The number of simulated devices comes from XLA_FLAGS. The bank is left in WORK. With KILL above 0 they train in waves,
with a checkpoint at every turn, and the process is killed when that of turn KILL is about to be made.
"""

import os
import signal
import sys
from pathlib import Path

import jax

if __name__ == "__main__" and len(sys.argv) > 3:
    rank, processes, port = (int(text) for text in sys.argv[3:6])
    jax.distributed.initialize(f"localhost:{port}", processes, rank)

import numpy as np

from scaling.experts import checkpoint
from scaling.experts.competence import CompetenceConfig
from scaling.experts.ppo import PPOConfig
from scaling.experts.roster import WaveConfig
from scaling.experts.train import train_bank
from scaling.motion.synthetic import generate
from scaling.tracking.env import EnvConfig
from scaling.tracking.reference import pack

EXPERTS = 4
CONFIG = PPOConfig(
    envs=4, unroll=4, iterations=3, minibatches=2, epochs=1, hidden=(16,), value_hidden=(16,), warm_start=0.0,
    critic_warmup=0, learning_rate=1e-5, env=EnvConfig(episode_seconds=4.0, start_noise=0.5),
)  # fmt: skip
SHORT = CompetenceConfig(starts=2, seconds=0.1)
WAVES = WaveConfig(slots=2, boundary=1)  # a turn is an iteration


def clips():
    """A store of four clips and one cluster for each."""
    motions = [generate(family, 5.0, seed) for family in ("squat", "arm_wave") for seed in (1, 2)]
    return pack([motion.qpos for motion in motions]), [np.array([k]) for k in range(EXPERTS)]


def train(work: Path, waves: WaveConfig = WaveConfig()):
    """The bank and its card."""
    store, clusters = clips()
    return train_bank(jax.random.key(0), store, clusters, CONFIG, work, competence=SHORT, waves=waves)


def train_until(work: Path, kill: int):
    """In waves, up to the checkpoint of turn `kill`: the iteration and its log line are done, and then lost."""
    save = checkpoint.Checkpoints.save

    def killed(self, turn, *state):
        if turn == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, turn, *state)

    checkpoint.Checkpoints.save, checkpoint._EVERY_S = killed, 0.0
    train(work, WAVES)


if __name__ == "__main__":
    work, kill = Path(sys.argv[1]), int(sys.argv[2])
    train_until(work, kill) if kill else train(work)
