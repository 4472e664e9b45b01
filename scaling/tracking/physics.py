"""One physics interface over MJX and C MuJoCo: a state of `qpos` and `qvel`, stepped 20 ms at a time."""

import copy
import hashlib
import os
import threading
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, Int
from mujoco import mjx, rollout

from scaling.errors import InputError
from scaling.robot.model import STANDARD, PhysicsOptions, build_model
from scaling.tracking import warp
from scaling.tracking.assist import ROOT_DAMPING
from scaling.tracking.host_call import host_call
from scaling.tracking.terrain import Ground, ground_of

# Divergence is seen by the environment as a non-finite state; MuJoCo's own warning log would fill the disk.
mujoco.set_mju_user_warning(lambda _: None)

# A callback that waits for its arguments while the asynchronous CPU client waits for the callback deadlocks.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def widen_pool() -> None:
    """Makes room in XLA's CPU thread pool for MJX; to be called before JAX computes anything, on a CPU alone.

    A batched Cholesky factorisation waits, on a thread of the pool, for parts that it hands to the same pool; MJX runs
    two at once, which on two cores deadlocks now and then (jaxlib 0.10, which reads the pool's size from here). It is
    not the default because training around C MuJoCo is a fifth slower with more threads than cores.
    """
    os.environ.setdefault("NPROC", str(max(8, os.cpu_count() or 1)))


class PhysicsState(NamedTuple):
    """All that a control step depends on: solvers start cold each step, so no warm start hides in it."""

    qpos: Float[Array, "*b 36"]
    qvel: Float[Array, "*b 35"]


class Physics(Protocol):
    """A batch of robots under position servos; `variant` picks a randomised model, and its ground, for each.

    `ground(variant, xy)` is the height (m) of the ground; None where it is the plane at 0.
    """

    name: str
    options: PhysicsOptions
    variants: int
    ground: Ground | None

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


