"""How far a physics setting departs from a fine C MuJoCo reference: one control step, and .2 s of them."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Float

from scaling.record.timing import medians
from scaling.robot.g1 import GROUPS
from scaling.robot.model import CONTROL_DT, STANDARD, PhysicsOptions, build_model
from scaling.tracking.physics import MjxPhysics, PhysicsState
from scaling.tracking.probe import KINDS, HostState, Probe, Stepper

CLOSE = 1e-3
"""Largest coordinate of `qpos` (m, rad) by which a setting may be off where it counts as the same physics."""


@dataclass(frozen=True)
class Setting:
    """A backend ("mujoco": C, "mjx") and how it integrates: any figures, also those that `PhysicsOptions` refuses."""

    backend: str
    integrator: str
    timestep: float
    iterations: int
    ls_iterations: int
    contacts: str = "feet"

    @classmethod
    def of(cls, options: PhysicsOptions, backend: str = "mujoco") -> "Setting":
        """The setting that a preset stands for."""
        return cls(
            backend,
            options.integrator,
            options.timestep,
            options.iterations,
            options.ls_iterations,
            options.contacts,
        )

    @property
    def substeps(self) -> int:
        """Physics steps in one control step."""
        return round(CONTROL_DT / self.timestep)

    def model(self) -> mujoco.MjModel:
        """The robot with these figures put into the compiled model."""
        model = build_model(replace(STANDARD, integrator=self.integrator, contacts=self.contacts))
        model.opt.timestep = self.timestep
        model.opt.iterations, model.opt.ls_iterations = self.iterations, self.ls_iterations
        return model


def fine(contacts: str = "feet") -> Setting:
    """The reference: .5 ms steps, solved until nothing moves."""
    return Setting("mujoco", "implicitfast", 0.0005, 50, 50, contacts)


def converged(setting: Setting) -> Setting:
    """C MuJoCo at the setting's own time step and integrator, solved until nothing moves."""
    return replace(setting, backend="mujoco", iterations=50, ls_iterations=50)


@dataclass(frozen=True)
class Fidelity:
    """A setting beside a reference; what is not finite counts as `diverged` and enters no other figure.

    `r2`: explained share of the change over one control step, by group of `qvel` and for "joint positions".
    Drifts are the largest coordinate after .2 s (m, rad; m/s, rad/s) over states: `(median, 95 %)`.
    `close`: kind of state -> share whose `qpos` is within `CLOSE` after .2 s.
    """

    states: int
    diverged: float
    r2: dict[str, float | None]
    qpos_drift: tuple[float, float]
    qvel_drift: tuple[float, float]
    close: dict[str, float]


def play(setting: Setting, probe: Probe, threads: int = 1) -> HostState:
    """`(qpos [N, T, 36], qvel [N, T, 35])`: the states after each control step of the probe."""
    if setting.backend == "mjx":
        played = _mjx_player(setting)(*_on_device(probe))
        return HostState(*(np.swapaxes(np.asarray(x, float), 0, 1) for x in played))
    with closing(Stepper(setting.model(), threads)) as stepper:
        return _play_by(stepper, probe)


def _play_by(stepper: Stepper, probe: Probe) -> HostState:
    state, found = probe.start, []
    for step in range(probe.ctrl.shape[1]):
        state = stepper(state, probe.ctrl[:, step])
        found.append(state)
    return HostState(*(np.stack(part, axis=1) for part in zip(*found, strict=True)))


def compare(mine: HostState, reference: HostState, probe: Probe) -> Fidelity:
    """Two plays of one probe."""
    good = np.isfinite(mine.qpos).all(axis=(1, 2)) & np.isfinite(mine.qvel).all(axis=(1, 2))
    (qpos, qvel), (true_qpos, true_qvel), (first_qpos, first_qvel) = (
        (state.qpos[good], state.qvel[good]) for state in (mine, reference, probe.start)
    )
    change, wanted = qvel[:, 0] - first_qvel, true_qvel[:, 0] - first_qvel
    r2 = {name: _r2(change[:, where], wanted[:, where]) for name, where in GROUPS.items()}
    joints = [after[:, 0, 7:] - first_qpos[:, 7:] for after in (qpos, true_qpos)]
    drift, kind = np.abs(qpos[:, -1] - true_qpos[:, -1]).max(axis=-1), probe.kind[good]
    return Fidelity(
        states=len(probe.kind),
        diverged=float(1 - good.mean()),
        r2=r2 | {"joint positions": _r2(joints[0], joints[1])},
        qpos_drift=_spread(drift),
        qvel_drift=_spread(np.abs(qvel[:, -1] - true_qvel[:, -1]).max(axis=-1)),
        close={
            name: float(np.mean(drift[kind == index] <= CLOSE))
            for index, name in enumerate(KINDS)
            if (kind == index).any()
        },
    )


def speed(setting: Setting, probe: Probe, threads: int = 1, repeats: int = 5) -> float:
    """Control steps a second over the probe as one batch: the median of `repeats` plays after one unheeded."""
    if setting.backend == "mjx":
        run, given = _mjx_player(setting), _on_device(probe)
        taken = medians({"play": lambda: jax.block_until_ready(run(*given))}, repeats)
    else:
        with closing(Stepper(setting.model(), threads)) as stepper:
            taken = medians({"play": lambda: _play_by(stepper, probe)}, repeats)
    return probe.ctrl.shape[0] * probe.ctrl.shape[1] / taken["play"]


def _mjx_player(setting: Setting) -> Callable[[PhysicsState, jax.Array], PhysicsState]:
    """Jitted play of a batch, `ctrl` and the result with time first."""
    options = PhysicsOptions(
        setting.timestep,
        setting.substeps,
        setting.integrator,
        setting.iterations,
        setting.ls_iterations,
        setting.contacts,
    )
    physics = MjxPhysics(options)

    @jax.jit
    def run(start: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        count = ctrl.shape[1]
        nothing = jnp.zeros((count, 35)), jnp.zeros(count), jnp.zeros(count, jnp.int32)

        def step(state: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, PhysicsState]:
            state = physics.step(state, ctrl, *nothing)
            return state, state

        return jax.lax.scan(step, start, ctrl)[1]

    return run


def _on_device(probe: Probe) -> tuple[PhysicsState, jax.Array]:
    start = PhysicsState(*(jnp.asarray(x, jnp.float32) for x in probe.start))
    return start, jnp.asarray(np.swapaxes(probe.ctrl, 0, 1), jnp.float32)


def _r2(guess: np.ndarray, truth: np.ndarray) -> float | None:
    """Explained share, pooled over columns; None where nothing changes."""
    total = float(np.sum((truth - truth.mean(axis=0)) ** 2)) if len(truth) else 0.0
    return 1.0 - float(np.sum((guess - truth) ** 2)) / total if total > 0 else None


def _spread(values: Float[np.ndarray, "N"]) -> tuple[float, float]:
    if len(values) == 0:
        return float("nan"), float("nan")
    return float(np.median(values)), float(np.quantile(values, 0.95))
