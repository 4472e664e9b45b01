"""A bank's training as one program over all experts, the expert axis sharded over a mesh."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, UInt32

from scaling.dynamics import artifact
from scaling.experts.actor import Actors
from scaling.experts.dream import Dreamer, DreamState, normaliser_of
from scaling.experts.dream_config import DreamConfig
from scaling.experts.ppo import PPOConfig, Trainer, TrainState, actor_bank
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.episode import select

AXIS = "experts"
_EXPERTS, _WHOLE = PartitionSpec(AXIS), PartitionSpec()
_TASK_AXES = Task(store=None, clips=0, weights=0, assist=None)  # type: ignore[arg-type]
_TASK_SPECS = Task(store=_WHOLE, clips=_EXPERTS, weights=_EXPERTS, assist=_WHOLE)  # type: ignore[arg-type]


def expert_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices of all processes in a row: experts never talk to each other, so no other axis is needed."""
    return Mesh(np.array(devices if devices is not None else jax.devices()), (AXIS,))


ExpertConfig = PPOConfig | DreamConfig


class BankTrainer(Protocol):
    """A recipe over the experts that one device holds; `specs` says which parts of its state have the expert axis.

    States know `iteration` and `restored` of each expert.
    """

    specs: Any

    def init(self, keys: UInt32[jax.Array, "K 2"], task: Task) -> Any:
        """Fresh experts."""
        ...

    def iterate(self, state: Any, task: Task) -> tuple[Any, Any]:
        """One iteration, and its metrics [K]."""
        ...

    def exchange(self, fresh: jax.Array, new: Any, old: Any) -> Any:
        """`old` with the new experts where `fresh`."""
        ...

    def actors(self, state: Any) -> Any:
        """What is kept of the experts: a `Bank`, or what another kind of actor plays by."""
        ...

    def leave(self, state: Any, work: Path) -> None:
        """Writes what is kept besides the experts below `work`."""
        ...


class PPOBank:
    """PPO's experts share nothing: each trains as if it were alone."""

    specs = _EXPERTS

    def __init__(self, one: Trainer) -> None:
        self._one = one

    def init(self, keys: UInt32[jax.Array, "K 2"], task: Task) -> TrainState:
        """See `BankTrainer`."""
        return jax.vmap(self._one.init, in_axes=(0, _TASK_AXES))(jax.random.wrap_key_data(keys), task)

    def iterate(self, state: TrainState, task: Task) -> tuple[TrainState, Any]:
        """See `BankTrainer`."""
        return jax.vmap(self._one.iterate, in_axes=(0, _TASK_AXES))(state, task)

    def exchange(self, fresh: jax.Array, new: TrainState, old: TrainState) -> TrainState:
        """See `BankTrainer`."""
        return select(fresh, new, old)

    def actors(self, state: TrainState) -> Any:
        """See `BankTrainer`."""
        return actor_bank(state)

    def leave(self, state: TrainState, work: Path) -> None:
        """See `BankTrainer`: nothing."""


class DreamBank(Dreamer):
    """Dreamed experts share the model of the robot."""

    specs = DreamState(experts=_EXPERTS, shared=_WHOLE)  # type: ignore[arg-type]

    def exchange(self, fresh: jax.Array, new: DreamState, old: DreamState) -> DreamState:
        """See `BankTrainer`; the model stays."""
        return DreamState(select(fresh, new.experts, old.experts), old.shared)

    def actors(self, state: DreamState) -> Any:
        """See `BankTrainer`: the averaged ones."""
        return jax.vmap(self.kind.params)(state.experts.average, normaliser_of(state.experts.statistics))

    def leave(self, state: DreamState, work: Path) -> None:
        """See `BankTrainer`: the simulator."""
        artifact.save(work / artifact.FOLDER, self.config.model, state.shared.dream, self.env.physics.options)


