"""Workers as processes of this machine, its cores and accelerators shared out among them."""

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence

from scaling.errors import InputError
from scaling.record.progress import say
from scaling.study.gang import Place
from scaling.study.launch import devices
from scaling.study.launch.command import WorkerCommand

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")


def shares(cores: Sequence[int], workers: int) -> list[list[int]]:
    """The cores of each worker: whole shares, as equal as they go; with more workers than cores, one each in turn."""
    if workers < 1:
        raise InputError(f"--workers {workers}: give at least 1")
    if workers >= len(cores):
        return [[cores[index % len(cores)]] for index in range(workers)]
    bounds = [round(index * len(cores) / workers) for index in range(workers + 1)]
    return [list(cores[low:high]) for low, high in itertools.pairwise(bounds)]


def start(
    command: WorkerCommand, cores: Sequence[int], place: Place | None = None, given: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """One worker, or one process of a gang, on these cores; `given` are the variables of its accelerators."""
    env = {**os.environ, **dict.fromkeys(_THREADS, str(len(cores))), **(given or {})}
    env |= place.variables() if place else {}
    words = [*command.words(), "--json"]  # nobody reads what it says, and tables take time to be drawn
    if hasattr(os, "sched_setaffinity"):  # by a fresh Python, for code between fork and exec may deadlock
        pin = f"import os, sys; os.sched_setaffinity(0, {list(cores)}); os.execv(sys.argv[1], sys.argv[1:])"
        words = [sys.executable, "-c", pin, *words]
    return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)


def own_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def launch(command: WorkerCommand, workers: int, gang: int = 1) -> list[int]:
    """Starts `workers`, each a gang of `gang` processes, and waits for them; the exit codes of the first of each.

    What stops this process stops them, their state saved. The others of a gang end with its first.
    """
    names = [uuid.uuid4().hex[:8] for _ in range(workers)]
    places = [Place(name, rank, gang, "localhost") if gang > 1 else None for name in names for rank in range(gang)]
    cores, found = shares(own_cores(), len(places)), devices.visible()
    given = found.shared_out(len(places))
    if 0 < len(found.names) < len(places):
        say(f"{len(places)} processes share {len(found.names)} GPUs, and the memory of each")
    running = [start(command, *of) for of in zip(cores, places, given, strict=True)]
    try:
        while any(process.poll() is None for process in running[::gang]):
            time.sleep(0.05)
        time.sleep(2.0 * (gang > 1))  # the others read that nothing is left
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = [process.wait() for process in running]
    return codes[::gang]
