"""A closed loop of 500 control steps on a robot of paper: what a policy commands comes back as what it sees."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from scaling.contract.action import decode_action
from scaling.contract.observation import LOOK_AHEAD, STUDENT_TERMS, Inputs, Reference, Sensors, observe
from scaling.robot.g1 import KNEES_BENT_JOINTS, NUM_JOINTS, standing_qpos
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import from_rotation_vector

LOOP_STEPS = 500
_SWAY = 0.3  # rad, amplitude of every joint of the reference
_FOLLOWS = 0.5  # share of the way to its target that a joint goes in one step

Act = Callable[[Float[np.ndarray, "obs"], bool], Float[np.ndarray, "29"]]


def closed_loop(act: Act, steps: int = LOOP_STEPS) -> tuple[Float[np.ndarray, "T obs"], Float[np.ndarray, "T 29"]]:
    """Raw observations (float32) and contract actions of one episode under `act(obs, first)`.

    Joints run after their targets, the pelvis leans with the legs and shakes: enough that every term moves and every
    action matters to all that follow, without the chaos of contact.
    """
    rng = np.random.default_rng(7)
    shake = 0.05 * rng.normal(size=(steps, 3))
    joints, velocity, last = KNEES_BENT_JOINTS.copy(), np.zeros(NUM_JOINTS), np.zeros(NUM_JOINTS)
    lean = np.zeros(3)
    seen, done = [], []
    for step in range(steps):
        reference = _reference(step)
        sensors = Sensors(from_rotation_vector(lean), (shake[step] - lean) / 0.2, joints, velocity)
        obs = observe(STUDENT_TERMS, Inputs(sensors, reference, last)).astype(np.float32)
        last = np.asarray(act(obs, step == 0), np.float64)
        seen.append(obs)
        done.append(last.astype(np.float32))
        move = _FOLLOWS * (decode_action(last, reference.qpos, reference.qvel) - joints)
        joints, velocity = joints + move, move / CONTROL_DT
        lean = 0.8 * lean + shake[step] + 0.1 * np.array([joints[1] + joints[7], joints[0] + joints[6], joints[12]])
    return np.stack(seen), np.stack(done)


def _reference(step: int) -> Reference:
    now, speed = _sway(np.array([step, *(step + ahead for ahead in LOOK_AHEAD)]))
    return Reference(now[0], speed[0], now[1:], speed[1:])


def _sway(steps: np.ndarray) -> tuple[Float[np.ndarray, "n 36"], Float[np.ndarray, "n 35"]]:
    """Every joint on its own sine about the bent knees, the pelvis walking on at 0.5 m/s."""
    time = CONTROL_DT * steps[:, None]
    rate = 2 * np.pi * np.linspace(0.3, 1.5, NUM_JOINTS)
    qpos = np.tile(standing_qpos(), (len(steps), 1))
    qpos[:, 7:] += _SWAY * np.sin(rate * time)
    qpos[:, :1] += 0.5 * time
    qvel = np.zeros((len(steps), 35))
    qvel[:, 0], qvel[:, 6:] = 0.5, _SWAY * rate * np.cos(rate * time)
    return qpos, qvel
