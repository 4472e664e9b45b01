"""Which clips a corpus takes: ends trimmed, spikes mended, every quality figure against its limit, reasons told."""

from dataclasses import dataclass, field

from scaling.motion.clip import Motion
from scaling.motion.collisions import collisions
from scaling.motion.duplicates import DuplicateConfig
from scaling.motion.quality import quality
from scaling.motion.spikes import SpikeConfig, mend


@dataclass(frozen=True)
class Limits:
    """The largest value of each quality figure that a clip may have; units as in the names, shares are of frames.

    All of LAFAN1 and g1-moves pass; the limits are for what no tracker could follow.
    """

    float_median_m: float = 0.15
    penetration_max_m: float = 0.20
    body_penetration_max_m: float = 0.25
    foot_slide_m_s: float = 1.2
    limit_share: float = 0.5
    limit_worst_rad: float = 0.35
    joint_speed_share: float = 0.05
    joint_jerk_p95_rad_s3: float = 2e4
    root_jerk_p95_m_s3: float = 1e4
    self_collision_share: float = 0.7
    self_collision_worst_m: float = 0.15
    root_speed_max_m_s: float = 8.0
    frozen_joints: float = 20.0

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if not limit > 0:
                raise ValueError(f"limit {name} {limit} must be positive")


_WORDS = {
    "float_median_m": "its feet float",
    "penetration_max_m": "its soles sink into the floor",
    "body_penetration_max_m": "its body sinks into the floor",
    "foot_slide_m_s": "its bearing feet slide",
    "limit_share": "joints are beyond their limits too often",
    "limit_worst_rad": "a joint is too far beyond its limit",
    "joint_speed_share": "joints outrun their motors too often",
    "joint_jerk_p95_rad_s3": "its joints jerk",
    "root_jerk_p95_m_s3": "its root jerks",
    "self_collision_share": "its limbs are in each other too often",
    "self_collision_worst_m": "its limbs are too deep in each other",
    "root_speed_max_m_s": "its root teleports",
    "frozen_joints": "most joints never move",
}


@dataclass(frozen=True)
class CurateConfig:
    """Spikes, limits, and when two clips are the same: every threshold of what a corpus takes."""

    spikes: SpikeConfig = field(default_factory=SpikeConfig)
    limits: Limits = field(default_factory=Limits)
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)


@dataclass(frozen=True)
class Verdict:
    """What became of a clip: the clip as mended, its figures, its score, what was done to it, and why it is refused.

    `score` (0 to 1) is the mean over the figures of how much of each limit is left; `reasons` is empty for a clip
    that is taken.
    """

    motion: Motion
    figures: dict[str, float]
    score: float
    done: tuple[str, ...]
    reasons: tuple[str, ...]


def figures_of(motion: Motion) -> dict[str, float]:
    """Every quality figure of a clip, collisions included."""
    return {**quality(motion), **collisions(motion.qpos, motion.rate_hz)}


def score_of(figures: dict[str, float], limits: Limits) -> float:
    """Mean over the figures of the part of each limit that is not used up; figures that are missing do not count."""
    left = [
        max(0.0, 1.0 - max(0.0, figures[name]) / limit) for name, limit in vars(limits).items() if _known(figures[name])
    ]
    return sum(left) / len(left)


def _known(value: float) -> bool:
    return value == value


def curate(motion: Motion, config: CurateConfig | None = None) -> Verdict:
    """Trim, mend and judge one clip at its own rate."""
    config = config or CurateConfig()
    mended = mend(motion, config.spikes)
    figures = figures_of(mended.motion)
    reasons = tuple(
        f"{_WORDS[name]} ({name} {figures[name]:.3g}, at most {limit:g})"
        for name, limit in vars(config.limits).items()
        if _known(figures[name]) and figures[name] > limit
    )
    if mended.left:
        where = ", ".join(f"{second:.2f}" for second in mended.left[:3])
        reasons = (f"{len(mended.left)} spikes of speed cannot be repaired (at {where} s)", *reasons)
    return Verdict(mended.motion, figures, score_of(figures, config.limits), mended.done, reasons)
