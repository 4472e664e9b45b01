"""Workers as a Slurm job array through submitit; a preempted one is put back into the queue."""

import subprocess
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.study.launch.command import WorkerCommand


class ArrayWorker:
    """One element of the array; submitit calls `checkpoint` when Slurm is about to take the machine away."""

    def __init__(self, command: WorkerCommand) -> None:
        self.command = command

    def __call__(self) -> int:
        """Runs a worker; its exit code."""
        return subprocess.run(self.command.words(), check=False).returncode

    def checkpoint(self) -> Any:
        """The same again: what was begun is in the store."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def launch(command: WorkerCommand, workers: int, folder: Path, minutes: int = 240, cluster: str | None = None) -> Any:
    """Submits `workers` array elements; submitit's jobs. `cluster` "local" runs them here.

    Raises InputError where submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise InputError("--launcher slurm needs submitit: install it with pip install 'scaling[slurm]'") from None
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(name="scaling", timeout_min=minutes)
    with executor.batch():
        return [executor.submit(ArrayWorker(command)) for _ in range(workers)]
