"""One figure of a benchmark."""

import os
import platform
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@cache
def machine() -> str:
    """Processor, cores, Python and, where it is loaded, JAX with its device: what a figure is worth nothing without."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    parts = [name, f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    if "jax" in sys.modules:
        import jax

        parts.append(f"jax {jax.__version__} on {jax.devices()[0].device_kind}")
    return ", ".join(parts)


@dataclass(frozen=True)
class Row:
    """A figure; `ratio_to` names what a ratio (unit "x") is of. `target` None: nothing is asked of it."""

    name: str
    value: float
    unit: str
    target: float | None = None
    higher_is_better: bool = True
    ratio_to: str | None = None
    machine: str = field(default_factory=machine)

    @property
    def met(self) -> bool | None:
        """Whether it reaches its target; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.higher_is_better else self.value <= self.target
