"""The robot as a list of shaded capsules, the one source for MuJoCo's renderer, the drawn strip and the player."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scaling.robot.figures import BODIES, CAPSULES
from scaling.robot.g1 import BODY_INDEX
from scaling.robot.kinematics import forward_kinematics
from scaling.robot.rotations import rotate

# Okabe-Ito: told apart by readers with any common colour vision.
LIGHT = (0.80, 0.81, 0.84)
DARK = (0.24, 0.25, 0.29)
GHOST = (0.00, 0.45, 0.70)
FAILED = (0.84, 0.37, 0.00)
GHOST_ALPHA = 0.42

_BONE_RADIUS = 0.028
_SHORTEST_BONE = 0.02


class Limb(NamedTuple):
    """A capsule fixed to a body: end points (m) in the body's frame; equal ends make a sphere."""

    body: str
    radius: float
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    dark: bool


def _limbs() -> tuple[Limb, ...]:
    """Unitree's collision capsules, and thin bones between joints so that no part floats."""
    limbs = []
    for capsule in CAPSULES:
        axis = rotate(np.array(capsule.quat), np.array([0.0, 0.0, capsule.half_length]))
        centre = np.array(capsule.pos)
        dark = any(part in capsule.name for part in ("_foot", "hand", "hip", "pelvis"))
        limbs.append(Limb(capsule.body, capsule.radius, tuple(centre - axis), tuple(centre + axis), dark))
    for body in BODIES:
        if body.parent != "world" and np.linalg.norm(body.pos) > _SHORTEST_BONE:
            limbs.append(Limb(body.parent, _BONE_RADIUS, (0.0, 0.0, 0.0), body.pos, True))
    for y in (0.1, -0.1):  # shoulder girdle
        limbs.append(Limb("torso_link", 0.05, (0.004, 0.0, 0.22), (0.004, y, 0.245), False))
    limbs.append(Limb("torso_link", 0.03, (0.0, 0.0, 0.25), (0.0, 0.0, 0.40), True))  # neck
    limbs.append(Limb("torso_link", 0.045, (0.032, -0.012, 0.435), (0.032, 0.012, 0.435), True))  # visor
    return tuple(limbs)


LIMBS = _limbs()
DRAWN_BODIES = tuple(sorted({limb.body for limb in LIMBS}, key=BODY_INDEX.__getitem__))
RADII = np.array([limb.radius for limb in LIMBS])
DARK_LIMBS = np.array([limb.dark for limb in LIMBS])

_BODY = np.array([BODY_INDEX[limb.body] for limb in LIMBS])
_ENDS = np.array([[limb.start, limb.end] for limb in LIMBS])


def limb_ends(qpos: Float[np.ndarray, "*b 36"]) -> Float[np.ndarray, "*b L 2 3"]:
    """World positions (m) of both ends of every limb in `LIMBS`."""
    pos, quat = forward_kinematics(qpos)
    pos, quat = pos[..., _BODY, None, :], quat[..., _BODY, None, :]
    shape = (*pos.shape[:-2], 2)
    return pos + rotate(np.broadcast_to(quat, (*shape, 4)), np.broadcast_to(_ENDS, (*shape, 3)))


def robot_colours(failed: bool) -> Float[np.ndarray, "L 3"]:
    """RGB in 0..1 of the robot's limbs; after a failure the light parts turn vermilion."""
    light = FAILED if failed else LIGHT
    return np.where(DARK_LIMBS[:, None], np.array(DARK), np.array(light))
