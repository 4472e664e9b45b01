"""How well the simulated robot followed the clip, by the names and limits of FACTS section 4, in NumPy."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from scaling.robot.g1 import END_EFFECTOR_INDEX, KEYPOINT_INDEX
from scaling.robot.kinematics import forward_kinematics
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import angle_between, quat_conj, rotate

PROTOCOL = "sonic"


class Score(NamedTuple):
    """`metrics` by column name (None where there is nothing to average) and the first failed row."""

    metrics: dict[str, float | None]
    failed_at: int | None


def sonic_failures(qpos: Float[np.ndarray, "T 36"], reference: Float[np.ndarray, "T 36"]) -> Bool[np.ndarray, "T"]:
    """Where pelvis or end-effector height is off by more than .25 m, the pelvis by more than 1 rad, or a NaN stands."""
    finite = np.isfinite(qpos).all(axis=1)
    safe = np.where(finite[:, None], qpos, reference)
    ends = [forward_kinematics(frames)[0][:, END_EFFECTOR_INDEX, 2] for frames in (safe, reference)]
    height = np.abs(safe[:, 2] - reference[:, 2])
    off = (height > 0.25) | (np.abs(ends[0] - ends[1]).max(axis=1) > 0.25)
    return off | (angle_between(safe[:, 3:7], reference[:, 3:7]) > 1.0) | ~finite


def score(qpos: Float[np.ndarray, "T 36"], reference: Float[np.ndarray, "T 36"], finished: bool) -> Score:
    """State t against reference t, errors up to failure; row 0 is where both begin and is not counted.

    `finished` says that the clip ran to its last frame without a fault.
    """
    failures = sonic_failures(qpos, reference)
    failures[0] = False
    failed_at = int(np.argmax(failures)) if failures.any() else None
    last = len(qpos) if failed_at is None else failed_at
    kept, wanted = qpos[1:last], reference[1:last]
    metrics: dict[str, float | None] = {
        "success_sonic": float(failed_at is None and finished),
        "survival_s": max(last - 1, 0) * CONTROL_DT,
        "mpjpe_l_mm": None,
        "mpjpe_rad": None,
    }
    if len(kept):
        local = [_local_keypoints(frames) for frames in (kept, wanted)]
        metrics["mpjpe_l_mm"] = 1e3 * float(np.linalg.norm(local[0] - local[1], axis=-1).mean())
        metrics["mpjpe_rad"] = float(np.abs(kept[:, 7:] - wanted[:, 7:]).mean())
    return Score(metrics, failed_at)


def write_rollout(
    path: Path,
    qpos: Float[np.ndarray, "T 36"],
    reference: Float[np.ndarray, "T 36"],
    title: str,
    assist: float,
    result: Score,
) -> Path:
    """The npz that `view.Rollout.load` reads (`scaling view` draws it), written whole or not at all."""
    meta = {
        "rate_hz": 1.0 / CONTROL_DT,
        "title": title,
        "assist": assist,
        "failed_at": result.failed_at,
        "metrics": result.metrics,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            np.savez_compressed(file, qpos=qpos, reference=reference, meta=np.array(json.dumps(meta)))
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _local_keypoints(qpos: Float[np.ndarray, "T 36"]) -> Float[np.ndarray, "T 14 3"]:
    pos, quat = forward_kinematics(qpos)
    key = pos[:, KEYPOINT_INDEX]
    inverse = np.broadcast_to(quat_conj(quat[:, :1]), (*key.shape[:-1], 4))
    return rotate(inverse, key - pos[:, :1])
