"""Workers as tasks of an existing Ray cluster; what is lost with its node, a gang as a whole, is started again."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scaling.errors import InputError
from scaling.record.progress import say
from scaling.study.gang import Gang, Place
from scaling.study.launch.command import WorkerCommand
from scaling.study.launch.means import Means


def launch(
    command: WorkerCommand, workers: int, means: Means | None = None, address: str = "auto", gang: int = 1
) -> list[int]:
    """Starts `workers` (each a gang of `gang` tasks on as many nodes) and waits for them; how many runs each finished.

    Runs of lost tasks are left out of the count. Raises InputError where ray is not installed, no cluster answers, the
    cluster has fewer nodes than a gang, or a worker met what a user has to mend, once all have ended.
    """
    means = means or Means()
    try:
        import ray
    except ImportError:
        raise InputError("--launcher ray needs ray: install it with pip install 'scaling[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=True)
        except (ConnectionError, ValueError):
            raise InputError(f"no Ray cluster answers at {address!r}: start one with ray start --head") from None
    if not means.gpus and ray.cluster_resources().get("GPU"):
        say("this Ray cluster has GPUs, and hides them from workers that do not ask for them: --gpus N")
    if gang == 1:
        task = ray.remote(**means.ray(), max_retries=-1)(_work)
        tasks = [task.remote(command, None) for _ in range(workers)]
        ray.wait(tasks, num_returns=workers)
        return _told(ray.get, tasks)
    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes < gang:
        raise InputError(f"--gang {gang}: this Ray cluster has {nodes} nodes, and each process of a gang needs its own")
    with ThreadPoolExecutor(workers) as pool:
        return _told(pool.map, lambda _: _together(command, gang, means), range(workers))


def _told(call: Callable[..., Any], *arguments: Any) -> list[int]:
    """What Ray hands on of a worker's mistake as the sentence that it was there."""
    from ray.exceptions import RayTaskError

    try:
        return list(call(*arguments))
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        raise


def _together(command: WorkerCommand, size: int, means: Means) -> int:
    """One gang, a process a node, begun anew under another name until none of it is lost on the way."""
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    while True:
        group = placement_group([means.ray_bundle()] * size, strategy="STRICT_SPREAD")
        tasks: list[Any] = []

        def begin(rank: int, call: Any, *arguments: Any, group: Any = group) -> Any:
            there = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            return ray.remote(**means.ray(), max_retries=0, scheduling_strategy=there)(call).remote(*arguments)

        try:
            ray.get(group.ready())
            host = ray.get(begin(0, ray.util.get_node_ip_address))
            name = f"ray-{uuid.uuid4().hex[:8]}"
            tasks += [begin(rank, _work, command, Place(name, rank, size, host)) for rank in range(size)]
            waiting = list(tasks)
            while waiting:  # whoever is lost is heard of at once, though the others would wait for it
                ended, waiting = ray.wait(waiting)
                ray.get(ended)
            return int(ray.get(tasks[0]))
        except RayTaskError:
            raise
        except RayError:
            for task in tasks:
                ray.cancel(task, force=True)
        finally:
            remove_placement_group(group)


def _work(command: WorkerCommand, place: Place | None) -> int:
    """A worker, or its place in a gang, in the task's own process, so that a lost task takes its child along."""
    from scaling.record.ledger import Ledger
    from scaling.record.mirrors import choose
    from scaling.record.shelf import open_shelf
    from scaling.study.sweep_follower import follow
    from scaling.study.sweep_worker import Order, Worker

    if command.mirrors:
        choose(command.mirrors)
    order = Order(command.sweep, command.overrides, command.only)
    ledger = Ledger(open_shelf(command.store), command.times)
    gang = Gang(place, ledger) if place is not None else None
    if gang is not None and gang.place.rank:
        return follow(order, ledger, gang)
    return Worker(order, ledger, gang=gang).run().done
