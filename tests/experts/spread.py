"""Trains four tiny experts in a process of its own: `python spread.py WORK ITERATIONS SLOTS [RANK PROCESSES PORT]`.

The number of simulated devices comes from XLA_FLAGS. The bank is left in WORK; a checkpoint is made at every turn.
"""

import sys
from dataclasses import replace
from pathlib import Path

import jax

if __name__ == "__main__" and len(sys.argv) > 4:
    rank, processes, port = (int(text) for text in sys.argv[4:7])
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
    envs=4, unroll=4, minibatches=2, epochs=1, hidden=(16,), value_hidden=(16,), warm_start=0.0, critic_warmup=0,
    learning_rate=1e-5, env=EnvConfig(episode_seconds=4.0, start_noise=0.5),
)  # fmt: skip
SHORT = CompetenceConfig(starts=2, seconds=0.1)


def clips():
    """A store of four clips and one cluster for each."""
    motions = [generate(family, 5.0, seed) for family in ("squat", "arm_wave") for seed in (1, 2)]
    return pack([motion.qpos for motion in motions]), [np.array([k]) for k in range(EXPERTS)]


def train(work: Path, iterations: int, waves: WaveConfig = WaveConfig()):
    """The bank and its card."""
    store, clusters = clips()
    config = replace(CONFIG, iterations=iterations)
    return train_bank(jax.random.key(0), store, clusters, config, work, competence=SHORT, waves=waves)


if __name__ == "__main__":
    checkpoint._EVERY_S = 0.0
    train(Path(sys.argv[1]), int(sys.argv[2]), WaveConfig(slots=int(sys.argv[3])))
