"""Each room beside the best that it could be: ratios of medians taken side by side in one run."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from scaling.bench.row import Row

ROOMS = ("robot", "motion", "experts", "students", "laws", "sweep", "bridge")


def measure_room(room: str, quick: bool = False, **more: Any) -> Iterator[Row]:
    """The rows of a room, each as soon as it is measured; `quick` takes smaller sizes and fewer repetitions.

    `more` is the room's own: `algorithm` of "experts", `scratch` and `motions` of "motion".
    """
    if room not in ROOMS:
        raise ValueError(f"room {room!r}: one of {ROOMS}")
    yield from import_module(f"scaling.bench.{room}").rows(quick, **more)


__all__ = ["ROOMS", "Row", "measure_room"]
