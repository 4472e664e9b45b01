"""A bank's training as one program: PPO for one expert, vmapped over experts, the expert axis sharded over a mesh."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, UInt32

from scaling.experts.ppo import Metrics, PPOConfig, Trainer, TrainState
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.episode import select

AXIS = "experts"
_EXPERTS, _WHOLE = PartitionSpec(AXIS), PartitionSpec()
_TASK_AXES = Task(store=None, clips=0, weights=0, assist=None)  # type: ignore[arg-type]
_TASK_SPECS = Task(store=_WHOLE, clips=_EXPERTS, weights=_EXPERTS, assist=_WHOLE)  # type: ignore[arg-type]


def expert_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices of all processes in a row: experts never talk to each other, so no other axis is needed."""
    return Mesh(np.array(devices if devices is not None else jax.devices()), (AXIS,))


class Program:
    """The two jitted functions of a bank's training over stacked experts, whose number the mesh's size divides.

    `init(keys, task)` and `advance(state, task)` (`count` iterations); in the task, clip lists and weights have the
    expert axis, store and assist are shared. On one device this is a plain `vmap`; on more, each device runs it on
    its own experts (`shard_map`).
    """

    def __init__(self, env: TrackingEnv, config: PPOConfig, count: int, mesh: Mesh | None = None) -> None:
        trainer = Trainer(env, config)
        self.mesh = mesh or expert_mesh(jax.local_devices()[:1])

        def first(keys: UInt32[jax.Array, "K 2"], task: Task) -> TrainState:
            return jax.vmap(trainer.init, in_axes=(0, _TASK_AXES))(jax.random.wrap_key_data(keys), task)

        def many(state: TrainState, task: Task) -> tuple[TrainState, Metrics]:
            def one(state: TrainState, task: Task) -> tuple[TrainState, Metrics]:
                return jax.lax.scan(lambda state, _: trainer.iterate(state, task), state, None, length=count)

            return jax.vmap(one, in_axes=(0, _TASK_AXES))(state, task)

        self._init = jax.jit(self._spread(first, (_EXPERTS, _TASK_SPECS)))
        self._advance = jax.jit(self._spread(many, (_EXPERTS, _TASK_SPECS)), donate_argnums=0)
        self._merge = jax.jit(lambda fresh, old, new: select(fresh, new, old), donate_argnums=1)

    def _spread(self, function: Callable, specs: Any) -> Callable:
        if self.mesh.size == 1:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=_EXPERTS, check_vma=False)

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

    def init(self, keys: UInt32[np.ndarray, "K 2"], task: Task) -> TrainState:
        """Fresh experts; `keys` are raw."""
        return self._init(keys if self.mesh.size == 1 else self._put(keys, _EXPERTS), task)

    def advance(self, state: TrainState, task: Task) -> tuple[TrainState, Metrics]:
        """`count` iterations of every expert; metrics are `[K, count]`. The state passed in is gone."""
        return self._advance(state, task)

    def merge(self, fresh: Bool[np.ndarray, "K"], new: TrainState, old: TrainState) -> TrainState:
        """The new state where `fresh`, else the old one (which is gone)."""
        return self._merge(fresh, old, new)

    def _put(self, value: Any, spec: PartitionSpec) -> jax.Array:
        held = np.asarray(value)
        return jax.make_array_from_callback(held.shape, NamedSharding(self.mesh, spec), lambda index: held[index])


def gather(tree: Any) -> Any:
    """The whole of sharded arrays as NumPy, in every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def agreed(value: bool) -> bool:
    """Process 0's opinion, in every process: what depends on a clock must not differ between them."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))
