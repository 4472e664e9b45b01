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

_STATE, _DATA, _CARD = "state", "sequences", "group.json"


class Rounds:
    """Checkpoints of one group below `folder`: each round's sequences once, and the state after the latest round."""

    def __init__(self, folder: Path, identity: str) -> None:
        """Raises InputError where the folder holds checkpoints of a group of another `identity`."""
        self._folder = folder.absolute()
        card = self._folder / _CARD
        if card.exists() and json.loads(card.read_text())["identity"] != identity:
            raise InputError(f"{folder} holds the checkpoints of another group of students; delete it or name another")
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(card, {"identity": identity})

    def done(self) -> int:
        """Rounds that are over."""
        return max((int(path.name.split("-")[1]) for path in self._folder.glob(f"{_STATE}-[0-9]*") if _whole(path)), default=0)

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

    def clear(self) -> None:
        """Deletes the checkpoints: the students have been kept elsewhere."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _at(self, kind: str, rounds: int) -> Path:
        return self._folder / f"{kind}-{rounds:04d}"


def _whole(path: Path) -> bool:
    """Orbax writes beside the final name and renames last."""
    return path.is_dir() and path.name.split("-")[1].isdigit()
