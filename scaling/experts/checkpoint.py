"""Orbax checkpoints of a bank in training: the state of all slots and who sits in them."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from scaling.errors import InputError
from scaling.experts.roster import Roster
from scaling.record.progress import say

_EVERY_S = 30.0


class Checkpoints:
    """The newest two, numbered by the iterations done (a context manager)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        )
        self._saved = time.monotonic()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def due(self) -> bool:
        """The last one is half a minute old: a bank of hundreds of experts is a gigabyte to write."""
        return time.monotonic() - self._saved >= _EVERY_S

    def save(self, turn: int, state: Any, roster: Roster) -> None:
        """Everything needed to go on after `turn` iterations."""
        self._manager.save(turn, args=ocp.args.StandardSave(_tree(state, roster)))
        self._saved = time.monotonic()

    def restore(self, state: Any, roster: Roster) -> tuple[Any, Roster, int]:
        """The newest state, roster and iterations done, or those given and 0.

        Raises InputError where the checkpoint is of another configuration.
        """
        turn = self._manager.latest_step()
        if turn is None:
            return state, roster, 0
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, _tree(state, roster))
        try:
            tree = self._manager.restore(turn, args=ocp.args.StandardRestore(template))
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.folder}: the checkpoint is of another configuration; delete the folder ({reason})"
            ) from None
        say(f"resuming from iteration {turn}")
        return tree["state"], Roster(np.asarray(tree["slots"]), np.asarray(tree["left"])), turn


def _tree(state: Any, roster: Roster) -> dict[str, Any]:
    return {"state": state, "slots": roster.slots, "left": roster.left}
