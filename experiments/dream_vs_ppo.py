"""Dreamed experts beside PPO's at equal time: same clips, same machine, several seeds.

    python experiments/dream_vs_ppo.py --core 0 --recipes ppo & \\
        python experiments/dream_vs_ppo.py --core 1 --recipes dream      # the race: about 90 minutes, a core each
    python experiments/dream_vs_ppo.py --minutes 1 2 4 --seeds 1 --recipes dream dream-horizon-16    # ablations

Four experts on the clips of `real_experts.py`. The clock of a training runs while it trains: compiling (said apart) and
scoring stand outside. Without `--core` it is the clock on the wall and needs an idle machine; with it, the process is
held to that core and its own processor time is the clock, so that two trainings run side by side and a third job
lengthens neither's minutes. At each mark, survival of at most 10 s and joint error of each expert over 64 random starts
at assist 0 in converged C MuJoCo. Finished trainings are not done again. The tables are in `dream_vs_ppo/`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from real_experts import CONFIG, EXPERTS, clips_and_clusters

from scaling.bench.row import machine
from scaling.dynamics.model import ModelConfig
from scaling.dynamics.train import TrainConfig
from scaling.experts.competence import CompetenceConfig, measure_competence
from scaling.experts.critic import CriticConfig
from scaling.experts.dream_config import DreamConfig
from scaling.experts.loop import pad_clusters
from scaling.experts.mesh import ExpertConfig, Program
from scaling.record.files import write_json
from scaling.study.keep import grid
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.intervals import bootstrap_mean
from scaling.tracking.physics import make_physics

FOLDER = Path(__file__).with_suffix("")
SCORE = CompetenceConfig(starts=64, seconds=10.0)
DREAM = DreamConfig(env=EnvConfig(reward="absolute", episode_seconds=10.0, start_noise=0.5))
ARMS: dict[str, dict[str, Any]] = {
    "horizon-8": {"horizon": 8, "actor_batch": 128},
    "horizon-16": {"horizon": 16, "actor_batch": 64},
    "horizon-64": {"horizon": 64, "actor_batch": 16},
    "true-states": {"gradients": "true", "horizon": 16, "actor_batch": 64},
    "fewer-updates": {"actor_batch": 128, "actor_updates": 4},
    "slow": {"learning_rate": 3e-4},
    "muon": {"optimiser": "muon"},
    "no-average": {"average": 0.0},
    "no-warm-start": {"warm_start": 0.0},
    "half-the-model-updates": {"model_updates": 12},
    "double-the-model-updates": {"model_updates": 48},
    "smaller-model-batches": {"model_updates": 48, "dynamics": TrainConfig(window=6, batch=256)},
    "model-muon": {"dynamics": TrainConfig(window=6, batch=512, optimiser="muon")},
    "model-rate-3e-3": {"dynamics": TrainConfig(window=6, batch=512, learning_rate=3e-3)},
    "tail": {"tail": CriticConfig()},
    "relu": {"model": ModelConfig(activation="relu")},
    "elu": {"model": ModelConfig(activation="elu")},
    "no-soles": {"model": ModelConfig(soles=False)},
    "cotangents-free": {"cotangent_limit": 1e6},
}
RECIPES: dict[str, ExpertConfig] = {"ppo": CONFIG, "dream": DREAM}
RECIPES |= {f"dream-{name}": replace(DREAM, **change) for name, change in ARMS.items()}


def train(recipe: str, seed: int, marks: Sequence[float], clock: Callable[[], float], out: Path) -> None:
    """One training, scored at the marks (minutes); `out` is written at each.

    The cosine of a dreamed training's rates spans `iterations` of its config, whatever the minutes.
    """
    store, clusters = clips_and_clusters()
    config = RECIPES[recipe]
    program = Program(TrackingEnv(make_physics("auto"), config.env), config, 1)
    task = Task(store, *pad_clusters(clusters, np.asarray(store.length)), jnp.zeros(()))
    began = time.perf_counter()
    state = program.init(np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), len(clusters)))), task)
    state, _ = program.advance(state, task)  # compiles; its one iteration is a gift to both
    jax.block_until_ready(state)
    found: dict[str, Any] = {"recipe": recipe, "seed": seed, "machine": machine(), "marks": []}
    found["compile_seconds"] = time.perf_counter() - began
    spent, iterations = 0.0, 1
    for mark in marks:
        while spent < 60.0 * mark:
            before = clock()
            state, _ = program.advance(state, task)
            jax.block_until_ready(state)
            spent, iterations = spent + clock() - before, iterations + 1
        bank = jax.tree.map(np.asarray, program.actors(state))
        rows = measure_competence(bank, store, clusters, 0.0, SCORE, f"{recipe}, seed {seed}, {mark:g} min")
        steps = iterations * config.steps_per_iteration
        found["marks"].append({"minutes": mark, "iterations": iterations, "env_steps": steps, "competence": rows})
        write_json(out, found | {"done": False})
    write_json(out, found | {"done": True})


def table(folder: Path) -> list[str]:
    """Mean over seeds of each expert's survival (s), with the interval of the mean over seeds and experts."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = []
    for recipe in RECIPES:
        mine = [run for run in runs if run["recipe"] == recipe]
        for mark in sorted({one["minutes"] for run in mine for one in run["marks"]}):
            at = [one for run in mine for one in run["marks"] if one["minutes"] == mark]
            here = [one["competence"] for one in at]
            if not here:
                continue
            iterations = np.mean([one["iterations"] for one in at])
            seconds = np.array([[row["expert_seconds"][0] for row in rows] for rows in here])
            errors = np.array([[row["expert_mpjpe_rad"][0] for row in rows] for rows in here])
            spread = bootstrap_mean(seconds.mean(axis=1)) if len(here) > 1 else None
            interval = f"[{spread.low:.2f}, {spread.high:.2f}]" if spread else "one seed"
            each = [f"{value:.2f}" for value in seconds.mean(axis=0)]
            lines.append([recipe, mark, round(iterations), len(here), *each, seconds.mean(), interval, errors.mean()])
    base = [f"{row['open_loop_seconds'][0]:.2f}" for row in runs[0]["marks"][0]["competence"]]
    lines.append(["open loop", "", "", "", *base, np.mean([float(value) for value in base]), "", ""])
    return grid(
        ("recipe", "minutes", "iterations", "seeds", *EXPERTS, "mean, s", "over seeds", "joint error, rad"), lines
    )


