"""Workers as a Kubernetes JobSet (with a Kueue queue where one is named), as YAML to be applied."""

import json
from typing import Any

from scaling.errors import InputError
from scaling.study.gang import HOST, NAME, RANK, SIZE
from scaling.study.launch.command import WorkerCommand

REQUEUE = 75
MOST_RESTARTS = 1000  # of a gang as a whole: preemptions are nobody's failure
_UID = "batch.kubernetes.io/controller-uid"
_INDEX = "batch.kubernetes.io/job-completion-index"


def jobset(
    command: WorkerCommand,
    workers: int,
    image: str,
    queue: str | None = None,
    cpus: int = 4,
    accelerators: dict[str, int] | None = None,
    gang: int = 1,
    volume: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """The manifest: `workers` independent pods, restarted for ever after a preemption or an exit with 75.

    With `gang` it is a list of `workers` JobSets of so many pods each, which JobSet begins anew as wholes. `volume` is
    a claim that pods share (ReadWriteMany) and where it is mounted. Raises InputError for a store that pods do not
    share, and for a gang whose store is no folder.
    """
    _check(command.store, gang, volume)
    name = f"scaling-{command.sweep}".lower().replace("_", "-").replace("/", "-").removesuffix(".py")[:50]
    limits = {"cpu": str(cpus), **{kind: str(count) for kind, count in (accelerators or {}).items()}}
    container: dict[str, Any] = {
        "name": "worker",
        "image": image,
        "command": command.words(("scaling",)),
        "resources": {"requests": limits, "limits": limits},
    }
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if volume:
        container["volumeMounts"] = [{"name": "shared", "mountPath": volume[1]}]
        pod["volumes"] = [{"name": "shared", "persistentVolumeClaim": {"claimName": volume[0]}}]
    if gang == 1:
        return _manifest(name, queue, _independent(pod, workers), {})
    names = [f"{name}-{index}" for index in range(workers)]
    return {"apiVersion": "v1", "kind": "List", "items": [_together(one, queue, pod, gang) for one in names]}


def _check(store: str, gang: int, volume: tuple[str, str] | None) -> None:
    if volume and volume[1].startswith("/"):
        if not store.startswith(volume[1].rstrip("/") + "/"):
            raise InputError(f"--store {store}: name a folder below {volume[1]}, where the pods share a volume")
    elif volume:
        raise InputError(f"--volume {'='.join(volume)}: write it as CLAIM=/PATH")
    elif gang > 1:
        raise InputError(f"--store {store}: a gang needs a folder that its pods share by --volume CLAIM=/PATH")
    elif "://" not in store or store.startswith(("file://", "local://")):
        raise InputError(
            f"--store {store}: pods share no folder; name a URL such as gs://bucket/sweeps, or --volume CLAIM=/PATH"
        )


def _independent(pod: dict[str, Any], workers: int) -> dict[str, Any]:
    # A requeue, a preemption and a node that vanishes are nobody's failure; anything else ends the pod's job.
    rules = [
        {
            "action": "Ignore",
            "onExitCodes": {"containerName": "worker", "operator": "In", "values": [REQUEUE, 134, 137]},
        },
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]
    return _indexed(pod, workers) | {"podFailurePolicy": {"rules": rules}}


def _together(name: str, queue: str | None, pod: dict[str, Any], size: int) -> dict[str, Any]:
    """A JobSet of one gang. The uid of its job, which is new after every restart, is the gang's name."""
    places = [
        {"name": NAME, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{_UID}']"}}},
        {"name": RANK, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{_INDEX}']"}}},
        {"name": SIZE, "value": str(size)},
        {"name": HOST, "value": f"{name}-workers-0-0.{name}"},
    ]
    container = {**pod["containers"][0], "env": places}
    job = _indexed({**pod, "containers": [container]}, size)
    network = {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True}
    return _manifest(name, queue, job, {"network": network, "failurePolicy": {"maxRestarts": MOST_RESTARTS}})


def _indexed(pod: dict[str, Any], count: int) -> dict[str, Any]:
    return {
        "parallelism": count,
        "completions": count,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": {"spec": pod},
    }


def _manifest(name: str, queue: str | None, job: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    jobs = [{"name": "workers", "replicas": 1, "template": {"spec": job}}]
    spec = {"suspend": bool(queue), **more, "replicatedJobs": jobs}
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": spec}


def yaml(value: Any, indent: int = 0) -> str:
    """Plain values as YAML: mappings and lists in blocks, scalars as JSON, which YAML reads."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "\n".join(f"{pad}{key}:{_below(item, indent)}" for key, item in value.items())
    if isinstance(value, list) and value:
        return "\n".join(f"{pad}-{_below(item, indent)}" for item in value)
    return pad + json.dumps(value)


def _below(item: Any, indent: int) -> str:
    if isinstance(item, dict | list) and item:
        return "\n" + yaml(item, indent + 1)
    return " " + json.dumps(item)
