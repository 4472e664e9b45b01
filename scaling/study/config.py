"""A study as frozen values: motions, clusters, experts, students, arms, seeds, and how all of it is judged."""

from dataclasses import dataclass, field

from scaling.distill.config import DaggerConfig, ValConfig
from scaling.experts.ppo import PPOConfig
from scaling.experts.train import CompetenceConfig
from scaling.motion.corpus import FRACTIONS, CorpusConfig
from scaling.motion.segment import SegmentConfig
from scaling.students.config import FAMILIES
from scaling.tracking.env import EnvConfig


@dataclass(frozen=True)
class MotionsConfig:
    """Where clips come from: a path (file, folder or glob), or this many seconds of generated motion."""

    path: str | None = None
    synthetic_seconds: float = 960.0
    take_seconds: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.path is None and self.synthetic_seconds <= 0:
            raise ValueError(f"synthetic_seconds {self.synthetic_seconds}: above 0 where no path is given")


@dataclass(frozen=True)
class ClosedLoopConfig:
    """How each finished student is played on `val`: random starts, each at most `seconds` long."""

    starts: int = 24
    seconds: float = 3.0
    protocol: str = "sonic"

    def __post_init__(self) -> None:
        if self.starts < 1 or self.seconds <= 0:
            raise ValueError(f"starts {self.starts}, seconds {self.seconds}: both above 0")


@dataclass(frozen=True)
class StudyConfig:
    """One study. The first of `clusters` is the fixed clustering by which arms are stratified.

    Every arm, size, family and seed is run with the bank of the first clustering; the other clusterings are run
    at the full arm beside it. All numbers are taken at `assist`, and again at 0.
    """

    name: str = "quickstart"
    motions: MotionsConfig = field(default_factory=MotionsConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    clusters: tuple[int, ...] = (4, 2)
    assist: float = 0.1
    experts: PPOConfig = field(default_factory=PPOConfig)
    competence: CompetenceConfig = field(default_factory=CompetenceConfig)
    val: ValConfig = field(default_factory=ValConfig)
    dagger: DaggerConfig = field(default_factory=DaggerConfig)
    families: tuple[str, ...] = ("mlp", "transformer")
    sizes: tuple[str, ...] = ("0.05M", "0.2M")
    context: int = 32
    history: int = 4
    arms: tuple[float, ...] = FRACTIONS
    seeds: int = 2
    closed_loop: ClosedLoopConfig = field(default_factory=ClosedLoopConfig)
    resamples: int = 500
    physics: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.clusters or min(self.clusters) < 1 or len(set(self.clusters)) != len(self.clusters):
            raise ValueError(f"clusters {self.clusters}: distinct numbers of at least 1")
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown or not self.families or not self.sizes:
            raise ValueError(f"families {self.families}: of {FAMILIES}; sizes {self.sizes}: at least one")
        if not self.arms or max(self.arms) != 1.0 or min(self.arms) <= 0 or sorted(self.arms) != list(self.arms):
            raise ValueError(f"arms {self.arms}: rising fractions that end in 1")
        if self.seeds < 1:
            raise ValueError(f"seeds {self.seeds}: at least 1")
        strengths = {self.assist, self.experts.assist, self.val.assist, self.dagger.assist}
        if len(strengths) != 1:
            raise ValueError(f"assist {sorted(strengths)}: one value for experts, val, dagger and the study")


def quickstart(motions: str | None = None) -> StudyConfig:
    """The study that a newcomer runs: 48 tiny runs in minutes on two cores."""
    assist = 0.1
    env = EnvConfig(episode_seconds=4.0, start_noise=0.5)
    return StudyConfig(
        motions=MotionsConfig(path=motions),
        corpus=CorpusConfig(segments=SegmentConfig(min_seconds=4.0, target_seconds=8.0, max_seconds=16.0)),
        assist=assist,
        experts=PPOConfig(envs=128, iterations=120, noise_std=0.15, assist=assist, env=env),
        val=ValConfig(assist=assist, env=env),
        dagger=DaggerConfig(rounds=3, updates=300, envs=4, own_steps=32, assist=assist, env=env),
    )
