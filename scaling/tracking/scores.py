"""Figures of a played trace: FACTS' metrics per episode, and their means over episodes with intervals."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from scaling.robot.model import CONTROL_DT
from scaling.tracking.intervals import bootstrap_mean, wilson

Array = Any

SUCCESS = {"sonic": "success_sonic", "humanoid-gpt": "success_hgpt"}
METRICS = {"sonic": ("mpjpe_l_mm",), "humanoid-gpt": ("mpkpe_hgpt_mm", "mpjpe_rad", "mpjve_rad_s", "root_vel_err")}
"""The errors that each protocol reports, up to failure."""


@dataclass(frozen=True)
class StartsConfig:
    """What a policy is played from: random starts, each at most `seconds` long, judged by a named `protocol`."""

    starts: int = 24
    seconds: float = 3.0
    protocol: str = "sonic"

    def __post_init__(self) -> None:
        if self.starts < 1 or self.seconds <= 0:
            raise ValueError(f"starts {self.starts}, seconds {self.seconds}: both above 0")
        if self.protocol not in SUCCESS:
            raise ValueError(f"protocol {self.protocol!r}: one of {sorted(SUCCESS)}")


class Trace(NamedTuple):
    """Per control step and episode, the state at t against the reference at t (beyond an episode's end not `valid`).

    From the step after its failure on, a robot waits where it fell, without velocity, while its reference moves on.
    `also` are failures by further protocols that judge the same play; then it is the last failure that it waits after.
    """

    valid: Bool[Array, "T E"]
    failed: Bool[Array, "T E"]
    joint: Float[Array, "T E"]  # rad
    joint_velocity: Float[Array, "T E"]  # rad/s
    local: Float[Array, "T E"]  # m
    own_frame: Float[Array, "T E"]  # m
    root_velocity: Float[Array, "T E"]  # m/s
    qpos: Float[Array, "T E 36"]
    also: Bool[Array, "T E P"] | tuple[()] = ()


@dataclass(frozen=True)
class Scores:
    """Per episode; errors are means up to failure (NaN where it failed at once), or where so named over the whole clip.

    Over the whole clip a fallen robot counts as it waits where it fell (see `Trace`); NaN where several protocols judge
    one play, for then it does not wait there.
    """

    seconds: Float[np.ndarray, "E"]
    wanted: Float[np.ndarray, "E"]
    success: Bool[np.ndarray, "E"]
    mpjpe_l_mm: Float[np.ndarray, "E"]
    mpjpe_l_whole_mm: Float[np.ndarray, "E"]
    mpkpe_hgpt_mm: Float[np.ndarray, "E"]
    mpjpe_rad: Float[np.ndarray, "E"]
    mpjve_rad_s: Float[np.ndarray, "E"]
    root_vel_err: Float[np.ndarray, "E"]
    mpkpe_hgpt_whole_mm: Float[np.ndarray, "E"]
    mpjpe_whole_rad: Float[np.ndarray, "E"]
    mpjve_whole_rad_s: Float[np.ndarray, "E"]
    root_vel_err_whole: Float[np.ndarray, "E"]


ERRORS = tuple(field.name for field in fields(Scores) if field.name not in ("seconds", "wanted", "success"))


def judged(trace: Trace, number: int) -> Trace:
    """The trace as the protocol of this number sees it: 0 is the first, the others are those of `also`."""
    return trace if number == 0 else trace._replace(failed=np.asarray(trace.also)[..., number - 1])


def scores(trace: Trace) -> Scores:
    """Per-episode figures of a trace of one batch."""
    valid, failed = np.asarray(trace.valid), np.asarray(trace.failed)
    alive, whole = valid & ~failed, valid & (np.size(trace.also) == 0)

    def mean(values: Any, mask: np.ndarray) -> np.ndarray:
        kept = np.where(mask, np.asarray(values, np.float64), 0.0)
        count = mask.sum(axis=0)
        return np.where(count > 0, kept.sum(axis=0) / np.maximum(count, 1), np.nan)

    return Scores(
        seconds=alive.sum(axis=0) * CONTROL_DT,
        wanted=valid.sum(axis=0) * CONTROL_DT,
        success=np.asarray(~failed.any(axis=0)),
        mpjpe_l_mm=1000 * mean(trace.local, alive),
        mpjpe_l_whole_mm=1000 * mean(trace.local, whole),
        mpkpe_hgpt_mm=1000 * mean(trace.own_frame, alive),
        mpjpe_rad=mean(trace.joint, alive),
        mpjve_rad_s=mean(trace.joint_velocity, alive),
        root_vel_err=mean(trace.root_velocity, alive),
        mpkpe_hgpt_whole_mm=1000 * mean(trace.own_frame, whole),
        mpjpe_whole_rad=mean(trace.joint, whole),
        mpjve_whole_rad_s=mean(trace.joint_velocity, whole),
        root_vel_err_whole=mean(trace.root_velocity, whole),
    )


def aggregate(scores: Scores, protocol: str, mask: Bool[np.ndarray, "E"] | None = None) -> dict[str, Any]:
    """Means over episodes (of `mask`), each with a 95 % interval (`NAME_interval`).

    Wilson's on success, a bootstrap over episodes elsewhere; [None, None] where one episode says nothing of the spread.
    """
    mask = np.ones(len(scores.success), bool) if mask is None else mask
    success = wilson(scores.success[mask])
    found: dict[str, Any] = {"episodes": int(mask.sum()), SUCCESS[protocol]: success.value}
    found[f"{SUCCESS[protocol]}_interval"] = [success.low, success.high]
    for name, values in {"survival_s": scores.seconds, **{error: getattr(scores, error) for error in ERRORS}}.items():
        mean = bootstrap_mean(values[mask])
        interval = [mean.low, mean.high] if np.isfinite(values[mask]).sum() > 1 else [None, None]
        found |= {name: mean.value, f"{name}_interval": interval}
    return found
