"""The accelerators that a process of this machine may use, found without starting JAX, and shared out among workers."""

import contextlib
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import InputError
from scaling.study.gang import Place

GPUS, CHIPS = "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS"
_MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION"
_PREALLOCATED = 0.75  # of a GPU's memory, which JAX takes at its start
_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1"}  # how so many TPU chips of one host lie together


@dataclass(frozen=True)
class Devices:
    """The names by which a variable of the environment chooses among accelerators; none on a machine without."""

    variable: str = ""
    names: tuple[str, ...] = ()

    def shared_out(self, workers: int) -> list[dict[str, str]]:
        """The variables of each worker: whole shares, as equal as they go; with more workers than GPUs one each in
        turn, and its memory divided. Raises InputError for TPU chips, which serve one process each.
        """
        count = len(self.names)
        if count == 0 or workers == 1:
            return [{} for _ in range(workers)]
        if self.variable == CHIPS:
            return [self._chips(share) for share in self._divided(workers)]
        if workers <= count:
            return [{GPUS: ",".join(share)} for share in self._divided(workers)]
        most = -(-workers // count)
        memory = {} if _MEMORY in os.environ else {_MEMORY: f"{_PREALLOCATED / most:.3f}"}
        return [{GPUS: self.names[index % count], **memory} for index in range(workers)]

    def _divided(self, workers: int) -> list[tuple[str, ...]]:
        if workers > len(self.names):
            raise InputError(
                f"{workers} processes on {len(self.names)} TPU chips: each needs its own, so start fewer --workers"
            )
        bounds = [round(index * len(self.names) / workers) for index in range(workers + 1)]
        return [self.names[low:high] for low, high in itertools.pairwise(bounds)]

    def _chips(self, share: tuple[str, ...]) -> dict[str, str]:
        if len(share) not in _BOUNDS:
            raise InputError(f"{len(share)} TPU chips for a worker: choose --workers so that each gets 1, 2 or 4")
        bounds = {"TPU_CHIPS_PER_PROCESS_BOUNDS": _BOUNDS[len(share)], "TPU_PROCESS_BOUNDS": "1,1,1"}
        return {CHIPS: ",".join(share), **bounds}


def visible(environment: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> Devices:
    """GPUs, or else TPU chips: those that the environment names, or all that the machine shows; none under a JAX that
    is told to use the CPU.
    """
    if environment.get("JAX_PLATFORMS", "").startswith("cpu"):
        return Devices()
    gpus = _named(environment.get(GPUS))
    gpus = _counted(_gpus(dev)) if gpus is None else gpus
    if gpus:
        return Devices(GPUS, gpus)
    chips = _named(environment.get(CHIPS))
    chips = _counted(_tpus(dev)) if chips is None else chips
    return Devices(CHIPS, chips) if chips else Devices()


def held(place: Place | None, environment: Mapping[str, str] = os.environ) -> int:
    """Devices that a worker, or the gang of this place, keeps busy: its accelerators, or its CPU as one."""
    return max(1, len(visible(environment).names)) * (place.size if place is not None else 1)


def _named(value: str | None) -> tuple[str, ...] | None:
    """The names in a variable, which ends where CUDA stops reading; None where it is not set."""
    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    return tuple(itertools.takewhile(lambda word: word and not word.startswith("-"), words))


def _counted(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _gpus(dev: Path) -> int:
    """By NVIDIA's own list, which knows what a container may use, or by the device files."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
            return len(re.findall(r"^GPU \d+:", listed, re.MULTILINE))
    return len(list(dev.glob("nvidia[0-9]*")))


def _tpus(dev: Path) -> int:
    """By the device files; newer chips have those of any device that is passed through, so libtpu has to be there."""
    passed = list(dev.glob("vfio/[0-9]*")) if importlib.util.find_spec("libtpu") else []
    return len(list(dev.glob("accel[0-9]*")) or passed)
