"""One physics interface over MJX and C MuJoCo: a state of `qpos` and `qvel`, stepped 20 ms at a time."""

import copy
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, Int
from mujoco import mjx, rollout

from scaling.robot.model import STANDARD, PhysicsOptions, build_model
from scaling.tracking.assist import ROOT_DAMPING

# Divergence is seen by the environment as a non-finite state; MuJoCo's own warning log would fill the disk.
mujoco.set_mju_user_warning(lambda _: None)

# A callback that waits for its arguments while the asynchronous CPU client waits for the callback deadlocks.
jax.config.update("jax_cpu_enable_async_dispatch", False)


class PhysicsState(NamedTuple):
    """All that a control step depends on: solvers start cold each step, so no warm start hides in it."""

    qpos: Float[Array, "*b 36"]
    qvel: Float[Array, "*b 35"]


class Physics(Protocol):
    """A batch of robots under position servos; `variant` picks a randomised model for each."""

    name: str
    variants: int

    def step(
        self,
        state: PhysicsState,
        ctrl: Float[Array, "*b 29"],
        force: Float[Array, "*b 35"],
        assist: Float[Array, "*b"],
        variant: Int[Array, "*b"],
    ) -> PhysicsState:
        """The state one control step (20 ms) later under joint targets (rad) and generalised forces (N, N m).

        `assist` scales the harness's damper, which the integrator has to treat implicitly.
        """
        ...


class CPhysics:
    """C MuJoCo through `mujoco.rollout` on all cores, behind one callback for the whole batch."""

    name = "mujoco"

    def __init__(
        self,
        options: PhysicsOptions = STANDARD,
        models: Sequence[mujoco.MjModel] | None = None,
        threads: int | None = None,
    ) -> None:
        self.options = options
        self._models = list(models) if models else [build_model(options)]
        self.variants = len(self._models)
        self._damped: dict[float, list[mujoco.MjModel]] = {}
        threads = threads or os.cpu_count() or 1
        self._pool = rollout.Rollout(nthread=threads)
        self._data = [mujoco.MjData(self._models[0]) for _ in range(threads)]
        self._spec = int(mujoco.mjtState.mjSTATE_CTRL.value | mujoco.mjtState.mjSTATE_QFRC_APPLIED.value)
        self._state_size = mujoco.mj_stateSize(self._models[0], mujoco.mjtState.mjSTATE_FULLPHYSICS.value)

    def step(self, state: PhysicsState, ctrl: Array, force: Array, assist: Array, variant: Array) -> PhysicsState:
        """See `Physics.step`."""
        shapes = tuple(jax.ShapeDtypeStruct(array.shape, jnp.float32) for array in state)
        out = jax.pure_callback(self._host, shapes, *state, ctrl, force, assist, variant, vmap_method="broadcast_all")
        return PhysicsState(*out)

    def _models_at(self, assist: float) -> list[mujoco.MjModel]:
        """The pool of models with the harness's damper at this strength."""
        if assist not in self._damped:
            models = [copy.copy(model) for model in self._models]
            for model in models:
                model.dof_damping[:6] = assist * ROOT_DAMPING
            self._damped[assist] = models
        return self._damped[assist]

    def _host(
        self, qpos: Any, qvel: Any, ctrl: Any, force: Any, assist: Any, variant: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        lead = np.shape(qpos)[:-1]
        size = int(np.prod(lead))
        substeps = self.options.substeps
        start = np.zeros((size, self._state_size))
        start[:, 1:37] = np.asarray(qpos).reshape(size, 36)
        start[:, 37:72] = np.asarray(qvel).reshape(size, 35)
        control = np.empty((size, substeps, 64))
        control[:, :, :29] = np.asarray(ctrl).reshape(size, 1, 29)
        control[:, :, 29:] = np.asarray(force).reshape(size, 1, 35)
        strengths = np.asarray(assist).reshape(size).tolist()
        pools = {strength: self._models_at(strength) for strength in set(strengths)}
        choice = np.asarray(variant).reshape(size).tolist()
        models = [pools[strength][index] for strength, index in zip(strengths, choice, strict=True)]
        out = np.empty((size, substeps, self._state_size))
        self._pool.rollout(
            models, self._data, start, control, control_spec=self._spec, nstep=substeps, state=out, skip_checks=True
        )
        last = out[:, -1]
        return (
            last[:, 1:37].reshape(*lead, 36).astype(np.float32),
            last[:, 37:72].reshape(*lead, 35).astype(np.float32),
        )


_VARIED_FIELDS = (
    "geom_friction",
    "body_mass",
    "body_inertia",
    "body_ipos",
    "body_subtreemass",
    "body_invweight0",
    "dof_armature",
    "dof_frictionloss",
    "dof_invweight0",
    "actuator_gainprm",
    "actuator_biasprm",
)


class MjxPhysics:
    """MJX (`jax` implementation): the same model compiled by XLA for CPU, GPU or TPU."""

    name = "mjx"

    def __init__(self, options: PhysicsOptions = STANDARD, models: Sequence[mujoco.MjModel] | None = None) -> None:
        self.options = options
        models = list(models) if models else [build_model(options)]
        self.variants = len(models)
        self._model = mjx.put_model(models[0])
        self._data = mjx.make_data(models[0])
        self._varied = {
            field: jnp.asarray(np.stack([getattr(model, field) for model in models]), dtype=jnp.float32)
            for field in _VARIED_FIELDS
            if any(not np.array_equal(getattr(model, field), getattr(models[0], field)) for model in models)
        }

    def step(self, state: PhysicsState, ctrl: Array, force: Array, assist: Array, variant: Array) -> PhysicsState:
        """See `Physics.step`."""
        one = self._step_one
        for _ in range(state.qpos.ndim - 1):
            one = jax.vmap(one)
        return one(state, ctrl, force, assist, variant)

    def _step_one(self, state: PhysicsState, ctrl: Array, force: Array, assist: Array, variant: Array) -> PhysicsState:
        model = self._model.tree_replace({name: values[variant] for name, values in self._varied.items()})
        damping = jnp.concatenate([assist * jnp.asarray(ROOT_DAMPING, jnp.float32), model.dof_damping[6:]])
        model = model.replace(dof_damping=damping)
        data = self._data.replace(
            qpos=state.qpos,
            qvel=state.qvel,
            ctrl=ctrl,
            qfrc_applied=force,
            qacc_warmstart=jnp.zeros_like(state.qvel),
        )

        def substep(data: Any, _: None) -> tuple[Any, None]:
            return mjx.step(model, data), None

        data, _ = jax.lax.scan(substep, data, None, length=self.options.substeps)
        return PhysicsState(data.qpos, data.qvel)


def backend_name(name: str) -> str:
    """The backend that "auto" stands for on this machine (C MuJoCo on a CPU, MJX on an accelerator); others as is."""
    if name != "auto":
        return name
    return "mujoco" if jax.default_backend() == "cpu" else "mjx"


def make_physics(
    name: str, options: PhysicsOptions = STANDARD, models: Sequence[mujoco.MjModel] | None = None
) -> Physics:
    """The backend called `name`: "mujoco", "mjx", or "auto" (see `backend_name`)."""
    name = backend_name(name)
    if name == "mujoco":
        return CPhysics(options, models)
    if name == "mjx":
        return MjxPhysics(options, models)
    raise ValueError(f"physics {name!r}: one of 'auto', 'mujoco', 'mjx'")
