"""The frozen figures of one DAgger training and of the validation set it is measured on."""

from dataclasses import dataclass, field
from typing import Any, Literal

from scaling.record.hashing import added
from scaling.students.config import StudentConfig
from scaling.tracking.env import EnvConfig


@dataclass(frozen=True)
class DaggerConfig:
    """Figures of one run: a round collects `slots * envs` sequences of `steps` frames and trains on all rounds so far.

    Slots are dealt to the experts in turn; see `room` for a bank of more experts than slots.

    `beta[r]` is the share of environments in which the bank acts in round r (its last entry holds for later rounds),
    with Gaussian `expert_noise` on its action; everywhere else the student acts. `updates` and the learning rate's
    warm-up and cosine run over all rounds together. `obs_noise` scales the contract's noise on what the student sees.
    `teachers` "competent" leaves out the segments of experts that missed their target of survival.
    `own_steps` is how long the students act for `val_loss_own`; `buffer_mb` bounds the group's sequences in memory.
    `aggregation` "on_policy" forgets earlier rounds, as published (with `beta` 0 nobody but the student acts then).
    `rate_rule` "width" takes `learning_rate` as tuned at `rate_width` and scales it by `rate_width` / width of the
    student, as maximal update parametrisation has it for hidden weights under Adam (arXiv:2203.03466); "fixed" takes it
    as it is. The default is what `experiments/student_rates` found to serve both families at both sizes.
    """

    rounds: int = 4
    slots: int = 8
    envs: int = 2
    steps: int = 64
    own_steps: int = 64
    beta: tuple[float, ...] = (1.0, 0.0)
    expert_noise: float = 0.15
    obs_noise: float = 1.0
    assist: float = 0.0
    teachers: Literal["all", "competent"] = "all"
    updates: int = 300
    batch: int = 8
    learning_rate: float = 4e-3
    warmup: float = 0.05
    weight_decay: float = 1e-3
    max_grad_norm: float = 1.0
    val_every: int = 25
    buffer_mb: float = 2048.0
    threads: int = 2
    env: EnvConfig = field(default_factory=EnvConfig)
    aggregation: Literal["all", "on_policy"] = added("all")
    rate_rule: Literal["fixed", "width"] = added("width", before="fixed")
    rate_width: int = added(80)

    def __post_init__(self) -> None:
        _at_least(self, 1, "rounds", "slots", "envs", "steps", "own_steps", "updates", "batch", "val_every", "threads")
        _at_least(self, 1, "rate_width")
        _at_least(self, 0.0, "expert_noise", "obs_noise", "weight_decay")
        _within(self, "assist", "warmup")
        if self.teachers not in ("all", "competent"):
            raise ValueError(f"teachers {self.teachers!r}: 'all' or 'competent'")
        if self.aggregation not in ("all", "on_policy"):
            raise ValueError(f"aggregation {self.aggregation!r}: 'all' or 'on_policy'")
        if self.rate_rule not in ("fixed", "width"):
            raise ValueError(f"rate_rule {self.rate_rule!r}: 'fixed' or 'width'")
        if self.updates < self.rounds:
            raise ValueError(f"updates {self.updates}: at least one in each of {self.rounds} rounds")
        if not self.beta or not all(0.0 <= share <= 1.0 for share in self.beta):
            raise ValueError(f"beta {self.beta}: shares between 0 and 1, one or more")
        for name in ("learning_rate", "max_grad_norm", "buffer_mb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)}: above 0")

    def room(self, experts: int) -> tuple[int, int]:
        """Slots and environments in each for a bank of so many experts.

        Every expert has a slot. Where `slots` are too few, the environments are spread over more: `slots * envs` of
        them in all, as nearly as whole environments allow, so that the number of clusters does not decide how much a
        student sees.
        """
        slots = max(self.slots, experts)
        return slots, max(1, round(self.slots * self.envs / slots))

    def sequences(self, experts: int) -> int:
        """Sequences that one run collects in a round from a bank of so many experts."""
        slots, envs = self.room(experts)
        return slots * envs

    def rate_for(self, student: StudentConfig) -> float:
        """The student's peak learning rate by `rate_rule`."""
        return self.learning_rate * (self.rate_width / student.width if self.rate_rule == "width" else 1.0)

    def teacher_share(self, round_: int) -> float:
        """Share of a round's environments in which the bank acts."""
        return self.beta[min(round_, len(self.beta) - 1)]

    def round_of(self, updates: int) -> int:
        """The round in which one is after so many updates; a round whose updates are done is over."""
        return next(round_ for round_ in range(self.rounds) if updates < self.updates_until(round_ + 1))

    def updates_until(self, round_: int) -> int:
        """Updates done when so many rounds are over: an even share each."""
        return self.updates * round_ // self.rounds


@dataclass(frozen=True)
class ValConfig:
    """The validation set: about `sequences` sequences of `steps` frames, at least one for each `val` segment."""

    sequences: int = 48
    steps: int = 64
    expert_noise: float = 0.15
    assist: float = 0.0
    seed: int = 0
    env: EnvConfig = field(default_factory=EnvConfig)

    def __post_init__(self) -> None:
        _at_least(self, 1, "sequences", "steps")
        _at_least(self, 0.0, "expert_noise")
        _within(self, "assist")


def _at_least(config: Any, low: float, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= low:
            raise ValueError(f"{name} {getattr(config, name)}: at least {low:g}")


def _within(config: Any, *names: str) -> None:
    for name in names:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"{name} {getattr(config, name)}: between 0 and 1")
