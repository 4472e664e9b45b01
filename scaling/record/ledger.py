"""What became of each piece of work: numbered entries, each created once, so that the log itself is lease and fence.

Entry N+1 of a key is created only if it is absent. An owner publishes by creating the entry after its own claim, and a
dead owner is taken over by creating the same entry: one of the two fails, whatever clock, pause or network delayed it.
"""

import contextlib
import dataclasses
import functools
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from scaling.errors import InputError
from scaling.record.files import jsonable, passing
from scaling.record.lease import LeaseTimes, identity, process_gone
from scaling.record.shelf import Shelf

RUNS = "runs"
CLAIMED, DONE, FAILED, REQUEUED, PREEMPTED, RETRY, INVALID = (
    "claimed",
    "done",
    "failed",
    "requeued",
    "preempted",
    "retry",
    "invalid",
)
DAMAGED = "damaged"
CLAIMABLE = (REQUEUED, PREEMPTED, RETRY, INVALID)
_ENTRY = re.compile(r"(\d{4,})\.json")
_COUNTS = ("attempts", "failures", "preemptions")
_LATER_COUNTS = ("deaths", "since")  # entries of older stores have none
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Entry:
    """The last word about a run; entry 0 says that nobody has begun. Counts and seconds are of all attempts so far.

    `deaths` are the last attempts that one after the other ended with the death of what did the work, while its owner
    lived: a machine that is lost says nothing about the work. What attempts up to entry `since` left was taken back.
    """

    number: int = 0
    state: str = RETRY
    attempts: int = 0
    failures: int = 0
    preemptions: int = 0
    deaths: int = 0
    since: int = 0
    seconds: float = 0.0
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def token(self) -> str:
        """The name of a claim's attempt, or of the attempt that an entry ends."""
        return str(self.data.get("token", ""))

    @property
    def error(self) -> str | None:
        """The last words of what ended an attempt."""
        return self.data.get("error")

    def counted(self) -> dict[str, Any]:
        """What the next entry begins from."""
        return {name: getattr(self, name) for name in (*_COUNTS, *_LATER_COUNTS, "seconds")}


