"""How far a stage is, on standard error: bars with an ETA at a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Generator, Iterable, Sized
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from scaling.record.screen import Screen

Item = TypeVar("Item")
_LINE_EVERY_S = 5.0


class Progress:
    """Progress of one stage as a context manager; may be nested, each with a line of its own.

    `update(done, total, message)` may be called as often as wanted and from any thread. The ETA counts only what was
    done since the first update, so that a resumed stage is not thought to be fast.
    """

    def __init__(self, title: str, total: float | None = None, stream: TextIO | None = None) -> None:
        self.title = title
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        self._done: float = 0
        self._first: tuple[float, float] | None = None
        self._message = ""
        self._started = self._printed = 0.0
        self._screen: Screen | None = None
        self._task = 0

    def __enter__(self) -> "Progress":
        self._started = self._printed = time.monotonic()
        if self._stream.isatty():
            from scaling.record.screen import SCREEN  # elsewhere nobody waits for what draws bars

            self._screen, self._task = SCREEN, SCREEN.add(self)
        else:
            self._line("started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = duration(time.monotonic() - self._started)
        end = f"done in {took}" if kind is None else f"stopped after {took}"
        if self._screen is not None:
            self._screen.remove(self._task)
        self._line(f"{end}{'; ' + self._message if self._message else ''}")

    def update(self, done: float, total: float | None = None, message: str = "") -> None:
        """`done` of `total` units; an empty message keeps the last one."""
        now = time.monotonic()
        self._done = done
        self._total = total if total is not None else self._total
        self._message = message or self._message
        if self._first is None:
            self._first = (now, done)
        if self._screen is not None:
            self._screen.refresh(self._task, self)
        elif now - self._printed >= _LINE_EVERY_S:
            self._printed = now
            self._line(f"{self.share()}, {self.times()}{'; ' + self._message if self._message else ''}")

    def share(self) -> str:
        """ "12/40 (30 %)", or only the count where the total is not known."""
        if not self._total:
            return f"{self._done:g}"
        return f"{self._done:g}/{self._total:g} ({100 * self._done / self._total:.0f} %)"

    def eta_s(self) -> float | None:
        """Seconds still to go at the pace since the first update; None before there is a pace."""
        if self._first is None or not self._total:
            return None
        since, already = self._first
        fresh = self._done - already
        if fresh <= 0:
            return None
        return max(0.0, (time.monotonic() - since) / fresh * (self._total - self._done))

    def times(self) -> str:
        """Elapsed time and ETA in words."""
        eta = self.eta_s()
        elapsed = duration(time.monotonic() - self._started)
        return elapsed if eta is None else f"{elapsed}, about {duration(eta)} left"

    def fraction(self) -> tuple[float, float | None]:
        """Done and total, for the bar."""
        return self._done, self._total

    @property
    def message(self) -> str:
        """The last message."""
        return self._message

    def _line(self, text: str) -> None:
        print(f"{self.title}: {text}", file=self._stream, flush=True)


def track(items: Iterable[Item], title: str, total: float | None = None) -> Generator[Item]:
    """Yields `items` under a bar; the total is `len(items)` where it has one."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(title, total) as progress:
        progress.update(0)
        for count, item in enumerate(items, start=1):
            yield item
            progress.update(count)


def say(text: str) -> None:
    """One line on standard error, above the bars where there are any."""
    screen = getattr(sys.modules.get("scaling.record.screen"), "SCREEN", None)  # there is one since the first bar
    if screen is None or not screen.say(text):
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """ "9.2 s", "48 s", "3 min 20 s" or "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
