"""The best and the worst that a bank does, as pictures beside its record and in its TensorBoard mirror."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.experts.bank import Bank, BankCard
from scaling.experts.competence import bank_player
from scaling.record.progress import Progress
from scaling.record.runs import RunLog
from scaling.tracking.evaluate import Starts
from scaling.tracking.reference import ClipStore
from scaling.view.film import RenderSettings
from scaling.view.render import view_rollout
from scaling.view.rollout import Rollout

_SETTINGS = RenderSettings(fps=10, max_seconds=4.0, width=320, height=240)


def picture_bank(work: Path, bank: Bank, card: BankCard, store: ClipStore, seconds: float = 6.0) -> dict[str, Path]:
    """Strips of the best expert on its best clip and of the worst on its worst, at assist 0 from the first frame.

    They are left in `work/pictures/best` and `.../worst` (with a video and a player), and in the mirror of `work/log`.
    """
    rows = [row for row in card.competence if row["assist"] == 0]
    ranked = sorted(rows, key=lambda row: row["expert_seconds"][0])
    shown = {"best": (ranked[-1], "best_clip"), "worst": (ranked[0], "worst_clip")}
    paths = {}
    with Progress("pictures of experts", len(shown)) as progress:
        progress.update(0)
        for name, rollout in zip(shown, _play(bank, store, list(shown.values()), seconds, card), strict=True):
            paths[name] = Path(view_rollout(rollout, work / "pictures" / name, _SETTINGS)["strip"])
            progress.update(len(paths))
    with RunLog(work / "log") as log:
        for name, path in paths.items():
            log.picture(max(one["left_at"] for one in card.training), f"{name}_clip", path.read_bytes())
    return paths


def _play(
    bank: Bank, store: ClipStore, shown: list[tuple[dict[str, Any], str]], seconds: float, card: BankCard
) -> list[Rollout]:
    clips = np.array([row[which] for row, which in shown], np.int32)
    experts = np.array([row["cluster"] for row, _ in shown])
    start, length = np.asarray(store.start), np.asarray(store.length)
    steps = np.minimum(round(seconds * 50), length[clips] - 1).astype(np.int32)
    starts = Starts(jnp.asarray(clips[:, None]), jnp.zeros((len(clips), 1), jnp.int32), jnp.asarray(steps[:, None]))
    some = jax.tree.map(lambda x: jnp.asarray(x)[experts], bank)
    trace = bank_player()(some, store, starts, jnp.zeros(()), int(steps.max()))
    rollouts = []
    for index, (clip, expert, count) in enumerate(zip(clips, experts, steps, strict=True)):
        qpos = np.asarray(trace.qpos[index, :count, 0])
        failed = np.flatnonzero(np.asarray(trace.failed[index, :count, 0]))
        rollouts.append(
            Rollout(
                qpos=qpos,
                reference=np.asarray(store.qpos)[start[clip] + 1 : start[clip] + 1 + count],
                rate_hz=50.0,
                title=f"clip {clip} by expert {expert} ({card.trainer.upper()})",
                assist=0.0,
                failed_at=int(failed[0]) if len(failed) else None,
            )
        )
    return rollouts
