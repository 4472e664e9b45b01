"""Domain randomisation: a pool of varied robots drawn once, from which every episode picks one anew."""

from dataclasses import dataclass

import mujoco
import numpy as np

from scaling.robot.g1 import BODY_NAMES
from scaling.robot.model import STANDARD, PhysicsOptions, build_model


@dataclass(frozen=True)
class Randomisation:
    """Ranges (uniform) of the varied figures; the zero-width default is the nominal robot.

    Presets follow BeyondMimic/mjlab and OpenTrack/Humanoid-GPT (their published ranges).
    """

    variants: int = 1
    friction: tuple[float, float] = (1.0, 1.0)
    mass: tuple[float, float] = (1.0, 1.0)
    gains: tuple[float, float] = (1.0, 1.0)
    armature: tuple[float, float] = (1.0, 1.0)
    torso_com: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m, half-widths
    push_seconds: tuple[float, float] | None = None
    push_speed: float = 0.0  # m/s, half-width per horizontal axis

    def __post_init__(self) -> None:
        if self.variants < 1:
            raise ValueError(f"variants {self.variants}: at least 1")
        for name in ("friction", "mass", "gains", "armature"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)}: two positive numbers, low first")


PRESETS = {
    "none": Randomisation(),
    "beyondmimic": Randomisation(
        variants=32,
        friction=(0.3, 1.2),
        torso_com=(0.025, 0.05, 0.05),
        push_seconds=(1.0, 3.0),
        push_speed=0.5,
    ),
    "humanoid-gpt": Randomisation(
        variants=32,
        friction=(0.4, 1.5),
        mass=(0.75, 1.25),
        gains=(0.75, 1.25),
        armature=(1.0, 1.05),
        torso_com=(0.15, 0.15, 0.15),
        push_seconds=(5.0, 10.0),
        push_speed=1.0,
    ),
}


def draw_models(
    randomisation: Randomisation, options: PhysicsOptions = STANDARD, seed: int = 0
) -> list[mujoco.MjModel]:
    """The pool: the nominal robot first, then `variants - 1` varied ones."""
    rng = np.random.default_rng(seed)
    models = [build_model(options)]
    torso = 1 + BODY_NAMES.index("torso_link")
    for _ in range(randomisation.variants - 1):
        model = build_model(options)
        model.geom_friction[:, 0] *= rng.uniform(*randomisation.friction)
        scale = rng.uniform(*randomisation.mass, size=model.nbody)
        model.body_mass *= scale
        model.body_inertia *= scale[:, None]
        gains = rng.uniform(*randomisation.gains, size=model.nu)
        model.actuator_gainprm[:, 0] *= gains
        model.actuator_biasprm[:, 1] *= gains
        model.actuator_biasprm[:, 2] *= rng.uniform(*randomisation.gains, size=model.nu)
        model.dof_armature *= rng.uniform(*randomisation.armature, size=model.nv)
        model.body_ipos[torso] += rng.uniform(-1, 1, size=3) * np.array(randomisation.torso_com)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        models.append(model)
    return models
