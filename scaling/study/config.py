"""A study as frozen values: motions, clusters, experts, students, arms, seeds, and how all of it is judged."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from scaling.contract.layout import seen
from scaling.contract.observation import LOOK_AHEAD
from scaling.distill.config import DaggerConfig, ValConfig
from scaling.distill.direct import DirectConfig
from scaling.distill.finetune import FinetuneConfig
from scaling.distill.pretrain import PretrainConfig
from scaling.experts.competence import CompetenceConfig
from scaling.experts.dream_config import DreamConfig
from scaling.experts.kept import load_kept
from scaling.experts.mesh import ExpertConfig
from scaling.experts.ppo import PPOConfig
from scaling.experts.roster import WaveConfig
from scaling.motion.augment import AugmentConfig
from scaling.motion.corpus import FRACTIONS, CorpusConfig
from scaling.motion.curate import CurateConfig
from scaling.motion.embed import EmbedConfig
from scaling.motion.holdout import UnseenConfig
from scaling.motion.segment import SegmentConfig
from scaling.motion.selection import SELECTIONS, Selection
from scaling.record.hashing import added
from scaling.students.config import DTYPES, FAMILIES
from scaling.tracking.env import EnvConfig
from scaling.tracking.scores import SUCCESS, StartsConfig


@dataclass(frozen=True)
class MotionsConfig:
    """Where clips come from: a path (file, folder, glob or imported corpus), or so many seconds of generated motion.

    `curate` judges and mends the clips of a path and puts copies of one take together; an imported corpus was, and its
    splits stand. `curation` has the thresholds of that. A `path` put in the place of another (`--set motions.path=DIR`)
    is judged. `unseen` families are held out as wholes; `augment` adds copies of the training segments.
    """

    path: str | None = None
    synthetic_seconds: float = 960.0
    take_seconds: float = 20.0
    seed: int = 0
    curate: bool = added(False)
    unseen: UnseenConfig = added(UnseenConfig())
    augment: AugmentConfig = added(AugmentConfig())
    curation: CurateConfig = added(CurateConfig())

    def __post_init__(self) -> None:
        if self.path is None and self.synthetic_seconds <= 0:
            raise ValueError(f"synthetic_seconds {self.synthetic_seconds}: above 0 where no path is given")

    def overridden(self, name: str, value: Any) -> "MotionsConfig | None":
        """The motions with another path, its clips judged."""
        return replace(self, path=value, curate=value is not None) if name == "path" else None


PLAYED = ("val", "test", "test_family")


@dataclass(frozen=True)
class ClosedLoopConfig(StartsConfig):
    """How each finished student is played on each of `splits`.

    `test` splits are reported and choose nothing; `test_family` is played where the corpus has one. The same plays are
    judged by the protocols of `also` too, in columns of their names; `protocol` alone chooses the best student.
    """

    splits: tuple[str, ...] = added(PLAYED, before=("val", "test"))
    also: tuple[str, ...] = added(tuple(SUCCESS), before=())

    @property
    def protocols(self) -> tuple[str, ...]:
        """`protocol`, then the others."""
        return tuple(dict.fromkeys((self.protocol, *self.also)))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not set(self.also) <= set(SUCCESS):
            raise ValueError(f"also {self.also}: of {tuple(SUCCESS)}")
        if "val" not in self.splits or not set(self.splits) <= set(PLAYED):
            raise ValueError(f"splits {self.splits}: val, and any others of {PLAYED}")


@dataclass(frozen=True)
class StudyConfig:
    """One study. The first of `clusters` is the fixed clustering by which arms are stratified.

    Every arm, size, family and seed is run with the bank of the first clustering; the other clusterings are run
    at the full arm beside it. All numbers are taken at `assist`, and again at 0. With `expert_budget` "total" the
    environments of `experts` are those of the first clustering and are shared out among the experts of the others.
    With `direct` each student is also trained without experts, at assist 0, on these arms. With `bank`, the folder of a
    kept bank, clustering and experts are taken from there. With `reference` one more bank, of the first cluster count
    and seeded independently, teaches nobody: the loss of every student is also measured against it.
    `look_ahead`, `auxiliary`, `dtype` and `remat` are those of `StudentConfig`; with `pretrain.hours` each student of a
    bank begins with a trunk that learned to predict the next frame of so much reference motion.
    Clusters are found in the space of `embed`, and `selection` says which segments the smaller arms take. With
    `finetune.iterations` the students of some arms go on by PPO, and stand in the table before and after.
    """

    name: str = "quickstart"
    motions: MotionsConfig = field(default_factory=MotionsConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    clusters: tuple[int, ...] = (4, 2)
    assist: float = 0.0
    experts: ExpertConfig = field(default_factory=DreamConfig)
    expert_budget: Literal["per_expert", "total"] = "per_expert"
    waves: WaveConfig = field(default_factory=WaveConfig)
    bank: str | None = None
    competence: CompetenceConfig = field(default_factory=CompetenceConfig)
    val: ValConfig = field(default_factory=ValConfig)
    dagger: DaggerConfig = field(default_factory=DaggerConfig)
    direct: DirectConfig | None = None
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
    look_ahead: tuple[int, ...] = added(LOOK_AHEAD)
    auxiliary: float = added(0.0)
    pretrain: PretrainConfig = added(PretrainConfig())
    dtype: str = added("float32")
    remat: bool = added(False)
    reference: bool = added(False)
    embed: EmbedConfig = added(EmbedConfig())
    selection: Selection = added("stratified")
    finetune: FinetuneConfig = added(FinetuneConfig())

    def __post_init__(self) -> None:
        if self.reference and self.bank is not None:
            raise ValueError("reference: a kept bank has no other of its kind; train the experts in the study")
        if not self.clusters or min(self.clusters) < 1 or len(set(self.clusters)) != len(self.clusters):
            raise ValueError(f"clusters {self.clusters}: distinct numbers of at least 1")
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown or not self.families or not self.sizes:
            raise ValueError(f"families {self.families}: of {FAMILIES}; sizes {self.sizes}: at least one")
        seen(self.look_ahead)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r}: of {DTYPES}")
        if not 0 <= self.auxiliary < math.inf:
            raise ValueError(f"auxiliary {self.auxiliary}: a weight of at least 0")
        if self.expert_budget not in ("per_expert", "total"):
            raise ValueError(f"expert_budget {self.expert_budget!r}: 'per_expert' or 'total'")
        if self.bank is not None and len(self.clusters) > 1:
            raise ValueError(f"clusters {self.clusters}: a kept bank has one clustering")
        for k in self.clusters:
            self.experts_for(k)
        if not self.arms or max(self.arms) != 1.0 or min(self.arms) <= 0 or sorted(self.arms) != list(self.arms):
            raise ValueError(f"arms {self.arms}: rising fractions that end in 1")
        if self.direct is not None and not set(self.direct.arms) <= set(self.arms):
            raise ValueError(f"direct.arms {self.direct.arms}: of the study's arms {self.arms}")
        if self.finetune.iterations and not set(self.finetune.arms) <= set(self.arms):
            raise ValueError(f"finetune.arms {self.finetune.arms}: of the study's arms {self.arms}")
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection {self.selection!r}: of {SELECTIONS}")
        if self.seeds < 1:
            raise ValueError(f"seeds {self.seeds}: at least 1")
        if isinstance(self.experts, PPOConfig) and self.experts.curriculum:
            curriculum, steps = self.experts.curriculum, self.experts.steps
            if curriculum[-1][0] >= steps:
                raise ValueError(f"curriculum {curriculum}: it does not end within {steps} steps")
        strengths = {self.assist, self.experts.assist, self.val.assist, self.dagger.assist}
        if len(strengths) != 1:
            raise ValueError(f"assist {sorted(strengths)}: one value for experts, val, dagger and the study")

    def overridden(self, name: str, value: Any) -> "StudyConfig | None":
        """The study with what hangs together changed as one: `assist` everywhere, `experts` by a recipe's name."""
        if name == "experts" and isinstance(value, str):
            return with_experts(self, value)
        if name != "assist":
            return None
        if isinstance(self.experts, DreamConfig) and value != 0:
            raise ValueError("dreamed experts know no harness; set experts=ppo first")
        parts = {part: replace(getattr(self, part), assist=value) for part in ("experts", "val", "dagger")}
        return replace(self, assist=value, **parts)

    def experts_for(self, k: int) -> ExpertConfig:
        """The training of one of `k` experts under `expert_budget`; ValueError where the share is not whole."""
        if self.expert_budget == "per_expert":
            return self.experts
        total = self.experts.envs * self.clusters[0]
        if total % k:
            raise ValueError(f"expert_budget total: {total} environments do not divide among {k} experts")
        return replace(self.experts, envs=total // k)


def with_experts(config: StudyConfig, recipe: str) -> StudyConfig:
    """The study with experts of this recipe at the quickstart's budget: "dream" or "ppo".

    Dreamed experts are trained and everything is judged without a harness; PPO's would only fall without one at this
    budget, so a harness of .1 is in force. Raises ValueError for another recipe.
    """
    if recipe not in RECIPES:
        raise ValueError(f"experts {recipe!r}: one of {sorted(RECIPES)}")
    experts = RECIPES[recipe]
    assist = experts.assist
    return replace(
        config,
        assist=assist,
        experts=experts,
        val=replace(config.val, assist=assist),
        dagger=replace(config.dagger, assist=assist),
    )


_ENV = EnvConfig(episode_seconds=4.0, start_noise=0.5)
RECIPES: dict[str, ExpertConfig] = {
    "dream": DreamConfig(iterations=32, env=replace(_ENV, reward="absolute")),
    "ppo": PPOConfig(envs=128, iterations=120, assist=0.1, env=_ENV),
}


def with_bank(config: StudyConfig, folder: str) -> StudyConfig:
    """The study with the experts of a kept bank, on the corpus and at the assist that they were trained with.

    Raises InputError where there is no such bank.
    """
    kept = load_kept(Path(folder))
    motions, assist = kept.config["motions"], kept.card.assist
    own = {name: motions[name] for name in ("synthetic_seconds", "take_seconds", "seed")}
    given = {"curate": motions.get("curate", False)}
    return replace(
        config,
        motions=replace(config.motions, **given if config.motions.path else own),
        clusters=(kept.card.clusters,),
        bank=folder,
        assist=assist,
        experts=replace(config.experts, assist=assist) if isinstance(config.experts, PPOConfig) else config.experts,
        val=replace(config.val, assist=assist),
        dagger=replace(config.dagger, assist=assist),
    )


def quickstart(motions: str | None = None, experts: str = "dream", bank: str | None = None) -> StudyConfig:
    """The study that a newcomer runs: 48 tiny runs in minutes on two cores; 40 with a kept bank."""
    base = StudyConfig(
        motions=MotionsConfig(path=motions, curate=motions is not None),
        corpus=CorpusConfig(segments=SegmentConfig(min_seconds=4.0, target_seconds=8.0, max_seconds=16.0)),
        assist=0.0,
        competence=CompetenceConfig(starts=96, seconds=5.0),
        val=ValConfig(assist=0.0, env=_ENV),
        dagger=DaggerConfig(rounds=3, updates=300, envs=4, own_steps=32, assist=0.0, env=_ENV),
        closed_loop=ClosedLoopConfig(starts=32, seconds=5.0),
    )
    config = with_experts(base, experts)
    return with_bank(config, bank) if bank else config
