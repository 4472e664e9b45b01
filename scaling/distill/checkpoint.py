"""What a killed group leaves behind after each round, and how the next call finds it."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from scaling.distill.buffer import Batch
from scaling.errors import InputError
from scaling.record.files import write_json

_FOLDER, _STATE, _DATA, _CARD = "rounds", "state", "sequences", "group.json"


class Rounds:
    """Checkpoints of one group below `work`: each round's sequences once, and the state after the latest round."""

    def __init__(self, work: Path, identity: str) -> None:
        """Raises InputError where there are checkpoints of a group of another `identity`."""
        folder = self._folder = work.absolute() / _FOLDER
        card = self._folder / _CARD
        if card.exists() and json.loads(card.read_text())["identity"] != identity:
            raise InputError(f"{folder} holds the checkpoints of another group of students; delete it or name another")
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(card, {"identity": identity})

    def done(self) -> int:
        """Rounds that are over."""
        # Orbax writes under a temporary name and renames last: what bears the final one is whole.
        names = [path.name.removeprefix(f"{_STATE}-") for path in self._folder.glob(f"{_STATE}-*")]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def save(self, rounds: int, sequences: Batch, state: Any) -> None:
        """Keeps a round: its sequences first, so that a state never stands without them."""
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(self._at(_DATA, rounds), sequences._asdict(), force=True)
            checkpointer.wait_until_finished()
            checkpointer.save(self._at(_STATE, rounds), state, force=True)
        for older in range(rounds):
            shutil.rmtree(self._at(_STATE, older), ignore_errors=True)

    def restore(self, rounds: int, like: Any) -> tuple[list[Batch], Any]:
        """The sequences of all rounds in order, and the state after the last in the structure of `like`."""
        with ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(self._at(_STATE, rounds), like)
            held = [checkpointer.restore(self._at(_DATA, number)) for number in range(1, rounds + 1)]
        return [Batch(**jax.tree.map(np.asarray, sequences)) for sequences in held], state

    @staticmethod
    def delete(work: Path) -> None:
        """Deletes the checkpoints below `work`."""
        shutil.rmtree(work / _FOLDER, ignore_errors=True)

    def _at(self, kind: str, rounds: int) -> Path:
        return self._folder / f"{kind}-{rounds:04d}"