def trainer_of(
    env: TrackingEnv, config: ExpertConfig, axis: str | None = None, kind: Actors | None = None
) -> BankTrainer:
    """The recipe of a config; only dreams train another kind of actors than an expert's."""
    if isinstance(config, PPOConfig):
        if kind is not None:
            raise ValueError("PPO trains experts alone")
        return PPOBank(Trainer(env, config))
    return DreamBank(env, config, axis, kind)


class Program:
    """The jitted functions of a bank's training over stacked experts, whose number the mesh's size divides.

    `init(keys, task)` and `advance(state, task)` (`count` iterations); in the task, clip lists and weights have the
    expert axis, store and assist are shared. On more than one device each runs its own experts (`shard_map`).
    """

    def __init__(
        self,
        env: TrackingEnv,
        config: ExpertConfig,
        count: int,
        mesh: Mesh | None = None,
        kind: Actors | None = None,
        trainer: BankTrainer | None = None,
    ) -> None:
        """`trainer` is that of the config, unless one is given."""
        self.mesh = mesh or expert_mesh(jax.local_devices()[:1])
        self.count = count
        trainer = trainer or trainer_of(env, config, AXIS if self.mesh.size > 1 else None, kind)
        self.actors, self.leave = trainer.actors, trainer.leave

        def many(state: Any, task: Task) -> tuple[Any, Any]:
            state, metrics = jax.lax.scan(lambda state, _: trainer.iterate(state, task), state, None, length=count)
            return state, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), metrics)

        specs = trainer.specs
        self._init = jax.jit(self._spread(trainer.init, (_EXPERTS, _TASK_SPECS), specs))
        self._advance = jax.jit(self._spread(many, (specs, _TASK_SPECS), (specs, _EXPERTS)), donate_argnums=0)
        self._exchange = jax.jit(lambda fresh, old, new: trainer.exchange(fresh, new, old), donate_argnums=1)

    def _spread(self, function: Callable, given: Any, found: Any) -> Callable:
        if self.mesh.size == 1:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=given, out_specs=found, check_vma=False)

    def place(self, task: Task) -> Task:
        """The task on the devices, its expert axis spread: do it once a roster, not once a call."""
        if self.mesh.size == 1:
            return task
        return Task(
            *(
                jax.tree.map(lambda x, s=spec: self._put(x, s), part)
                for part, spec in zip(task, _TASK_SPECS, strict=True)
            )
        )

    def init(self, keys: UInt32[np.ndarray, "K 2"], task: Task) -> Any:
        """Fresh experts; `keys` are raw."""
        return self._init(keys if self.mesh.size == 1 else self._put(keys, _EXPERTS), task)

    def advance(self, state: Any, task: Task) -> tuple[Any, Any]:
        """`count` iterations of every expert; metrics are `[K, count]`. The state passed in is gone."""
        return self._advance(state, task)

    def exchange(self, fresh: Bool[np.ndarray, "K"], new: Any, old: Any) -> Any:
        """The new experts where `fresh`, else the old ones (whose state is gone)."""
        return self._exchange(fresh, old, new)

    def by_expert(self, value: Any) -> jax.Array:
        """An array whose first axis is the experts', spread over the mesh."""
        return self._put(value, _EXPERTS)

    def _put(self, value: Any, spec: PartitionSpec) -> jax.Array:
        held = np.asarray(value)
        return jax.make_array_from_callback(held.shape, NamedSharding(self.mesh, spec), lambda index: held[index])


def gather(tree: Any) -> Any:
    """The whole of sharded arrays as NumPy, in every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)


Value = TypeVar("Value", bool, int)


def agreed(value: Value) -> Value:
    """Process 0's opinion, in every process: what depends on a clock must not differ between them."""
    if jax.process_count() == 1:
        return value
    return type(value)(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def anyone(value: bool) -> bool:
    """Whether it is so in any process, in every process: a signal may reach one of them alone."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.asarray(value)).any())