class Ledger:
    """The entries of every run in a folder of a shelf, and one observer's view of their owners' heartbeats."""

    def __init__(self, shelf: Shelf, times: LeaseTimes | None = None, folder: str = RUNS) -> None:
        self.shelf, self.times, self._folder = shelf, times or LeaseTimes(), folder
        self._seen: dict[str, tuple[tuple[int, Any], float]] = {}

    def standing(self, keys: Iterable[str] | None = None) -> dict[str, Entry]:
        """The last entry of every run that has one (of `keys` where they are given)."""
        wanted = None if keys is None else set(keys)
        return {
            key: entry
            for key, names in self.patiently(lambda: list(self.shelf.slots(self._folder)))
            if (wanted is None or key in wanted) and (entry := self._last(key, names)).number
        }

    def last(self, key: str) -> Entry:
        """The last entry of a run."""
        return self._last(key, self.patiently(lambda: self.shelf.names(f"{self._folder}/{key}")))

    def append(self, key: str, after: Entry, state: str, **data: Any) -> Entry | None:
        """The entry after `after`; None where another was first. Counts go on from `after` unless they are given."""
        said = {"state": state, "written": time.time(), "id": uuid.uuid4().hex[:12]}  # no two entries have equal bytes
        record = after.counted() | {"token": after.token} | data | said
        number = after.number + 1
        text = json.dumps(jsonable(record), allow_nan=False).encode()
        if not self.patiently(lambda: self.shelf.create(self._path(key, number), text)):
            return None
        return _entry(number, record)

    def patiently(self, call: Callable[[], _T]) -> _T:
        """What the store answers, asked again for as long as a lease lasts where it fails in a way that may pass."""
        began = time.monotonic()
        while True:
            try:
                return call()
            except OSError as error:
                if not passing(error) or time.monotonic() - began > self.times.stale_s:
                    raise
            time.sleep(self.times.poll_s)

    def withdraw(self, key: str) -> Entry | None:
        """Takes back what all attempts have left, and fences one that is under way; None where there is nothing."""
        while (entry := self.last(key)).number and entry.state != INVALID:
            seconds = entry.seconds + (self._worked(key, entry) if entry.state in (CLAIMED, DAMAGED) else 0.0)
            if made := self.append(key, entry, INVALID, since=entry.number + 1, deaths=0, seconds=seconds):
                return made
        return None

    def claim(self, key: str, after: Entry, worker: str) -> Entry | None:
        """An attempt of this process; None where another was first."""
        token = f"{after.number + 1:04d}-{uuid.uuid4().hex[:8]}"
        data = {"token": token, "worker": worker, "started": time.time(), **identity()}
        lost = after.state in (CLAIMED, DAMAGED)  # its owner died: the work it did is on the bill
        seconds = after.seconds + (self._worked(key, after) if lost else 0.0)
        counts = {"attempts": after.attempts + 1, "preemptions": after.preemptions + lost, "seconds": seconds}
        return self.append(key, after, CLAIMED, **counts, deaths=0 if lost else after.deaths, **data)

    def beat(self, key: str, claim: Entry) -> None:
        """Says that the owner lives; a store that is away for a moment may miss it."""
        try:
            self.shelf.beat(self._path(key, claim.number))
        except OSError as error:
            if not passing(error):
                raise

    @contextlib.contextmanager
    def beating(self, key: str, claim: Entry) -> Iterator[None]:
        """Heartbeats from a thread, for an owner that works in its own process."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.times.heartbeat_s):
                self.beat(key, claim)

        thread = threading.Thread(target=beat, name=f"lease of {key}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def owned(self, key: str, token: str) -> bool:
        """Whether the attempt of this token has the last word."""
        entry = self.last(key)
        return entry.state == CLAIMED and entry.token == token

    def release(self, key: str, claim: Entry, seconds: float) -> None:
        """Gives an owned claim back; `seconds` are of all attempts so far. On a full disk the claim itself goes."""
        if not self.owned(key, claim.token):
            return
        try:
            self.append(key, claim, REQUEUED, seconds=seconds)
        except (InputError, OSError):
            with contextlib.suppress(InputError, OSError):
                self.shelf.remove(self._path(key, claim.number))

    def claimable(self, key: str, entry: Entry) -> bool:
        """Whether an attempt may begin: nobody has it, or its owner is dead or has stood still for too long."""
        if entry.state in (CLAIMED, DAMAGED):
            return self.gone(entry) or self._stale(key, entry)
        return entry.state in CLAIMABLE

    def gone(self, entry: Entry) -> bool:
        """Whether the owner ran in sight of this process and is no more."""
        return process_gone(entry.data)

    def _stale(self, key: str, entry: Entry) -> bool:
        now, seen = time.monotonic(), (entry.number, self._stamp(key, entry))
        before = self._seen.get(key)
        if before is None or before[0] != seen:
            self._seen[key] = (seen, now)
            return False
        return now - before[1] > self.times.stale_s

    def _worked(self, key: str, claim: Entry) -> float:
        """Seconds from the start of a lost attempt to its last heartbeat, where the shelf tells."""
        stamp, started = self._stamp(key, claim), claim.data.get("started")
        if isinstance(stamp, int) and isinstance(started, int | float):
            return max(0.0, stamp * 1e-9 - started)
        return 0.0

    def _stamp(self, key: str, entry: Entry) -> Any:
        return self.patiently(lambda: self.shelf.stamp(self._path(key, entry.number)))

    def _path(self, key: str, number: int) -> str:
        return f"{self._folder}/{key}/{number:04d}.json"

    def _last(self, key: str, names: list[str]) -> Entry:
        """The highest number; where that cannot be read, a damaged entry with the counts of the one before."""
        numbers = sorted(int(match[1]) for name in names if (match := _ENTRY.fullmatch(name)))
        for number in reversed(numbers):
            path = self._path(key, number)
            entry = _read(number, self.patiently(functools.partial(self.shelf.read, path)))
            if entry is not None:
                if number == numbers[-1]:
                    return entry
                return dataclasses.replace(entry, number=numbers[-1], state=DAMAGED, data={})
        return Entry(numbers[-1], DAMAGED) if numbers else Entry()


def _read(number: int, text: bytes | None) -> Entry | None:
    try:
        record = json.loads(text or b"")
        return _entry(number, record)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _entry(number: int, record: dict[str, Any]) -> Entry:
    counts = {name: int(record[name]) for name in _COUNTS}
    counts |= {name: int(record.get(name, 0)) for name in _LATER_COUNTS}
    return Entry(number, str(record["state"]), **counts, seconds=float(record["seconds"]), data=record)
