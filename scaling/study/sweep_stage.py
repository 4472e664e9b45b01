"""A stage as a job: under the key that the artifact store gives it, built in the folder of an attempt.

A stage's function is called twice, with two stores that look alike: one that only answers with the key, for the plan,
and one that builds into the folder of the attempt. So a sweep computes what `run_study` does, and keys cannot drift.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scaling.record.store import Artifact, ArtifactStore, Input
from scaling.study.sweep import Job, Needed
from scaling.study.sweep_cost import Cost

_UNBUILT = Path("not-built-yet")


class Keys(ArtifactStore):
    """Answers every stage with its key; builds nothing."""

    def __init__(self) -> None:
        super().__init__(_UNBUILT)

    def stage(
        self, name: str, config: Any, inputs: Mapping[str, Input], version: int, build: Callable[[Path], None]
    ) -> Artifact:
        """The artifact as it will be named."""
        return Artifact(name, _UNBUILT, self.key(name, config, inputs, version), False, 0.0)


_KEYS = Keys()


@functools.lru_cache(1 << 14)
def _unbuilt(key: str) -> Artifact:
    return Artifact("unbuilt", _UNBUILT, key, False, 0.0)


class Builds(ArtifactStore):
    """Builds the one stage of key `wanted` in the folder `work`."""

    def __init__(self, work: Path, wanted: str) -> None:
        super().__init__(work)
        self._wanted = wanted

    def stage(
        self, name: str, config: Any, inputs: Mapping[str, Input], version: int, build: Callable[[Path], None]
    ) -> Artifact:
        """Builds it. RuntimeError where the key is another one than was planned."""
        key = self.key(name, config, inputs, version)
        if key != self._wanted:
            raise RuntimeError(f"{name} was planned as {self._wanted} and is built as {key}: start the workers anew")
        build(self.root)
        return Artifact(name, self.root, key, False, 0.0)


Call = Callable[[ArtifactStore, Mapping[str, Artifact]], Artifact]


def stage_job(
    name: str,
    call: Call,
    needs: Mapping[str, Job],
    config: Any,
    cost: Cost,
    together: bool = False,
) -> Job:
    """The job of one stage; `needs` are the jobs whose artifacts it is given, by label.

    What is trained over all devices is done `together` by a gang.
    """
    keys = {label: job.key for label, job in needs.items()}
    planned = call(_KEYS, {label: _unbuilt(key) for label, key in keys.items()})

    def action(work: Path, needed: Mapping[str, Needed]) -> dict[str, Any]:
        call(Builds(work, planned.hash), artifacts(needed, keys))
        return {"artifact": planned.hash, "env_steps": cost.stepped(work)}

    bill = (cost.seconds, cost.megabytes, cost.env_steps)
    return Job(planned.hash, planned.name, name, config, action, keys, False, *bill, together=together)


def artifacts(needed: Mapping[str, Needed], keys: Mapping[str, str]) -> dict[str, Artifact]:
    """What a job finds of those that it needs, as stages take it."""
    return {label: Artifact(label, one.path, keys[label], True, 0.0) for label, one in needed.items()}
