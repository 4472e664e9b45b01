"""The process around a verb: caches and chatter settled before JAX is there, signals, and the machine's troubles."""

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling.record import stopping
from scaling.record.stopping import Stopped

OnSignal = Literal["save", "damp", "plain"]
"""What a signal means to a verb: its state is saved as it goes, a robot has to be damped, or nothing in particular."""

_CHATTER = ("absl", "orbax", "jax", "jax._src.xla_bridge", "imageio", "imageio_ffmpeg", "matplotlib")


@dataclass
class Received:
    """The first signal that came, None as long as there was none."""

    signal: int | None = None
    answered: bool = False
    """It has ended the verb: what is said about that is not to be interrupted by a reminder."""

    @property
    def terminated(self) -> bool:
        """It was SIGTERM."""
        return self.signal == signal.SIGTERM


def prepare() -> None:
    """Settle the environment before anything imports JAX: compiled programs outlive the process, loggers are quiet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling" / "jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("MPLBACKEND", "Agg")
    for name in _CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Other people's warnings are not for the user of a command; `python -W` brings them back."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", module=r"(?!scaling)")
        yield


@contextlib.contextmanager
def watch(mode: OnSignal) -> Iterator[Received]:
    """Turn signals into exceptions for the length of a verb, and remember that one came.

    "save": SIGTERM is `Stopped`, raised by whoever is `saving` if there is one; Ctrl-C `KeyboardInterrupt`. "damp": the
    first of either is `KeyboardInterrupt` and later ones are not heard, for nothing may interrupt the damping. "plain":
    Ctrl-C alone.
    """
    if threading.current_thread() is not threading.main_thread():  # handlers belong to the main thread
        yield Received()
        return
    handler = _Handler(mode)
    numbers = [signal.SIGINT] if mode == "plain" else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield handler.received
    finally:
        handler.end()
        for number, earlier in before.items():
            signal.signal(number, earlier)


class _Handler:
    """Raises, and sees to it that what it raised is not lost: signals come in the middle of anybody's code."""

    def __init__(self, mode: OnSignal) -> None:
        self.mode, self.received = mode, Received()
        self._raised = self._reminded = False
        self._ended = threading.Event()
        self._reminders: list[threading.Thread] = []

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        """The handler itself."""
        own, self._reminded = self._reminded, False
        if self._ended.is_set() or self.received.answered or (self._raised and self.mode == "damp"):
            return
        self.received.signal = self.received.signal or number
        if number == signal.SIGTERM and self.mode == "save" and stopping.ask():
            self._remind(number, stopping.PATIENCE_S)
            return
        if _deaf(frame):
            self._remind(number, 0.01)
            return
        if self.mode != "damp":
            self._remind(number, 1.0)
        if self._raised and (own or number == signal.SIGTERM) and sys.exc_info()[0] is not None:
            return  # it is on its way out
        self._raised = True
        raise Stopped if number == signal.SIGTERM and self.mode == "save" else KeyboardInterrupt

    def end(self) -> None:
        """Hear nothing any more."""
        self._ended.set()
        for reminder in self._reminders:
            reminder.join()

    def _remind(self, number: int, seconds: float) -> None:
        """The same signal again after a while, unless the verb has ended by then."""

        def wait() -> None:
            if not self._ended.wait(seconds):
                self._reminded = True
                signal.pthread_kill(threading.main_thread().ident or 0, number)

        self._reminders.append(threading.Thread(target=wait, daemon=True))
        self._reminders[-1].start()


_WEAK = {"weakref", "_weakrefset"}


def _deaf(frame: types.FrameType | None) -> bool:
    """Whether Python would print and drop an exception raised here: in a callback of the garbage collector (JAX has
    one, so this is common) or of a weak reference (JAX's caches are full of them), or in a finaliser."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in callbacks or frame.f_code.co_name == "__del__" or frame.f_globals.get("__name__") in _WEAK:
            return True
        frame = frame.f_back
    return False


def told(error: Exception) -> str | None:
    """The sentence for what the machine refused (a full disk, a locked folder, a missing package), None for a bug."""
    from scaling.record import files

    if files.disk_full(error):
        where = f" at {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return f"the disk is full{where}: free some space and run the same command again"
    # A file that is missing where nobody expected it is a bug; where it is made, its maker has said so.
    if isinstance(error, OSError) and error.filename and not isinstance(error, FileNotFoundError):
        known = files.told(error, Path(os.fsdecode(error.filename)), "writing")
        return None if known is None else str(known)
    if isinstance(error, ModuleNotFoundError) and (error.name or "scaling").split(".")[0] != "scaling":
        return f"this needs the package {error.name!r}: install the training stack with pip install 'scaling[train]'"
    return None
