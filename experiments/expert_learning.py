"""What makes PPO learn balance in few environment steps? One change at a time, on the clips of `real_experts.py`.

    python experiments/expert_learning.py                    # every arm, about 4 minutes each on two idle cores
    python experiments/expert_learning.py small-steps curriculum   # these alone; finished arms are not done again

Four experts (walk, dance, squat-like, stand and gesture), 120 iterations of 256 environments x 16 steps each (0.5 M
environment steps an expert), one seed. Survival of at most 10 s from 64 random starts at assist 0 in converged C
MuJoCo. The table is in `expert_learning/RESULT.md`, the reading of it in `expert_learning/LOG.md`.
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
from real_experts import CONFIG, EXPERTS, clips_and_clusters

from scaling.experts.bank import load_card
from scaling.experts.competence import CompetenceConfig
from scaling.experts.ppo import PPOConfig
from scaling.experts.train import train_bank
from scaling.study.keep import grid

OUT = Path("runs/expert_learning")
FOLDER = Path(__file__).with_suffix("")
BASE = replace(CONFIG, iterations=120)
ARMS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "small-steps": {"noise_std": 0.2, "kl_target": 0.01, "gamma": 0.97, "critic_warmup": 0},
    "gamma-.97": {"gamma": 0.97},
    "gamma-.99": {"gamma": 0.99},
    "std-.2": {"noise_std": 0.2},
    "std-.6": {"noise_std": 0.6},
    "kl-.01": {"kl_target": 0.01},
    "kl-.04": {"kl_target": 0.04, "clip": 0.3},
    "no-warm-start": {"warm_start": 0.0},
    "no-critic-warm-up": {"critic_warmup": 0},
    "curriculum": {"curriculum": ((120_000, 0.3), (240_000, 0.1))},
    "adaptive-starts": {"env": replace(BASE.env, starts="adaptive")},
    "beyondmimic-reward": {"env": replace(BASE.env, reward="beyondmimic")},
    "wide-network": {"hidden": (512, 256, 128), "value_hidden": (512, 256, 128)},
    "no-start-noise": {"env": replace(BASE.env, start_noise=0.0)},
    "128-environments": {"envs": 128, "iterations": 240},
}


def train(name: str) -> None:
    """One arm, unless its card is there."""
    work = OUT / name
    if (work / "card.json").exists():
        return
    store, clusters = clips_and_clusters()
    config: PPOConfig = replace(BASE, **ARMS[name])
    train_bank(
        jax.random.key(0), store, clusters, config, work, competence=CompetenceConfig(64, 10.0), title=name
    )  # fmt: skip


def _said(change: dict[str, Any]) -> str:
    """What differs, in words; of the environment the fields that do."""
    plain = {name: value for name, value in change.items() if name != "env"}
    if "env" in change:
        plain |= {name: value for name, value in asdict(change["env"]).items() if value != asdict(BASE.env)[name]}
    return ", ".join(f"{name} {value}" for name, value in plain.items())


def table() -> str:
    """All finished arms: survival (s) of each expert with its interval, and the mean over experts."""
    rows = []
    for name in ARMS:
        if not (OUT / name / "card.json").exists():
            continue
        card = load_card(OUT / name)
        means = [row["expert_seconds"][0] for row in card.competence]
        cells = ["{:.2f} [{:.2f}, {:.2f}]".format(*row["expert_seconds"]) for row in card.competence]
        errors = [row["expert_mpjpe_rad"][0] for row in card.competence]
        rows.append([name, _said(ARMS[name]), *cells, sum(means) / len(means), sum(errors) / len(errors)])
    open_loop = ["{:.2f} [{:.2f}, {:.2f}]".format(*row["open_loop_seconds"]) for row in card.competence]
    rows.append(["open loop", "", *open_loop, "", ""])
    return "\n".join(grid(("arm", "change", *EXPERTS, "mean, s", "joint error, rad"), rows))


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(ARMS):
        sys.exit(f"no arm is called {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
    for arm in sys.argv[1:] or ARMS:
        train(arm)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "RESULT.md").write_text(f"# What helps an expert to learn\n\n{table()}\n")
