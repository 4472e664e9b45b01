"""What each worker of a cluster is given: cores, GPUs, other accelerators, as Ray, Kubernetes and Slurm spell them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaling.errors import InputError

_NVIDIA = "nvidia.com/gpu"


@dataclass(frozen=True)
class Means:
    """Per worker (per process of a gang). `accelerators` are counts by the cluster's own name, as google.com/tpu on
    Kubernetes and TPU on Ray; `cpus` None is the launcher's default.
    """

    cpus: float | None = None
    gpus: float = 0.0
    accelerators: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cpus is not None and not 0 < self.cpus < float("inf"):
            raise InputError(f"--cpus {self.cpus:g}: give more than 0")
        if not 0 <= self.gpus < float("inf"):
            raise InputError(f"--gpus {self.gpus:g}: give 0 or more")
        for kind, count in self.accelerators.items():
            if count < 1:
                raise InputError(f"--accelerator {kind}={count}: give at least 1")

    def ray(self) -> dict[str, Any]:
        """Options of a Ray task (one core where none is said); Ray hides every GPU that is not asked for."""
        more = {"resources": {kind: float(count) for kind, count in self.accelerators.items()}}
        return {"num_cpus": self.cpus or 1.0, "num_gpus": self.gpus, **(more if self.accelerators else {})}

    def ray_bundle(self) -> dict[str, float]:
        """The same as a bundle of a placement group."""
        cpus = {"CPU": self.cpus or 1.0}
        return cpus | ({"GPU": self.gpus} if self.gpus else {}) | {k: float(n) for k, n in self.accelerators.items()}

    def kubernetes(self) -> dict[str, str]:
        """Resources of a container (four cores where none is said). Raises InputError for a part of a GPU."""
        gpus = {_NVIDIA: str(self._whole_gpus("k8s"))} if self.gpus else {}
        return {"cpu": f"{self.cpus or 4:g}", **gpus, **{kind: str(count) for kind, count in self.accelerators.items()}}

    def slurm(self) -> dict[str, Any]:
        """Parameters of submitit, one task a node. Raises InputError for parts and for what Slurm calls otherwise."""
        if self.accelerators:
            raise InputError("--accelerator is for ray and k8s: slurm takes --gpus N or --slurm slurm_gres=KIND:N")
        if self.cpus is not None and self.cpus % 1:
            raise InputError(f"--cpus {self.cpus:g}: slurm gives whole cores")
        cpus = {} if self.cpus is None else {"cpus_per_task": int(self.cpus)}
        return cpus | ({"gpus_per_node": self._whole_gpus("slurm")} if self.gpus else {})

    def _whole_gpus(self, launcher: str) -> int:
        if self.gpus % 1:
            raise InputError(f"--gpus {self.gpus:g}: {launcher} gives whole GPUs")
        return int(self.gpus)
