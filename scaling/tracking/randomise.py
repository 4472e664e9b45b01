"""Domain randomisation: a pool of varied robots and grounds drawn once, from which every episode picks one anew.

Noise, bias, delay and pushes are drawn by the environment itself, in every episode.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, Key

from scaling.robot.g1 import BODY_NAMES
from scaling.robot.model import STANDARD, PhysicsOptions, build_model
from scaling.tracking.terrain import Terrain, draw_floor

LONGEST_LATENCY = 3  # control steps


@dataclass(frozen=True)
class Randomisation:
    """Ranges (uniform) of the varied figures; the zero-width default is the nominal robot.

    Presets follow BeyondMimic/mjlab and OpenTrack/Humanoid-GPT (their published ranges).
    """

    variants: int = 1
    friction: tuple[float, float] = (1.0, 1.0)
    frictionloss: tuple[float, float] = (1.0, 1.0)
    mass: tuple[float, float] = (1.0, 1.0)
    gains: tuple[float, float] = (1.0, 1.0)
    armature: tuple[float, float] = (1.0, 1.0)
    torso_com: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m, half-widths
    terrain: Terrain = Terrain()
    observation_noise: float = 0.0  # in units of the contract's noise, uniform, drawn each control step
    encoder_bias: float = 0.0  # rad, half-width per joint
    latency: tuple[int, int] = (0, 0)  # whole control steps from an action to its effect
    push_seconds: tuple[float, float] | None = None  # between pushes
    push_speed: tuple[float, float] = (0.0, 0.0)  # m/s, in a random horizontal direction (OpenTrack)
    push_axes: float = 0.0  # m/s, half-width on each horizontal axis by itself (BeyondMimic)

    def __post_init__(self) -> None:
        if self.variants < 1:
            raise ValueError(f"variants {self.variants}: at least 1")
        for name in ("friction", "frictionloss", "mass", "gains", "armature"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)}: two positive numbers, low first")
        for name in ("observation_noise", "encoder_bias", "push_axes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} {getattr(self, name)}: not below 0")
        if not 0 <= self.latency[0] <= self.latency[1] <= LONGEST_LATENCY:
            raise ValueError(f"latency {self.latency}: 0 to {LONGEST_LATENCY} control steps, low first")
        if not 0 <= self.push_speed[0] <= self.push_speed[1]:
            raise ValueError(f"push_speed {self.push_speed}: two numbers not below 0, low first")
        if self.push_seconds is not None and not 0.02 <= self.push_seconds[0] <= self.push_seconds[1]:
            raise ValueError(f"push_seconds {self.push_seconds}: at least .02 s, low first")

    def kick(self, key: Key[Array, ""], count: int) -> Float[Array, "E 2"]:
        """Changes of horizontal velocity (m/s) of one push each: of drawn speed and direction, and on the axes."""
        speed_key, angle_key, axes_key = jax.random.split(key, 3)
        low, high = self.push_speed
        speed = jax.random.uniform(speed_key, (count, 1), minval=low, maxval=high)
        angle = jax.random.uniform(angle_key, (count,), maxval=2 * jnp.pi)
        axes = jax.random.uniform(axes_key, (count, 2), minval=-self.push_axes, maxval=self.push_axes)
        return speed * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1) + axes


PRESETS = {
    "none": Randomisation(),
    "beyondmimic": Randomisation(
        variants=32,
        friction=(0.3, 1.2),
        torso_com=(0.025, 0.05, 0.05),
        observation_noise=1.0,
        encoder_bias=0.01,
        push_seconds=(1.0, 3.0),
        push_axes=0.5,
    ),
    "humanoid-gpt": Randomisation(
        variants=32,
        friction=(0.4, 1.5),
        frictionloss=(0.75, 1.25),
        mass=(0.75, 1.25),
        gains=(0.75, 1.25),
        armature=(1.0, 1.05),
        torso_com=(0.15, 0.15, 0.15),
        push_seconds=(5.0, 10.0),
        push_speed=(0.1, 1.0),
    ),
}


def draw_models(
    randomisation: Randomisation, options: PhysicsOptions = STANDARD, seed: int = 0
) -> list[mujoco.MjModel]:
    """The pool: the nominal robot first, then `variants - 1` varied ones; where terrain is on, each on its own."""
    rng, ground_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    models = [build_model(options, draw_floor(randomisation.terrain, ground_rng))]
    torso = 1 + BODY_NAMES.index("torso_link")
    for _ in range(randomisation.variants - 1):
        model = build_model(options, draw_floor(randomisation.terrain, ground_rng))
        # A rug has its own friction, and its priority.
        model.geom_friction[model.geom_priority == 0, 0] *= rng.uniform(*randomisation.friction)
        scale = rng.uniform(*randomisation.mass, size=model.nbody)
        model.body_mass *= scale
        model.body_inertia *= scale[:, None]
        gains = rng.uniform(*randomisation.gains, size=model.nu)
        model.actuator_gainprm[:, 0] *= gains
        model.actuator_biasprm[:, 1] *= gains
        model.actuator_biasprm[:, 2] *= rng.uniform(*randomisation.gains, size=model.nu)
        # No source gives the G1's joints a dry friction, so today this scales zeros.
        model.dof_frictionloss *= rng.uniform(*randomisation.frictionloss, size=model.nv)
        model.dof_armature *= rng.uniform(*randomisation.armature, size=model.nv)
        model.body_ipos[torso] += rng.uniform(-1, 1, size=3) * np.array(randomisation.torso_com)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        models.append(model)
    return models
