"""Students in training spread over devices: run by run where they divide, else batch and parameters by their axes."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.errors import InputError
from scaling.experts.mesh import gather

AXIS = "students"
_PATIENCE_S = 1800  # what one process may compile or write while the others wait
_meetings = itertools.count()


def meet() -> None:
    """Every process waits for the slowest; a collective, where processes meet else, gives up after half a minute."""
    ocp.multihost.get_barrier_sync_fn()(key=f"students-{next(_meetings)}", timeout_ms=1000 * _PATIENCE_S)


class Layout:
    """Where the R students of a group and their batches of B sequences lie; arrays have R before all other axes.

    Where the devices divide R each has runs of its own, and nothing is communicated. Else sequences are dealt out (data
    parallel), and parameters and moments too, along the longest axis that divides (fully sharded); what is left over is
    whole everywhere. On one device everything stays as it is.
    """

    def __init__(self, runs: int, batch: int, devices: Sequence[jax.Device] | None = None) -> None:
        """As many of `devices` (all) as divide runs or batch; InputError where processes would be left without work."""
        given = list(jax.devices() if devices is None else devices)
        count = max(n for n in range(1, len(given) + 1) if runs % n == 0 or batch % n == 0)
        if count < len(given) and jax.process_count() > 1:
            raise InputError(
                f"neither {runs} runs nor batches of {batch} divide among the {len(given)} devices of "
                f"{jax.process_count()} processes; set dagger.batch to a multiple of {len(given)}"
            )
        self.mesh = Mesh(np.array(given[:count]), (AXIS,))
        self._by_run = runs % count == 0

    @property
    def one(self) -> bool:
        """There is nothing to spread."""
        return self.mesh.size == 1

    def place(self, state: Any) -> Any:
        """Students in training from any one device or the host, on the mesh."""
        return jax.tree.map(lambda x: self._put(x, self._state(np.shape(x))), state)

    def batch(self, batch: Any) -> Any:
        """A batch (its axes R and B first) on the mesh."""
        spec = PartitionSpec(AXIS) if self._by_run else PartitionSpec(None, AXIS)
        return jax.tree.map(lambda x: self._put(x, spec), batch)

    def shared(self, tree: Any) -> Any:
        """What every device reads whole."""
        return jax.tree.map(lambda x: self._put(x, PartitionSpec()), tree)

    @property
    def acts_apart(self) -> bool:
        """Each device of this one process has runs of its own, and may act for them as it learns for them."""
        return not self.one and self._by_run and jax.process_count() == 1

    def fixed(self, state: Any) -> Any:
        """Inside a program: students stay where `place` puts them."""
        if self.one:
            return state
        return jax.tree.map(
            lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, self._state(x.shape))), state
        )

    def whole(self, tree: Any) -> Any:
        """Spread arrays on the first device of this process."""
        if self.one:
            return tree
        meet()
        return jax.tree.map(jnp.asarray, gather(tree))

    def _state(self, shape: tuple[int, ...]) -> PartitionSpec:
        if len(shape) < 2:
            return PartitionSpec()
        if self._by_run:
            return PartitionSpec(AXIS)
        dividing = [axis for axis in range(1, len(shape)) if shape[axis] % self.mesh.size == 0]
        if not dividing:
            return PartitionSpec()
        longest = max(dividing, key=lambda axis: shape[axis])
        return PartitionSpec(*(AXIS if axis == longest else None for axis in range(longest + 1)))

    def _put(self, value: Any, spec: PartitionSpec) -> jax.Array:
        if self.one:
            return jnp.asarray(value)
        if jax.process_count() == 1:
            return jax.device_put(value, NamedSharding(self.mesh, spec))
        held = np.asarray(value)
        return jax.make_array_from_callback(held.shape, NamedSharding(self.mesh, spec), lambda index: held[index])
