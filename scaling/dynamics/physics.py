"""The learned simulator behind the physics interface, so that any environment or policy plays inside it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scaling.dynamics.artifact import load
from scaling.dynamics.model import Dream, ModelConfig, step
from scaling.errors import InputError
from scaling.robot.model import STANDARD, PhysicsOptions
from scaling.tracking.physics import PhysicsState
from scaling.tracking.terrain import Ground


class DreamPhysics:
    """`tracking.Physics` by a learned model: one robot, and neither harness nor outside force.

    A harness or force known before compiling raises InputError; one that only shows inside a compiled program makes
    the state NaN, which the environment counts as a failure, because a program cannot raise.
    """

    name = "dream"
    variants = 1
    ground: Ground | None = None

    def __init__(
        self, config: ModelConfig, dream: Dream, options: PhysicsOptions = STANDARD, path: Path | None = None
    ) -> None:
        self.config = config
        self.dream = dream
        self.options = options  # of the physics that it learned
        self.path = path

    @classmethod
    def read(cls, path: Path) -> "DreamPhysics":
        """The simulator saved at `path`; see `artifact.load`."""
        saved = load(path)
        return cls(saved.config, saved.dream, saved.physics, path)

    def step(self, state: PhysicsState, ctrl: Array, force: Array, assist: Array, variant: Array) -> PhysicsState:
        """See `Physics.step`; differentiable in `state` and `ctrl`."""
        for name, value in (("assist", assist), ("force", force), ("variant", variant)):
            if not isinstance(value, jax.core.Tracer) and np.any(np.asarray(value)):
                raise InputError(f"a learned simulator knows no {name}: play it at {name} 0")
        known = (jnp.asarray(assist) == 0) & (jnp.asarray(variant) == 0) & jnp.all(jnp.asarray(force) == 0, axis=-1)
        after = step(self.config, self.dream, state, ctrl)
        return PhysicsState(*(jnp.where(known[..., None], x, jnp.nan) for x in after))
