"""Time for the control loop: real or virtual, and a rate that never drifts."""

import contextlib
import gc
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float


class Clock(Protocol):
    """Seconds since the clock was made."""

    def now(self) -> float:
        """Present time (s)."""
        ...

    def sleep_until(self, instant: float) -> None:
        """Return at `instant` (s), at once where it has passed."""
        ...


class WallClock:
    """The real time, by the monotonic clock."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now(self) -> float:
        """Present time (s)."""
        return time.monotonic() - self._start

    def sleep_until(self, instant: float) -> None:
        """Sleep for what is left of the time to `instant`."""
        left = instant - self.now()
        if left > 0:
            time.sleep(left)


class VirtualClock:
    """Time that passes only while somebody sleeps: as fast as the machine can."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Present time (s)."""
        return self._now

    def sleep_until(self, instant: float) -> None:
        """Jump to `instant`."""
        self._now = max(self._now, instant)


class FixedRate:
    """Ticks on the grid start + n * period, whatever the work between them costs.

    A tick whose instant has passed before its wait began is an overrun: it runs late at once, and grid points that
    have gone by altogether are skipped, so that the phase of the motion stays that of the clock.
    """

    def __init__(self, clock: Clock, period: float) -> None:
        self._clock, self.period, self._start = clock, period, clock.now()
        self.tick = 0
        self.overruns = 0
        self.skipped = 0
        self.late_in_a_row = 0
        self.lateness: list[float] = []
        """Seconds from each tick's instant to its start."""

    def restart(self) -> None:
        """Count from now: what has been prepared since this was made is no lateness."""
        self._start, self.tick = self._clock.now(), 0

    def wait(self) -> int:
        """Return at the next tick, with its number."""
        late = self._clock.now() - self._instant(self.tick + 1)
        self.late_in_a_row = self.late_in_a_row + 1 if late > 0 else 0
        if late > 0:
            self.overruns += 1
            gone = math.floor(late / self.period)
            self.skipped += gone
            self.tick += gone
        self.tick += 1
        self._clock.sleep_until(self._instant(self.tick))
        self.lateness.append(self._clock.now() - self._instant(self.tick))
        return self.tick

    def _instant(self, tick: int) -> float:
        return self._start + tick * self.period


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """No garbage collection while a control loop runs: one over all that a policy has loaded takes several ticks.

    And a thread that waits for another one's Python waits for a twentieth of a millisecond, not for five.
    """
    was, interval = gc.isenabled(), sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if was:
            gc.enable()


@contextlib.contextmanager
def prioritised() -> Iterator[None]:
    """Before everybody else on this machine, where it allows that (a robot's owner may; most accounts may not)."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, min(before, -10))
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def spread(seconds: Sequence[float] | Float[np.ndarray, "ticks"]) -> dict[str, float | None]:
    """Median and 99th percentile in ms, None where there is nothing to measure."""
    if not len(seconds):
        return {"median": None, "p99": None}
    return {"median": 1e3 * float(np.median(seconds)), "p99": 1e3 * float(np.percentile(seconds, 99))}
