"""How good each expert is: beside open-loop playback, on the same random starts, in converged C MuJoCo."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from scaling.experts.bank import BANK_POLICY, Bank
from scaling.record.progress import Progress
from scaling.robot.model import CONVERGED
from scaling.tracking.evaluate import Scores, Starts, Trace, make_player, random_starts, scores
from scaling.tracking.intervals import bootstrap_mean, wilson
from scaling.tracking.physics import CPhysics
from scaling.tracking.reference import ClipStore
from scaling.tracking.scores import SUCCESS, StartsConfig

_TOGETHER = 16  # experts in one call: one program whatever K is, and a trace that fits in memory


@dataclass(frozen=True)
class CompetenceConfig(StartsConfig):
    """How each expert is scored against open-loop playback.

    An expert below `target` times the survival of open-loop playback at assist 0 is flagged.
    """

    starts: int = 128
    target: float = 1.3


@lru_cache(maxsize=4)
def bank_player(protocol: str = "sonic") -> Any:
    """`make_player` of stacked experts in converged C MuJoCo, one for all banks of a process: it compiles once."""
    return make_player(CPhysics(CONVERGED), BANK_POLICY, protocol, batched_params=True)


def measure_competence(
    bank: Bank,
    store: ClipStore,
    clusters: Sequence[Int[np.ndarray, "m"]],
    assist: float,
    config: CompetenceConfig,
    title: str = "experts",
) -> list[dict[str, Any]]:
    """Rows per assist (that in force, then 0) and expert: survival and error beside open loop, with intervals."""
    steps = round(config.seconds * 50)
    each = [random_starts(store, cluster, config.starts, steps, seed=7) for cluster in clusters]
    play = bank_player(config.protocol)
    # A bank of zeros acts zero, which is open-loop playback: one program serves both.
    contestants = (bank, jax.tree.map(jnp.zeros_like, bank)._replace(normaliser=bank.normaliser))
    together = min(_TOGETHER, len(clusters))
    groups = [np.arange(first, first + together) % len(clusters) for first in range(0, len(clusters), together)]
    levels = [assist, 0.0] if assist else [0.0]
    rows: list[dict[str, Any]] = []
    with Progress(f"{title}: competence", len(levels) * len(groups) * len(contestants)) as progress:
        done = 0
        for level in levels:
            found: dict[int, list[Scores]] = {}
            for group in groups:
                starts: Starts = jax.tree.map(lambda *x: jnp.stack(x), *(each[k] for k in group))
                for params in contestants:
                    some = jax.tree.map(lambda x, group=group: jnp.asarray(x)[group], params)
                    trace = play(some, store, starts, jnp.asarray(level, jnp.float32), steps)
                    for place, k in enumerate(group):
                        found.setdefault(int(k), []).append(scores(Trace(*(values[place] for values in trace))))
                    done += 1
                    progress.update(done)
            rows += [
                {
                    "cluster": k,
                    "segments": len(clusters[k]),
                    "assist": level,
                    **compare(found[k][0], found[k][1], config),
                    **extremes(np.asarray(each[k].clip), found[k][0].seconds / found[k][0].wanted),
                }
                for k in range(len(clusters))
            ]
    return rows


def extremes(clip: Int[np.ndarray, "E"], share: Float[np.ndarray, "E"]) -> dict[str, int]:
    """The clips of which the largest and the smallest share is survived, on average over their starts."""
    clips = np.unique(clip)
    means = [share[clip == one].mean() for one in clips]
    return {"best_clip": int(clips[np.argmax(means)]), "worst_clip": int(clips[np.argmin(means)])}


def compare(expert: Scores, open_loop: Scores, config: CompetenceConfig) -> dict[str, Any]:
    """Expert beside baseline, whether it beats it, and whether it reaches the target.

    It beats open loop with 1.3x the survival and intervals apart, or with equal survival and 10 % less error.
    """
    row: dict[str, Any] = {"starts": len(expert.seconds), "seconds": config.seconds, "protocol": config.protocol}
    for name, figures in (("expert", expert), ("open_loop", open_loop)):
        for quantity in ("seconds", "mpjpe_rad", "mpjpe_l_mm"):
            row[f"{name}_{quantity}"] = list(bootstrap_mean(getattr(figures, quantity)))
        row[f"{name}_{SUCCESS[config.protocol]}"] = list(wilson(figures.success))
    survival, error = row["expert_seconds"], row["expert_mpjpe_rad"]
    base, base_error = row["open_loop_seconds"], row["open_loop_mpjpe_rad"]
    row["survival_ratio"] = survival[0] / max(base[0], 1e-9)
    row["error_ratio"] = error[0] / max(base_error[0], 1e-9)
    longer = row["survival_ratio"] >= 1.3 and survival[1] > base[2]
    closer = survival[2] >= base[1] and row["error_ratio"] <= 0.9 and error[2] < base_error[1]
    row["beats_open_loop"] = bool(longer or closer)
    row["competent"] = bool(row["survival_ratio"] >= config.target)
    return row
