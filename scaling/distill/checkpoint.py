"""What a stopped group leaves behind, wherever it is, and how the next call finds it."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scaling.distill.buffer import Batch
from scaling.distill.mesh import meet
from scaling.errors import InputError
from scaling.experts.bank import alone
from scaling.experts.mesh import agreed
from scaling.record.files import write_json

_FOLDER, _STATE, _DATA, _CARD = "rounds", "state", "sequences", "group.json"
_FORMAT = 3
_EVERY_S = 30.0
_LOOK_S = 1.0


class Pace:
    """How many updates to take at once: about a second of them, the same number in every process.

    Between two such stretches one looks whether there is something to save, and the host is not further ahead.
    """

    def __init__(self) -> None:
        self.count = 1

    def took(self, updates: int, seconds: float) -> None:
        """So many updates have just taken so long; the count grows at most twofold, for the first compiles."""
        fitting = int(_LOOK_S * updates / max(seconds, 1e-9))
        self.count = agreed(max(1, min(fitting, 2 * self.count)))


class Rounds:
    """Checkpoints of one group below `work`: each round's sequences once, and the latest state under a rising number.

    Where several processes train together the first one writes.
    """

    def __init__(self, work: Path, identity: str) -> None:
        """Raises InputError where there are checkpoints of a group of another `identity`."""
        folder = self._folder = work.absolute() / _FOLDER
        card, mine = self._folder / _CARD, {"identity": identity, "format": _FORMAT}
        if card.exists() and json.loads(card.read_text()) != mine:
            raise InputError(f"{folder} holds the checkpoints of another group of students; delete it or name another")
        self._saved = time.monotonic()
        if jax.process_index() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(card, mine)

    @property
    def due(self) -> bool:
        """The latest state is half a minute old, by the first process's clock."""
        return agreed(time.monotonic() - self._saved >= _EVERY_S)

    def latest(self) -> int:
        """Number of the latest state; 0 where there is none."""
        # Orbax writes under a temporary name and renames last: what bears the final one is whole.
        names = [path.name.removeprefix(f"{_STATE}-") for path in self._folder.glob(f"{_STATE}-*")]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def keep(self, round_: int, sequences: Batch) -> None:
        """Keeps what round number `round_` (from 1) collected: before any state that has learned from it."""
        self._write(_DATA, round_, jax.tree.map(np.asarray, sequences._asdict()))

    def save(self, number: int, state: Any) -> None:
        """Keeps the state under this number, and forgets earlier ones."""
        self._write(_STATE, number, state)
        for path in self._folder.glob(f"{_STATE}-*") if jax.process_index() == 0 else ():
            earlier = path.name.removeprefix(f"{_STATE}-")
            if earlier.isdigit() and int(earlier) < number:
                shutil.rmtree(path, ignore_errors=True)
        self._saved = time.monotonic()

    def restore(self, number: int, like: Any) -> Any:
        """The state of that number in the structure of `like`."""
        with alone("students") as checkpointer:
            return checkpointer.restore(self._at(_STATE, number), like)

    def sequences(self, rounds: int) -> list[Batch]:
        """What the first `rounds` rounds collected, in order."""
        with alone("students") as checkpointer:
            held = [checkpointer.restore(self._at(_DATA, number)) for number in range(1, rounds + 1)]
        return [Batch(**jax.tree.map(np.asarray, sequences)) for sequences in held]

    @staticmethod
    def delete(work: Path) -> None:
        """Deletes the checkpoints below `work`."""
        shutil.rmtree(work / _FOLDER, ignore_errors=True)

    def _write(self, kind: str, number: int, tree: Any) -> None:
        if jax.process_index() == 0:
            with alone("students") as checkpointer:
                checkpointer.save(self._at(kind, number), tree, force=True)
        meet()

    def _at(self, kind: str, number: int) -> Path:
        return self._folder / f"{kind}-{number:04d}"
