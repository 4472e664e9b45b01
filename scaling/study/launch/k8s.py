"""Workers as a Kubernetes JobSet (with a Kueue queue where one is named), as YAML, which kubectl applies."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from scaling.errors import InputError
from scaling.study.gang import HOST, NAME, RANK, SIZE
from scaling.study.launch.command import WorkerCommand
from scaling.study.launch.means import Means

MOST_RESTARTS = 1000  # of a gang as a whole: preemptions are nobody's failure
MOST_BACKOFFS = 20  # of one pod, killed for its memory, say
_REQUEUE, _ABORTED = 75, 134  # put back, and what JAX does when it has lost a peer
_FINISHED = [1, 2]  # nothing is left but failed runs, or what a user has to mend: again would end the same
_UID = "batch.kubernetes.io/controller-uid"
_INDEX = "batch.kubernetes.io/job-completion-index"


def jobset(
    command: WorkerCommand,
    workers: int,
    image: str,
    queue: str | None = None,
    means: Means | None = None,
    gang: int = 1,
    volume: tuple[str, str] | None = None,
    selector: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The manifest: `workers` independent pods, restarted for ever after a preemption or an exit with 75; one that ends
    otherwise leaves the others at work. `selector` are labels of the nodes to run on.

    With `gang` it is a list of `workers` JobSets of so many pods each, which JobSet begins anew as wholes. `volume` is
    a claim that pods share (ReadWriteMany) and where it is mounted. Raises InputError for a store that pods do not
    share, and for a gang whose store is no folder.
    """
    _check(command.store, gang, volume)
    name = f"scaling-{command.sweep}".lower().replace("_", "-").replace("/", "-").removesuffix(".py")[:50]
    limits = (means or Means()).kubernetes()
    container: dict[str, Any] = {
        "name": "worker",
        "image": image,
        "command": command.words(("scaling",)),
        "resources": {"requests": limits, "limits": limits},
    }
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if selector:
        pod["nodeSelector"] = dict(selector)
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
    """A job whose pods end each for itself. Needs Kubernetes 1.29, where limits per index are on by default."""
    rules = [_on_codes("Ignore", [_REQUEUE, _ABORTED]), _DISRUPTED, _on_codes("FailIndex", _FINISHED)]
    return _indexed(pod, workers) | {"backoffLimitPerIndex": MOST_BACKOFFS, "podFailurePolicy": {"rules": rules}}


def _on_codes(action: str, codes: list[int]) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"containerName": "worker", "operator": "In", "values": codes}}


# A preemption, an eviction or a node that vanished; JobSet wants the status said.
_DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def _together(name: str, queue: str | None, pod: dict[str, Any], size: int) -> dict[str, Any]:
    """A JobSet of one gang, begun anew unless a process says that it has finished, if badly. The uid of its job, which
    is new after every restart, is the gang's name.
    """
    places = [
        {"name": NAME, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{_UID}']"}}},
        {"name": RANK, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{_INDEX}']"}}},
        {"name": SIZE, "value": str(size)},
        {"name": HOST, "value": f"{name}-workers-0-0.{name}"},
    ]
    container = {**pod["containers"][0], "env": places}
    rules = {"podFailurePolicy": {"rules": [_on_codes("FailJob", _FINISHED)]}}
    job = _indexed({**pod, "containers": [container]}, size) | {"backoffLimit": 0} | rules
    network = {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True}
    ended = {"name": "finished", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    policy = {"maxRestarts": MOST_RESTARTS, "rules": [ended]}
    return _manifest(name, queue, job, {"network": network, "failurePolicy": policy})


def _indexed(pod: dict[str, Any], count: int) -> dict[str, Any]:
    return {
        "parallelism": count,
        "completions": count,
        "completionMode": "Indexed",
        "template": {"spec": pod},
    }


def _manifest(name: str, queue: str | None, job: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    jobs = [{"name": "workers", "replicas": 1, "template": {"spec": job}}]
    spec = {"suspend": bool(queue), **more, "replicatedJobs": jobs}
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": spec}


def apply(manifest: Mapping[str, Any]) -> str:
    """What kubectl says after `kubectl apply`. Raises InputError where there is none, or it refuses."""
    program = shutil.which("kubectl")
    if program is None:
        raise InputError("--apply needs kubectl, which is not on the PATH: leave it out, and apply what is printed")
    done = subprocess.run([program, "apply", "-f", "-"], input=yaml(manifest), capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"kubectl apply ended with {done.returncode}: {done.stderr.strip() or 'it said nothing'}")
    return done.stdout.strip()


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
