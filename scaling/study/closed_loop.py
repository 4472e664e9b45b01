"""Finished students in converged C MuJoCo: the closed-loop columns of their rows."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from scaling.distill.student import Student, policy, policy_params
from scaling.record.progress import Progress
from scaling.robot.model import CONVERGED
from scaling.study.config import ClosedLoopConfig
from scaling.tracking.evaluate import make_player, random_starts, scores
from scaling.tracking.intervals import wilson
from scaling.tracking.physics import CPhysics
from scaling.tracking.reference import ClipStore


def play_students(
    students: Sequence[Student],
    store: ClipStore,
    clips: Int[np.ndarray, "m"],
    assist: float,
    config: ClosedLoopConfig,
) -> list[dict[str, Any]]:
    """Columns of each student on the same starts over `clips`, at `assist` and (with a suffix) at 0."""
    steps = round(config.seconds * 50)
    starts = random_starts(store, clips, config.starts, steps, seed=11)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(students), *x.shape)), starts)
    play = make_player(CPhysics(CONVERGED), policy(students[0].config), config.protocol, batched_params=True)
    params = policy_params(students)
    rows: list[dict[str, Any]] = [{} for _ in students]
    levels = {assist: ""} | {0.0: "_assist0"} if assist else {0.0: ""}
    with Progress(f"closed loop, {students[0].config.family}", len(levels)) as progress:
        for done, (level, suffix) in enumerate(levels.items()):
            progress.update(done, message=f"assist {level:g}")
            trace = play(params, store, many, jnp.asarray(level, jnp.float32), steps)
            for index, row in enumerate(rows):
                result = scores(jax.tree.map(lambda x, index=index: x[index], trace))
                success = wilson(result.success)
                row |= {
                    f"success_{config.protocol}{suffix}": success.value,
                    f"success_{config.protocol}_low{suffix}": success.low,
                    f"success_{config.protocol}_high{suffix}": success.high,
                    f"survival_s{suffix}": float(result.seconds.mean()),
                    f"mpjpe_l_mm{suffix}": _mean(result.mpjpe_l_mm),
                    f"mpjpe_rad{suffix}": _mean(result.mpjpe_rad),
                }
            progress.update(done + 1)
    return rows


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