class _Room(NamedTuple):
    """What `mujoco.rollout` reads and writes: full states, controls with forces, states after each substep."""

    start: Float[np.ndarray, "E 72"]
    control: Float[np.ndarray, "E S 64"]
    out: Float[np.ndarray, "E S 72"]


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
        self.ground = ground_of(self._models)
        self._damped: dict[float, list[mujoco.MjModel]] = {}
        self._lock = threading.Lock()  # several (simulated) devices call at once
        threads = threads or os.cpu_count() or 1
        self._pool = rollout.Rollout(nthread=threads)
        self._data = [mujoco.MjData(self._models[0]) for _ in range(threads)]
        self._spec = int(mujoco.mjtState.mjSTATE_CTRL.value | mujoco.mjtState.mjSTATE_QFRC_APPLIED.value)
        self._state_size = mujoco.mj_stateSize(self._models[0], mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        self._last = _Room(*(np.empty((0,) * dimensions) for dimensions in (2, 3, 3)))

    def step(self, state: PhysicsState, ctrl: Array, force: Array, assist: Array, variant: Array) -> PhysicsState:
        """See `Physics.step`."""
        shapes = tuple(jax.ShapeDtypeStruct(array.shape, jnp.float32) for array in state)
        return PhysicsState(*host_call(self._number, self._host, shapes, *state, ctrl, force, assist, variant))

    @cached_property
    def _number(self) -> int:
        """63 bits of all that decides what a control step of these models computes."""
        digest = hashlib.sha256(repr((self.options, mujoco.__version__, np.asarray(ROOT_DAMPING).tolist())).encode())
        for model in self._models:
            binary = np.empty(mujoco.mj_sizeModel(model), np.uint8)
            mujoco.mj_saveModel(model, None, binary)
            digest.update(binary.tobytes())
        return int.from_bytes(digest.digest()[:8], "little") >> 1

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
        strengths = np.asarray(assist).reshape(size).tolist()
        pools = {strength: self._models_at(strength) for strength in set(strengths)}
        choice = np.asarray(variant).reshape(size).tolist()
        models = [pools[strength][index] for strength, index in zip(strengths, choice, strict=True)]
        after = np.empty((size, 71), np.float32)
        with self._lock:
            room = self._room(size)
            room.start[:, 1:37] = np.asarray(qpos).reshape(size, 36)
            room.start[:, 37:] = np.asarray(qvel).reshape(size, 35)
            room.control[:, :, :29] = np.asarray(ctrl).reshape(size, 1, 29)
            room.control[:, :, 29:] = np.asarray(force).reshape(size, 1, 35)
            awake = np.isfinite(room.start).all(axis=1)
            if awake.all():
                self._roll(models, room)
                after[:] = room.out[:, -1, 1:]
            else:  # a robot that is no longer finite stays so: nothing is computed for it
                rows = np.flatnonzero(awake)
                after[:] = np.nan
                if len(rows):
                    some = _Room(room.start[rows], room.control[rows], room.out[: len(rows)])
                    self._roll([models[row] for row in rows], some)
                    after[rows] = some.out[:, -1, 1:]
        return after[:, :36].reshape(*lead, 36), after[:, 36:].reshape(*lead, 35)

    def _roll(self, models: list[mujoco.MjModel], room: _Room) -> None:
        self._pool.rollout(
            models, self._data, room.start, room.control, control_spec=self._spec, nstep=self.options.substeps,
            state=room.out, skip_checks=True,
        )  # fmt: skip

    def _room(self, size: int) -> _Room:
        """Where the last batch was laid out, if it was as large: fresh megabytes at each step cost more to touch."""
        if len(self._last.start) != size:
            substeps = self.options.substeps
            self._last = _Room(
                np.zeros((size, self._state_size)),
                np.empty((size, substeps, 64)),
                np.empty((size, substeps, self._state_size)),
            )
        return self._last


_VARIED_FIELDS = (
    "geom_friction",
    "geom_pos",
    "geom_quat",
    "geom_size",
    "hfield_data",
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


# Room for one robot in MJX Warp's arrays: contacts (four a sole sphere, or those of the capsules) and constraint rows.
_WARP_CONTACTS = {"feet": 32, "body": 64, "full": 96}
_WARP_ROWS = {"feet": 192, "body": 320, "full": 448}


class MjxPhysics:
    """MJX: the same model compiled by XLA for CPU, GPU or TPU (`jax`), or as NVIDIA Warp kernels (`warp`).

    Raises InputError for `warp` without the package warp-lang or an NVIDIA GPU.
    """

    def __init__(
        self,
        options: PhysicsOptions = STANDARD,
        models: Sequence[mujoco.MjModel] | None = None,
        impl: str = "jax",
    ) -> None:
        if impl == "warp":
            warp.need_warp()
        self.name = "mjx" if impl == "jax" else impl
        self.options = options
        self.impl = impl
        models = list(models) if models else [build_model(options)]
        self.variants = len(models)
        self.ground = ground_of(models)
        self._nominal = copy.copy(models[0])
        if impl == "warp":  # it never resets a diverged state and refuses the flag that says so
            self._nominal.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        self._model = mjx.put_model(self._nominal, impl=impl)
        if impl == "warp":
            self._model = warp.without_iteration_warnings(self._model)
        self._varied = {
            field: jnp.asarray(np.stack([getattr(model, field) for model in models]), dtype=jnp.float32)
            for field in _VARIED_FIELDS
            if any(not np.array_equal(getattr(model, field), getattr(models[0], field)) for model in models)
        }
        if impl == "warp":
            warp.check_varied(self._varied)
        self._data = mjx.make_data(models[0]) if impl == "jax" else None
        self._batch = warp.one_call(self._warped) if impl == "warp" else self._vmapped

    def step(self, state: PhysicsState, ctrl: Array, force: Array, assist: Array, variant: Array) -> PhysicsState:
        """See `Physics.step`."""
        lead = state.qpos.shape[:-1]
        size = int(np.prod(lead))
        flat = jax.tree.map(lambda x: x.reshape(size, *x.shape[len(lead) :]), (state, ctrl, force, assist, variant))
        out = self._batch(*flat)
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), out)

    def _vmapped(self, *robots: Any) -> PhysicsState:
        return jax.vmap(partial(self._step_one, self._data))(*robots)

    def _warped(self, *robots: Any) -> PhysicsState:
        """As `_vmapped`; the contacts of all robots share one array, so its length goes with their number."""
        contacts, rows = _WARP_CONTACTS[self.options.contacts], _WARP_ROWS[self.options.contacts]
        count = robots[1].shape[0]
        data = mjx.make_data(self._nominal, impl="warp", naconmax=contacts * count, njmax=rows)
        return jax.vmap(partial(self._step_one, data))(*robots)

    def _step_one(
        self, data: Any, state: PhysicsState, ctrl: Array, force: Array, assist: Array, variant: Array
    ) -> PhysicsState:
        model = self._model.tree_replace({name: values[variant] for name, values in self._varied.items()})
        damping = jnp.concatenate([assist * jnp.asarray(ROOT_DAMPING, jnp.float32), model.dof_damping[6:]])
        model = model.replace(dof_damping=damping)
        data = data.replace(
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


BACKENDS = ("mujoco", "mjx", "warp")


def backend_name(name: str) -> str:
    """The backend that "auto" stands for on this machine (C MuJoCo on a CPU, MJX on an accelerator); others as is.

    "mujoco": C MuJoCo; "mjx": MJX by XLA; "warp": MJX by NVIDIA Warp. Raises InputError for any other name.
    """
    if name == "auto":
        return "mujoco" if jax.default_backend() == "cpu" else "mjx"
    if name not in BACKENDS:
        raise InputError(f"physics {name!r}: one of {('auto', *BACKENDS)}")
    return name


def make_physics(
    name: str, options: PhysicsOptions = STANDARD, models: Sequence[mujoco.MjModel] | None = None
) -> Physics:
    """The backend called `name` (see `backend_name`), on this pool of models or the nominal robot alone."""
    name = backend_name(name)
    if name == "mujoco":
        return CPhysics(options, models)
    return MjxPhysics(options, models, "jax" if name == "mjx" else name)
