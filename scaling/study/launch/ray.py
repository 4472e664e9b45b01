"""Workers as tasks of an existing Ray cluster; a task lost with its node is started again elsewhere."""

from scaling.errors import InputError
from scaling.study.launch.command import WorkerCommand


def launch(
    command: WorkerCommand, workers: int, cpus: float = 1.0, gpus: float = 0.0, address: str = "auto"
) -> list[int]:
    """Starts `workers` tasks and waits for them; how many runs each finished, those of lost tasks left out.

    Raises InputError where ray is not installed or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--launcher ray needs ray: install it with pip install 'scaling[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=True)
        except ConnectionError:
            raise InputError(f"no Ray cluster answers at {address!r}: start one with ray start --head") from None

    def worker() -> int:  # in the task's own process, so that a lost task takes its child along
        from scaling.record.ledger import Ledger
        from scaling.record.shelf import open_shelf
        from scaling.study.sweep_worker import Order, Worker

        order = Order(command.sweep, command.overrides, command.only)
        return Worker(order, Ledger(open_shelf(command.store), command.times)).run().done

    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(worker)
    return list(ray.get([task.remote() for _ in range(workers)]))
