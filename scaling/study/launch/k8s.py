"""Workers as a Kubernetes JobSet (with a Kueue queue where one is named), as YAML to be applied."""

import json
from typing import Any

from scaling.errors import InputError
from scaling.study.launch.command import WorkerCommand

REQUEUE = 75


def jobset(
    command: WorkerCommand,
    workers: int,
    image: str,
    queue: str | None = None,
    cpus: int = 4,
    accelerators: dict[str, int] | None = None,
) -> dict[str, Any]:
    """The manifest: `workers` independent pods, restarted for ever after a preemption or an exit with 75.

    Raises InputError for a store that pods do not share.
    """
    if "://" not in command.store or command.store.startswith(("file://", "local://")):
        raise InputError(f"--store {command.store}: pods share no folder; name a URL such as gs://bucket/sweeps")
    name = f"scaling-{command.sweep}".lower().replace("_", "-").replace("/", "-").removesuffix(".py")[:50]
    limits = {"cpu": str(cpus), **{kind: str(count) for kind, count in (accelerators or {}).items()}}
    container = {
        "name": "worker",
        "image": image,
        "command": command.words(("scaling",)),
        "resources": {"requests": limits, "limits": limits},
    }
    # A requeue, a preemption and a node that vanishes are nobody's failure; anything else ends the pod's job.
    rules = [
        {
            "action": "Ignore",
            "onExitCodes": {"containerName": "worker", "operator": "In", "values": [REQUEUE, 134, 137]},
        },
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]
    job = {
        "parallelism": workers,
        "completions": workers,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": rules},
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }
    metadata: dict[str, Any] = {"name": name}
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "suspend": bool(queue),
            "replicatedJobs": [{"name": "workers", "replicas": 1, "template": {"spec": job}}],
        },
    }


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
