"""Workers as a Slurm job array through submitit; a preempted one is put back into the queue."""

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.study.gang import Place
from scaling.study.launch.command import WorkerCommand
from scaling.study.launch.means import Means

MOST_TIMEOUTS = 10_000  # of an element, each put back into the queue: a sweep ends by its runs, not by its hours
_FAREWELL_S = 40.0  # within the 90 s that submitit has Slurm warn ahead


class ArrayWorker:
    """One element of the array, or one task of an element that is a gang.

    submitit calls `checkpoint` when Slurm is about to take the machine away.
    """

    def __init__(self, command: WorkerCommand) -> None:
        self.command = command
        self._worker: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Runs a worker; its exit code."""
        self._worker = subprocess.Popen(self.command.words(), env={**os.environ, **_place()})
        return self._worker.wait()

    def checkpoint(self) -> Any:
        """The same again: what was begun is in the store, and the worker gives its lease back before it ends."""
        from submitit.helpers import DelayedSubmission

        if self._worker is not None and self._worker.poll() is None:
            self._worker.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._worker.wait(_FAREWELL_S)
        return DelayedSubmission(ArrayWorker(self.command))


def _place() -> dict[str, str]:
    """The variables of a task's place in its gang; none where the element is a single task."""
    from submitit import JobEnvironment

    here = JobEnvironment()
    if here.num_tasks == 1:
        return {}
    name = f"slurm-{here.job_id}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return Place(name, here.global_rank, here.num_tasks, here.hostnames[0]).variables()


def launch(
    command: WorkerCommand,
    workers: int,
    folder: Path,
    options: Mapping[str, Any] | None = None,
    cluster: str | None = None,
    gang: int = 1,
    means: Means | None = None,
) -> list[Any]:
    """Submits `workers` array elements of `gang` nodes each; submitit's jobs. `cluster` "local" runs them here.

    `options` are parameters of submitit (`timeout_min`, `slurm_partition`, ...), above those that `means` come to.

    Raises InputError where submitit is not installed, or does not know an option.
    """
    asked = (means or Means()).slurm()
    try:
        import submitit
    except ImportError:
        raise InputError("--launcher slurm needs submitit: install it with pip install 'scaling[slurm]'") from None
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=MOST_TIMEOUTS)
    shape = {"tasks_per_node": gang} if cluster == "local" else {"nodes": gang, "tasks_per_node": 1}
    try:
        given = {"timeout_min": 240, **shape, **asked, **_numbers(options or {})}
        executor.update_parameters(name="scaling", **given)
    except (NameError, ValueError, TypeError) as error:
        raise InputError(f"--slurm: {error}") from None
    with executor.batch():
        return [executor.submit(ArrayWorker(command)) for _ in range(workers)]


def _numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: int(value) if str(value).isdigit() else value for name, value in options.items()}
