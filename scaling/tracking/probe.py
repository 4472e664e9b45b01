"""States to try physics on: robots standing, stepping and falling under their servos, with the controls that follow."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float, Int
from mujoco import rollout

from scaling.contract.action import decode_action
from scaling.motion.clip import Motion, velocities
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import angle_between

HORIZON = 10  # control steps: .2 s
KINDS = ("standing", "stepping", "falling")

_EPISODE = 75  # control steps; open-loop playback has fallen by then
_SETTLE = 5  # control steps after the start that are left out: limbs set into one another have come apart
_ACTION_NOISE = 0.3  # std, in units of the action
_PUSH = 0.5  # m/s, half-width per horizontal axis, once an episode
_START_JOINTS = 0.1  # rad
_START_VELOCITY = np.array([0.5, 0.5, 0.2, 0.52, 0.52, 0.78])  # m/s, rad/s
_TILTED, _SUNK = 0.4, 0.15  # rad and m off the reference: a fall has begun
_DOWN = 0.4  # m, the pelvis: with contacts at the feet alone what lies lower is not physical


class HostState(NamedTuple):
    """`physics.PhysicsState` on the host, float64."""

    qpos: Float[np.ndarray, "*b 36"]
    qvel: Float[np.ndarray, "*b 35"]


class Probe(NamedTuple):
    """Where to start and what the servos are told; `kind` indexes `KINDS`."""

    start: HostState  # [N, ...]
    ctrl: Float[np.ndarray, "N T 29"]
    kind: Int[np.ndarray, "N"]


class Stepper:
    """C MuJoCo a control step at a time over a batch, solvers cold at each, as the environment steps it."""

    def __init__(self, model: mujoco.MjModel, threads: int) -> None:
        self.model = model
        self.substeps = round(CONTROL_DT / model.opt.timestep)
        self._pool = rollout.Rollout(nthread=threads)
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)

    def __call__(self, state: HostState, ctrl: Float[np.ndarray, "N 29"]) -> HostState:
        """The state 20 ms later."""
        start = np.zeros((len(ctrl), self._size))
        start[:, 1:37], start[:, 37:72] = state
        out = np.empty((len(ctrl), self.substeps, self._size))
        self._pool.rollout(
            [self.model] * len(ctrl), self._data, start, np.repeat(ctrl[:, None], self.substeps, axis=1),
            control_spec=mujoco.mjtState.mjSTATE_CTRL.value, nstep=self.substeps, state=out, skip_checks=True,
        )  # fmt: skip
        return HostState(out[:, -1, 1:37].copy(), out[:, -1, 37:72].copy())

    def close(self) -> None:
        """End the threads."""
        self._pool.close()


def make_probe(
    clips: Mapping[str, Sequence[Motion]], model: mujoco.MjModel, count: int, seed: int = 0, threads: int = 1
) -> Probe:
    """`count` states of each kind from noisy, pushed playback of `clips["standing"]` and `clips["stepping"]` (50 Hz).

    An episode's states are of its clip's kind until a fall begins, and "falling" from there until the pelvis is down.
    """
    rng = np.random.default_rng(seed)
    with closing(Stepper(model, threads)) as stepper:
        played = [_episodes(clips[kind], stepper, max(count // 2, 4), rng) for kind in KINDS[:2]]
    upright = np.stack([standing for _, standing, _ in played])  # [2, T, E]
    falling = np.stack([fallen for _, _, fallen in played])
    parts = []
    for kind, mask in enumerate((upright[0], upright[1], falling)):
        rows = np.argwhere(mask)
        if len(rows) < count:
            raise ValueError(f"{len(rows)} states {KINDS[kind]}, {count} wanted: give more or longer clips")
        for row in rows[rng.permutation(len(rows))[:count]]:
            family, step, robot = row if kind == 2 else (kind, *row)
            qpos, qvel, ctrl = (part[:, robot] for part in played[family][0])
            parts.append((qpos[step], qvel[step], ctrl[step : step + HORIZON]))
    qpos, qvel, ctrl = (np.stack(part) for part in zip(*parts, strict=True))
    return Probe(HostState(qpos, qvel), ctrl, np.repeat(np.arange(len(KINDS)), count))


def _episodes(
    clips: Sequence[Motion], stepper: Stepper, robots: int, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """`(qpos, qvel, ctrl) [T, E, ...]` of noisy playback, and at which states [T, E] the robot is up, or falls."""
    chosen = rng.integers(0, len(clips), robots)
    frames = np.array([rng.integers(0, clips[clip].frames - _EPISODE) for clip in chosen])
    cuts = [clips[clip].qpos[frame : frame + _EPISODE + 1] for clip, frame in zip(chosen, frames, strict=True)]
    reference = np.stack(cuts, axis=1)  # [T + 1, E, 36]
    speed = np.stack([velocities(cut, 1.0 / CONTROL_DT) for cut in cuts], axis=1)
    qpos, qvel = reference[0].copy(), speed[0].copy()
    qpos[:, 7:] += _START_JOINTS * rng.uniform(-1, 1, (robots, 29))
    qvel[:, :6] += _START_VELOCITY * rng.uniform(-1, 1, (robots, 6))
    push_at = rng.integers(_SETTLE, _EPISODE, robots)
    state, fallen = HostState(qpos, qvel), np.zeros(robots, bool)
    rows, up, down = [], [], []
    for step in range(_EPISODE):
        kick = _PUSH * rng.uniform(-1, 1, (robots, 2)) * (push_at == step)[:, None]
        state.qvel[:, :2] += kick
        ctrl = decode_action(_ACTION_NOISE * rng.normal(size=(robots, 29)), reference[step], speed[step])
        rows.append((state.qpos, state.qvel, ctrl))
        tilt = angle_between(state.qpos[:, 3:7], reference[step, :, 3:7])
        fallen |= (tilt > _TILTED) | (np.abs(state.qpos[:, 2] - reference[step, :, 2]) > _SUNK)
        usable = (step >= _SETTLE) & (step + HORIZON <= _EPISODE) & (state.qpos[:, 2] > _DOWN)
        up.append(usable & ~fallen)
        down.append(usable & fallen)
        state = stepper(state, ctrl)
    return tuple(np.stack(part) for part in zip(*rows, strict=True)), np.stack(up), np.stack(down)  # type: ignore
