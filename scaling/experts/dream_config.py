"""Figures of a bank that trains in a learned simulator."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import optax

from scaling.dynamics.model import ModelConfig
from scaling.dynamics.train import TrainConfig
from scaling.experts.critic import CriticConfig
from scaling.tracking.env import EnvConfig
from scaling.tracking.randomise import Randomisation

OPTIMISERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": optax.scale_by_adam,
    "muon": lambda: optax.contrib.muon(-1.0),  # matrices by Muon, biases by Adam; the rate and its sign are ours
}
GRADIENTS = ("imagined", "true")


@dataclass(frozen=True)
class DreamConfig:
    """Figures of one bank's training in a learned simulator; `envs` and `iterations` are per expert.

    An iteration: every expert plays `unroll` control steps with noise into its memory of the last `memory` steps of
    each environment; the model that all share makes `model_updates`; each actor makes `actor_updates` of `actor_batch`
    roll-outs of `horizon` steps. In the first `head_start` iterations the model alone learns. With `gradients` "true"
    a roll-out keeps to the states that the simulator gave and only its derivatives are the model's (DMO). With
    `tail` a critic, learned on the same roll-outs, says what the state at their end is worth.
    """

    envs: int = 64
    unroll: int = 16
    iterations: int = 300
    memory: int = 256
    head_start: int = 5
    hidden: tuple[int, ...] = (256, 128)
    noise: float = 0.15
    warm_start: float = 2.0
    horizon: int = 32
    gradients: str = "imagined"
    actor_updates: int = 16
    actor_batch: int = 32
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    average: float = 0.98
    cotangent_limit: float = 10.0
    tail: CriticConfig | None = None
    max_grad_norm: float = 1.0
    model: ModelConfig = field(default_factory=ModelConfig)
    model_updates: int = 24
    dynamics: TrainConfig = field(default_factory=lambda: TrainConfig(window=6, batch=512))
    env: EnvConfig = field(default_factory=lambda: EnvConfig(reward="absolute"))

    def __post_init__(self) -> None:
        for name in ("envs", "unroll", "iterations", "horizon", "actor_updates", "actor_batch", "model_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: at least 1")
        longest = max(self.horizon, self.dynamics.window)
        if self.memory % self.unroll or self.memory < max(longest, self.unroll):
            raise ValueError(
                f"memory {self.memory}: a multiple of unroll {self.unroll}, and not shorter than a roll-out ({longest})"
            )
        if self.gradients == "true" and self.horizon > self.unroll:
            raise ValueError(f"horizon {self.horizon}: with true states at most unroll, {self.unroll}")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser {self.optimiser!r}: one of {sorted(OPTIMISERS)}")
        if self.gradients not in GRADIENTS:
            raise ValueError(f"gradients {self.gradients!r}: one of {GRADIENTS}")
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"average {self.average}: at least 0 and below 1")
        if replace(self.env.randomisation, observation_noise=0.0) != Randomisation():
            raise ValueError("a learned simulator is of an undisturbed robot: only sensor noise may be random")

    @property
    def assist(self) -> float:
        """The learned simulator knows no harness."""
        return 0.0

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one expert in one iteration."""
        return self.envs * self.unroll
