"""Workers as processes of this machine, its cores shared out among them."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from scaling.errors import InputError
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


def start(command: WorkerCommand, cores: Sequence[int]) -> "subprocess.Popen[bytes]":
    """One worker on these cores."""
    env = {**os.environ, **dict.fromkeys(_THREADS, str(len(cores)))}
    words = command.words()
    if hasattr(os, "sched_setaffinity"):  # by a fresh Python, for code between fork and exec may deadlock
        pin = f"import os, sys; os.sched_setaffinity(0, {list(cores)}); os.execv(sys.argv[1], sys.argv[1:])"
        words = [sys.executable, "-c", pin, *words]
    return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)


def own_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def launch(command: WorkerCommand, workers: int) -> list[int]:
    """Starts `workers` and waits for them; their exit codes. What stops this process stops them, their state saved."""
    running = [start(command, share) for share in shares(own_cores(), workers)]
    try:
        while any(process.poll() is None for process in running):
            time.sleep(0.05)
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = [process.wait() for process in running]
    return codes