def draw(folder: Path) -> None:
    """Survival against minutes, a panel an expert: each seed a dot, their mean a line."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    figure, panels = plt.subplots(1, len(EXPERTS), figsize=(3.0 * len(EXPERTS), 3.0), sharey=True, layout="constrained")
    for column, (panel, name) in enumerate(zip(panels, EXPERTS, strict=True)):
        for colour, recipe in enumerate(one for one in RECIPES if any(run["recipe"] == one for run in runs)):
            found: dict[float, list[float]] = {}
            for mark in (mark for run in runs if run["recipe"] == recipe for mark in run["marks"]):
                found.setdefault(mark["minutes"], []).append(mark["competence"][column]["expert_seconds"][0])
            at = sorted(found)
            panel.plot(at, [np.mean(found[minutes]) for minutes in at], color=f"C{colour}", label=recipe)
            panel.plot([x for x in at for _ in found[x]], [y for x in at for y in found[x]], ".", color=f"C{colour}")
        panel.axhline(runs[0]["marks"][0]["competence"][column]["open_loop_seconds"][0], color="grey", ls=":")
        panel.set(title=name, xscale="log", xlabel="minutes", ylim=(0, SCORE.seconds))
        panel.set_xticks(at, [f"{minutes:g}" for minutes in at])
        panel.minorticks_off()
    panels[0].set_ylabel(f"survival, s of {SCORE.seconds:g} (dotted: open loop)")
    panels[0].legend(frameon=False)
    figure.savefig(folder / "curves.png", dpi=110)
    plt.close(figure)


def main() -> None:
    """All trainings that are missing, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=(2.0, 4.0, 8.0, 16.0), help="when to score")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=("ppo", "dream"))
    parser.add_argument("--core", type=int, help="hold to this core, and count processor time")
    given = parser.parse_args()
    folder, clock, unit = FOLDER, time.perf_counter, "minutes of the clock on the wall"
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
        folder, clock, unit = FOLDER / "one_core", time.process_time, "minutes of processor time on one core"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(given.seeds):
        for recipe in given.recipes:
            out = folder / f"{recipe}_{seed}.json"
            if not (out.exists() and json.loads(out.read_text())["done"]):
                train(recipe, seed, given.minutes, clock, out)
            note = f"`{' '.join(['python', *sys.argv])}`, {machine()}; {unit}"
            text = "\n".join(["# Dreamed experts beside PPO's", "", note, "", *table(folder)])
            (folder / "RESULT.md").write_text(text + "\n\n![Survival against minutes](curves.png)\n")
            draw(folder)


if __name__ == "__main__":
    main()
