"""How far does linear feedback alone, designed on MuJoCo's finite differences, track a real clip? No learning.

    python experiments/linear_feedback.py     # about 3 minutes on two cores

Of each clip 20 s: playback under a light harness (assist .3) with stiffened servos gives a nominal motion that touches
the ground as it should; there one control step is linearised without the harness by central differences, and one
backward Riccati sweep about the reference gives a time-varying feedback from the whole state to the servo targets
(an affine linear-quadratic tracker, one multiple-shooting iLQR step: Giftthaler et al. 2018). Survival of at most 10 s
by protocol sonic from 64 random starts at assist 0, in the standard physics; "perturbed" starts are off the reference
by a few centimetres, .06 rad and .3 m/s. The table is in `linear_feedback/RESULT.md`.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import jax
import mujoco
import numpy as np
from mujoco import rollout

from scaling.contract.action import ACTION_LIMIT, decode_action
from scaling.motion.clip import resample, velocities
from scaling.motion.read import read_motion
from scaling.record.progress import track
from scaling.robot.g1 import ACTION_SCALE
from scaling.robot.model import STANDARD, build_model
from scaling.robot.rotations import from_rotation_vector, quat_conj, quat_mul, rotation_vector
from scaling.study.keep import grid
from scaling.tracking.assist import ROOT_DAMPING, harness_force
from scaling.tracking.errors import tracking_errors
from scaling.tracking.terminations import failed

POOL = Path("../shared/motions/g1_29dof")
CLIPS = {
    "stand and gesture": "g1_moves/B_HandsChop",
    "squat-like": "g1_moves/B_StretchDance",
    "dance": "g1_moves/J_Dance12_LushLife",
    "walk": "lafan1/walk1_subject1",
}
ASSIST, GAIN, STARTS, STEPS = 0.3, 2.0, 64, 500
STATE = np.zeros(70)  # weights: root position and orientation, joints, then their velocities
STATE[[0, 1]], STATE[2], STATE[[3, 4]], STATE[5], STATE[6:35] = 3.0, 20.0, 20.0, 5.0, 1.0
STATE[35:38], STATE[38:41], STATE[41:] = 1.0, 0.3, 0.005
EFFORT = 0.01  # weight of an action squared
NUDGE = np.concatenate([np.full(35, 1e-4), np.full(35, 1e-3)])
NOISE = np.concatenate([np.full(3, 0.03), np.full(32, 0.06), np.full(35, 0.3)])

Controller = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # (frame, qpos, qvel) -> action
_SPEC = int(mujoco.mjtState.mjSTATE_CTRL.value | mujoco.mjtState.mjSTATE_QFRC_APPLIED.value)
_POOL = rollout.Rollout(nthread=2)
_MODEL = build_model(STANDARD)
_DATA = [mujoco.MjData(_MODEL) for _ in range(2)]
_fails = jax.jit(lambda *states: failed("sonic", tracking_errors(*states), states[0]))


def step(qpos, qvel, ctrl, force=None, model=_MODEL):
    """One control step of a batch in float64."""
    start = np.concatenate([np.zeros((len(qpos), 1)), qpos, qvel], axis=1)
    control = np.zeros((len(qpos), STANDARD.substeps, 64))
    control[..., :29] = ctrl[:, None]
    control[..., 29:] = 0.0 if force is None else force[:, None]
    out = np.empty((len(qpos), STANDARD.substeps, 72))
    _POOL.rollout(
        [model] * len(qpos), _DATA, start, control, control_spec=_SPEC, nstep=STANDARD.substeps, state=out,
        skip_checks=True,
    )  # fmt: skip
    return out[:, -1, 1:37].copy(), out[:, -1, 37:].copy()


def minus(qpos, qvel, other_qpos, other_qvel):
    """The tangent vector [70] from the other state to this one."""
    turn = rotation_vector(quat_mul(quat_conj(other_qpos[..., 3:7]), qpos[..., 3:7]))
    ahead = qpos - other_qpos
    return np.concatenate([ahead[..., :3], turn, ahead[..., 7:], qvel - other_qvel], axis=-1)


def plus(qpos, qvel, tangent):
    """The state a tangent vector away."""
    quat = quat_mul(qpos[..., 3:7], from_rotation_vector(tangent[..., 3:6]))
    moved = [qpos[..., :3] + tangent[..., :3], quat, qpos[..., 7:] + tangent[..., 6:35]]
    return np.concatenate(moved, axis=-1), qvel + tangent[..., 35:]


def linearise(qpos, qvel, ctrl):
    """A [T 70 70], B [T 70 29] (per action) and what the step misses the next nominal state by, [T 70]."""
    steps, count = len(ctrl), 1 + 2 * 99
    nudges, moves = np.zeros((count, 70)), np.zeros((count, 29))
    nudges[1:71], nudges[71:141] = np.diag(NUDGE), -np.diag(NUDGE)
    moves[141:170], moves[170:199] = 1e-3 * np.eye(29), -1e-3 * np.eye(29)
    a, b, c = np.zeros((steps, 70, 70)), np.zeros((steps, 70, 29)), np.zeros((steps, 70))
    for t in range(steps):
        around = plus(np.repeat(qpos[t : t + 1], count, 0), np.repeat(qvel[t : t + 1], count, 0), nudges)
        off = minus(*step(*around, ctrl[t] + moves), qpos[t + 1], qvel[t + 1])
        a[t] = ((off[1:71] - off[71:141]) / (2 * NUDGE[:, None])).T
        b[t] = ((off[141:170] - off[170:199]) / 2e-3).T * ACTION_SCALE
        c[t] = off[0]
    return a, b, c


def sweep(a, b, c, wanted, nominal_action):
    """Feedback K [T 29 70] and feed-forward k [T 29] about the nominal motion, by the affine Riccati recursion."""
    steps = len(a)
    cost, pull = np.diag(STATE), -STATE * wanted[-1]
    gains, offsets = np.zeros((steps, 29, 70)), np.zeros((steps, 29))
    for t in reversed(range(steps)):
        hessian = EFFORT * np.eye(29) + b[t].T @ cost @ b[t]
        mixed = b[t].T @ cost @ a[t]
        slope = b[t].T @ (pull + cost @ c[t]) + EFFORT * nominal_action[t]
        gains[t], offsets[t] = -np.linalg.solve(hessian, mixed), -np.linalg.solve(hessian, slope)
        pull = -STATE * wanted[t] + a[t].T @ (pull + cost @ c[t]) + mixed.T @ offsets[t]
        cost = np.diag(STATE) + a[t].T @ cost @ a[t] + mixed.T @ gains[t]
        cost = 0.5 * (cost + cost.T)
    return gains, offsets


def survival(reference, controller: Controller, noise: float) -> float:
    """Mean seconds (of 10) from the random starts."""
    ref_qpos, ref_qvel = reference
    rng = np.random.default_rng(0)
    first = rng.integers(0, len(ref_qpos) - 1 - STEPS, STARTS)
    qpos, qvel = plus(ref_qpos[first], ref_qvel[first], noise * NOISE * rng.normal(size=(STARTS, 70)))
    alive, lived = np.ones(STARTS, bool), 0
    for frame in (first + ahead for ahead in range(STEPS)):
        ctrl = decode_action(controller(frame, qpos, qvel), ref_qpos[frame], ref_qvel[frame])
        moved = step(qpos, qvel, ctrl)
        now = alive & np.isfinite(moved[0]).all(axis=1)
        qpos, qvel = np.where(now[:, None], moved[0], qpos), np.where(now[:, None], moved[1], 0.0)
        states = (qpos, qvel, ref_qpos[frame + 1], ref_qvel[frame + 1])
        alive = now & ~np.asarray(_fails(*(part.astype(np.float32) for part in states)))
        lived += alive.sum()
    return lived / STARTS / 50


def nominal_motion(reference, controller: Controller):
    """States and actions of one playback in the harness."""
    model = copy.copy(_MODEL)
    model.dof_damping[:6] = ASSIST * ROOT_DAMPING
    ref_qpos, ref_qvel = reference
    states, actions = [(ref_qpos[:1], ref_qvel[:1])], []
    for t in range(len(ref_qpos) - 1):
        action = controller(np.array([t]), *states[-1])
        ctrl = decode_action(action, ref_qpos[t : t + 1], ref_qvel[t : t + 1])
        force = harness_force(ASSIST, states[-1][0], ref_qpos[t : t + 1], ref_qvel[t : t + 1])
        states.append(step(*states[-1], ctrl, np.asarray(force), model))
        actions.append(action[0])
    return np.concatenate([s[0] for s in states]), np.concatenate([s[1] for s in states]), np.array(actions)


def row(name: str, path: str) -> list:
    """One clip's line of the table."""
    motion = resample(read_motion(POOL / f"{path}.csv.gz"))
    reference = tuple(x[250:1250].astype(float) for x in (motion.qpos, velocities(motion.qpos, 50.0)))
    ref_qpos, ref_qvel = reference

    def stiff(frame, qpos, qvel):
        return np.clip(GAIN * (ref_qpos[frame, 7:] - qpos[:, 7:]) / ACTION_SCALE, -ACTION_LIMIT, ACTION_LIMIT)

    qpos, qvel, actions = nominal_motion(reference, stiff)
    ctrl = decode_action(actions, ref_qpos[:-1], ref_qvel[:-1])
    wanted = minus(ref_qpos, ref_qvel, qpos, qvel)
    gains, offsets = sweep(*linearise(qpos, qvel, ctrl), wanted, actions)

    def linear(frame, q, v):
        off = minus(q, v, qpos[frame], qvel[frame])
        return actions[frame] + offsets[frame] + np.einsum("nij,nj->ni", gains[frame], off)

    ways = {"open loop": lambda frame, q, v: np.zeros((len(q), 29)), "stiff servos": stiff, "linear feedback": linear}
    return [name, *(survival(reference, way, noise) for way in ways.values() for noise in (0.0, 1.0))]


if __name__ == "__main__":
    rows = [row(name, path) for name, path in track(list(CLIPS.items()), "linear feedback")]
    head = ["clip"]
    head += [f"{way}{start}, s" for way in ("open loop", "stiff servos", "linear") for start in ("", " perturbed")]
    folder = Path(__file__).with_suffix("")
    folder.mkdir(exist_ok=True)
    text = "\n".join(grid(head, rows))
    (folder / "RESULT.md").write_text(f"# Linear feedback\n\n`python experiments/linear_feedback.py`\n\n{text}\n")
    print(text)
