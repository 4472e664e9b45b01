"""How deep a clip's limbs are in each other and in the floor, by the robot's collision primitives."""

from functools import cache
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from scaling.robot.model import FULL, build_model

DEEP_M = 0.01  # capsules touch before shells do: shallower is no collision
_CHECKS_HZ = 10.0


@cache
def _model() -> Any:
    return build_model(FULL)


def collisions(qpos: Float[np.ndarray, "T 36"], rate_hz: float) -> dict[str, float]:
    """Share of frames with a limb over 1 cm deep in another, the deepest (m), and the deepest in the floor (m).

    Ten frames a second are looked at; the floor is met by limbs, trunk and soles alike.
    """
    model = _model()
    data = mujoco.MjData(model)
    floor = model.geom("floor").id
    step = max(1, round(rate_hz / _CHECKS_HZ))
    deepest, buried = [], 0.0
    for row in qpos[::step]:
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        depth = -data.contact.dist
        on_floor = (data.contact.geom == floor).any(axis=1)
        buried = max(buried, float(depth[on_floor].max(initial=0.0)))
        deepest.append(float(depth[~on_floor].max(initial=0.0)))
    depths = np.array(deepest)
    return {
        "self_collision_share": float((depths > DEEP_M).mean()),
        "self_collision_worst_m": float(depths.max()),
        "body_penetration_max_m": buried,
    }
