"""Medians of several ways to do a thing, taken in turns."""

import statistics
import time
from collections.abc import Callable, Mapping


def medians(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each way, called in turns (so that a busy machine is busy for all) after `warm` calls unheeded.

    A way that hands its work to a device has to wait for it itself. `time.process_time` as `clock` counts the seconds
    of all the process's cores, and not those of its neighbours.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warm, repeats):
        for name, work in ways.items():
            began = clock()
            work()
            if turn >= 0:
                taken[name].append(clock() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}
