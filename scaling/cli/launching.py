"""The launchers of `scaling sweep work`: their flags, what each takes, and the workers that they start."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scaling.cli.output import Outcome
from scaling.cli.parser import Parser
from scaling.cli.suggestions import pair
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.study.launch.command import WorkerCommand
    from scaling.study.launch.means import Means

LAUNCHERS = ("local", "slurm", "ray", "k8s")
# Flag -> the launchers that have a use for it; with another it is a mistake, not a wish that nobody hears.
_TAKEN_BY = {
    "cpus": ("slurm", "ray", "k8s"),
    "gpus": ("slurm", "ray", "k8s"),
    "accelerator": ("ray", "k8s"),
    "address": ("ray",),
    "slurm": ("slurm",),
    **dict.fromkeys(("image", "queue", "volume", "node_selector", "apply"), ("k8s",)),
}


def add_arguments(parser: Parser) -> None:
    """Which launcher, and what its workers are given."""
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local")
    parser.add_argument("--cpus", type=float, metavar="N", help="of slurm, ray (1), k8s (4): cores of a worker")
    parser.add_argument("--gpus", type=float, metavar="N", help="of slurm, ray, k8s: NVIDIA GPUs of a worker (0)")
    parser.add_argument(
        "--accelerator",
        action="append",
        default=[],
        metavar="KIND=N",
        help="of ray, k8s: so many of another kind for a worker, as google.com/tpu=4 (k8s) or TPU=4 (ray)",
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="of ray: where its cluster answers (default: auto)")
    parser.add_argument("--image", metavar="IMAGE", help="of k8s: the container image")
    parser.add_argument("--queue", metavar="QUEUE", help="of k8s: the Kueue queue")
    parser.add_argument("--volume", metavar="CLAIM=/PATH", help="of k8s: a volume that all pods share (for gangs)")
    parser.add_argument(
        "--node-selector",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of k8s: a label of the nodes to run on, as cloud.google.com/gke-tpu-topology=2x4",
    )
    parser.add_argument("--apply", action="store_true", help="of k8s: hand it to kubectl, too")
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="submitit's, as slurm_partition=a"
    )


class Launched(NamedTuple):
    """What a launcher that has returned leaves: its own last word, or the exit codes of workers that it waited for."""

    outcome: Outcome | None = None
    codes: Sequence[int] = ()


def check(arguments: argparse.Namespace) -> None:
    """Raises InputError for flags of another launcher."""
    for flag, takers in _TAKEN_BY.items():
        if getattr(arguments, flag) not in (None, [], False) and arguments.launcher not in takers:
            said = f"--{flag.replace('_', '-')} is for --launcher {' or '.join(takers)}"
            raise InputError(f"{said}: the launcher here is {arguments.launcher}")


def launch(arguments: argparse.Namespace, command: "WorkerCommand") -> Launched:
    """Starts the workers. Raises InputError for flags of another launcher."""
    check(arguments)
    chosen = arguments.launcher
    if chosen == "k8s":
        return Launched(_kubernetes(arguments, command))
    if chosen == "slurm":
        return Launched(_slurm(arguments, command))
    if chosen == "ray":
        from scaling.study.launch import ray

        ray.launch(command, arguments.workers, means(arguments), arguments.address or "auto", arguments.gang)
        return Launched()
    from scaling.study.launch import local

    return Launched(codes=local.launch(command, arguments.workers, arguments.gang))


def means(arguments: argparse.Namespace) -> "Means":
    """What the flags give each worker."""
    from scaling.study.launch.means import Means

    kinds: dict[str, int] = {}
    for text in arguments.accelerator:
        kind, count = pair("--accelerator", text)
        if not count.isdigit():
            raise InputError(f"--accelerator {text}: write it as KIND=N, with a whole number")
        kinds[kind] = int(count)
    return Means(arguments.cpus, arguments.gpus or 0.0, kinds)


def _kubernetes(arguments: argparse.Namespace, command: "WorkerCommand") -> Outcome:
    from scaling.study.launch.k8s import apply, jobset, yaml

    if not arguments.image:
        raise InputError("--launcher k8s needs --image: the container that has scaling installed")
    if command.sweep.endswith(".py") and not Path(command.sweep).is_absolute():
        raise InputError(f"{command.sweep}: name a sweep that is shipped, or the path that the file has in every pod")
    volume = pair("--volume", arguments.volume) if arguments.volume else None
    selector = dict(pair("--node-selector", text) for text in arguments.node_selector)
    shape: dict[str, Any] = {"means": means(arguments), "gang": arguments.gang, "volume": volume, "selector": selector}
    manifest = jobset(command, arguments.workers, arguments.image, arguments.queue, **shape)
    if not arguments.apply:
        return Outcome(manifest, [yaml(manifest)])
    return Outcome(manifest, [apply(manifest)])


def _slurm(arguments: argparse.Namespace, command: "WorkerCommand") -> Outcome:
    from scaling.study.launch import slurm

    options = dict(pair("--slurm", text) for text in arguments.slurm)
    folder = Path("runs/slurm").resolve()
    jobs = slurm.launch(command, arguments.workers, folder, options, gang=arguments.gang, means=means(arguments))
    ids = [job.job_id for job in jobs]
    return Outcome({"jobs": ids}, [f"submitted {', '.join(ids)}; scaling sweep status {arguments.sweep} --live"])
