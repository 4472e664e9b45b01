"""Stopping with the work saved: whoever keeps its state as it goes is asked to stop, and stops once it has saved."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

PATIENCE_S = 15.0
"""How long somebody who was asked may take; a fleet kills half a minute after its signal, a worker its child sooner."""


class Stopped(BaseException):
    """SIGTERM; not an `Exception`, so that no clean-up on the way takes it for a failure of its own."""


class _Request:
    """How many blocks of `saving` are open, and since when they are asked to stop."""

    depth = 0
    since: float | None = None


def ask() -> bool:
    """Asks whoever is `saving` to save and stop, for a signal's handler.

    False where there is nobody, or one who was asked and took too long: then the handler has to end things itself.
    """
    if not _Request.depth:
        return False
    now = time.monotonic()
    _Request.since = now if _Request.since is None else _Request.since
    return now - _Request.since < PATIENCE_S


@contextmanager
def saving(keeps: bool = True) -> Generator[Callable[[], bool]]:
    """A block that saves its state: it looks often whether it is asked to stop, saves then, and raises `Stopped`.

    One that has ended meanwhile is `Stopped` behind its end. Nothing is different where it `keeps` nothing.
    """
    if not keeps:
        yield lambda: False
        return
    _Request.depth += 1
    try:
        yield lambda: _Request.since is not None
        if _Request.since is not None:
            raise Stopped
    finally:
        _Request.depth -= 1
        if not _Request.depth:
            _Request.since = None
