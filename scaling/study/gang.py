"""Gangs: processes, on several machines perhaps, that do each job together as one JAX program.

The first of a gang is a worker like any other: it holds the lease and the record, and calls the others by numbered
orders in the store. Each order is done by fresh children that meet at its own coordinator. Whoever loses its child says
so in the store, and the leader counts the attempt as preempted at once. A gang's name is new at each launch.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record.ledger import Ledger
from scaling.record.shelf import LocalShelf

NAME, RANK, SIZE, HOST = "SCALING_GANG_NAME", "SCALING_GANG_RANK", "SCALING_GANG_SIZE", "SCALING_GANG_HOST"
PORT, TIMEOUT = "SCALING_GANG_PORT", "SCALING_GANG_TIMEOUT"
_FOLDER = "gangs"
# What JAX and Gloo say when a peer has gone before anybody's heartbeat was missed.
_PEER = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "Gloo", "onnection reset", "onnection closed", "heartbeat")


@dataclass(frozen=True)
class Place:
    """A process's place in a gang; `host` is where the first one can be reached by the others."""

    name: str
    rank: int
    size: int
    host: str

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise InputError(f"{RANK}={self.rank} and {SIZE}={self.size}: ranks run from 0 to the size less 1")

    def variables(self) -> dict[str, str]:
        """The environment that a launcher gives to the process."""
        return {NAME: self.name, RANK: str(self.rank), SIZE: str(self.size), HOST: self.host}


def place_of(environment: Mapping[str, str]) -> Place | None:
    """The place that a launcher has given to this process; None for one that works alone.

    Raises InputError for a place that is only half said.
    """
    given = [environment.get(name) for name in (NAME, RANK, SIZE, HOST)]
    if environment.get(SIZE, "1") == "1":
        return None
    try:
        name, rank, size, host = (str(value) for value in given if value)
        return Place(name, int(rank), int(size), host)
    except ValueError:
        raise InputError(f"a gang needs {NAME}, {RANK}, {SIZE} and {HOST}: {given}") from None


class Gang:
    """One process's view of its gang. Raises InputError for a store that is no folder: peers write into one."""

    def __init__(self, place: Place, ledger: Ledger) -> None:
        if not isinstance(ledger.shelf, LocalShelf):
            raise InputError(f"{ledger.shelf.url}: a gang writes its checkpoints together; name a folder that all see")
        self.place, self._ledger, self._shelf = place, ledger, ledger.shelf
        self._number = 0

    def call(self, key: str, token: str, work: Path, needed: Mapping[str, Path]) -> dict[str, str]:
        """Gives the others this job; the environment of the leader's own child."""
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        paths = {label: str(path) for label, path in needed.items()}
        self._write({"key": key, "token": token, "work": str(work), "needed": paths, "port": port})
        return self._joining(port)

    def dismiss(self) -> None:
        """Tells the others that nothing is left."""
        self._write({"end": True})

    def lost(self, answer: dict[str, Any] | None, wait_s: float) -> str | None:
        """Why the attempt has to be made again, in words: a peer's child has died. An error may be only its echo."""
        ends = time.monotonic() + (wait_s if answer is not None and "ok" not in answer else 0.0)
        while True:
            told = [name for name in self._shelf.names(self._folder) if name.startswith(f"{self._number:04d}-lost")]
            if told and (answer is None or "ok" not in answer):
                return (self._shelf.read(f"{self._folder}/{told[0]}") or b"a peer was lost").decode()
            if time.monotonic() >= ends:
                break
            time.sleep(0.05)
        words = (answer or {}).get("error", "")
        return f"{words}\nended by the loss of a peer" if any(word in words for word in _PEER) else None

    def order(self) -> dict[str, Any] | None:
        """Of a follower: the newest order that it has not seen; None where there is none yet."""
        numbers = [int(name[:4]) for name in self._shelf.names(self._folder) if name[4:] == ".json"]
        if not numbers or max(numbers) <= self._number:
            return None
        self._number = max(numbers)
        return json.loads(self._shelf.read(f"{self._folder}/{self._number:04d}.json") or b"{}")

    def joining(self, order: Mapping[str, Any]) -> dict[str, str] | None:
        """The environment of a follower's child for an order; None for one whose attempt is over."""
        return self._joining(order["port"]) if self.current(order) else None

    def current(self, order: Mapping[str, Any]) -> bool:
        """Whether the attempt of an order still has the job."""
        return self._ledger.owned(order["key"], order["token"])

    def report(self, words: str) -> None:
        """Of a follower: its child has died."""
        self._shelf.create(f"{self._folder}/{self._number:04d}-lost-{self.place.rank}.txt", words.encode())

    @property
    def _folder(self) -> str:
        return f"{_FOLDER}/{self.place.name}"

    def _write(self, order: dict[str, Any]) -> None:
        numbers = [int(name[:4]) for name in self._shelf.names(self._folder) if name[4:] == ".json"]
        self._number = max(numbers, default=0) + 1
        self._shelf.create(f"{self._folder}/{self._number:04d}.json", json.dumps(order).encode())

    def _joining(self, port: int) -> dict[str, str]:
        timeout = str(max(10, round(self._ledger.times.stale_s)))
        return {**self.place.variables(), PORT: str(port), TIMEOUT: timeout}


def join(environment: Mapping[str, str] = os.environ) -> int:
    """Of a child: joins the gang that it was started for, before JAX does anything; its rank (0 alone)."""
    if PORT not in environment:
        return 0
    import jax

    address, rank = f"{environment[HOST]}:{environment[PORT]}", int(environment[RANK])
    timeout = int(environment[TIMEOUT])
    jax.distributed.initialize(address, int(environment[SIZE]), rank, heartbeat_timeout_seconds=timeout)
    return rank
