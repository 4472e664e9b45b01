"""What does cloning stiffer servos bring to an expert, and what does PPO bring on top of it?

    python experiments/warm_start.py     # about 6 minutes on two cores; prints and keeps warm_start/RESULT.md

One bank of two experts (squats; steps in place) of generated motion, equal environment steps, one seed: PPO from
open-loop playback, the clone alone, and PPO from the clone. Survival (at most 3 s) and joint error in converged C
MuJoCo, 128 random starts, at the assist of training and at 0.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from scaling.experts.train import train_bank
from scaling.motion.synthetic import generate
from scaling.study.config import quickstart
from scaling.tracking.reference import make_store

ARMS = {
    "PPO alone": {"warm_start": 0.0, "noise_std": 0.2},
    "clone alone": {"iterations": 5, "learning_rate": 1e-5, "kl_target": 1e-9},  # as good as no update
    "clone, then PPO": {},
}

if __name__ == "__main__":
    clips = [generate(family, 20.0, seed) for family in ("squat", "step_in_place") for seed in range(4)]
    lengths = np.array([clip.frames for clip in clips])
    store = make_store(np.concatenate([clip.qpos for clip in clips]), np.cumsum(lengths) - lengths, lengths)
    lines = ["| expert | cluster | assist | survival, s | open loop, s | ratio | joint error, rad | open loop, rad |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, changes in ARMS.items():
        config = replace(quickstart().experts, **changes)
        with tempfile.TemporaryDirectory() as work:
            _, card = train_bank(
                jax.random.key(0), store, [np.arange(4), np.arange(4, 8)], config, Path(work), title=name
            )
        for row in card.competence:
            cells = [name, row["cluster"], row["assist"]]
            for quantity, ratio in (("seconds", row["survival_ratio"]), ("mpjpe_rad", None)):
                for who in ("expert", "open_loop"):
                    value, low, high = row[f"{who}_{quantity}"]
                    cells.append(f"{value:.3g} [{low:.3g}, {high:.3g}]")
                if ratio is not None:
                    cells.append(f"{ratio:.2f}")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    path = Path(__file__).with_suffix("") / "RESULT.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("# Warm start\n\n`python experiments/warm_start.py`\n\n" + "\n".join(lines) + "\n")
    print(path.read_text())
