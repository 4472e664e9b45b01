"""A sweep as a list of frozen runs made by small combinators, and the graph of jobs that the runs come down to."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record.hashing import content_hash
from scaling.record.override import override
from scaling.study.uncollected import uncollected

SCHEMA = 1  # of what a job's key covers; raised when old keys must not be found again


@dataclass(frozen=True)
class Run:
    """One point of a sweep: what was varied, in words, and the whole config."""

    config: Any
    name: str = ""

    def __str__(self) -> str:
        return self.name or "base"


class Runs(tuple[Run, ...]):
    """An immutable list of runs that prints one a line."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def configs(self) -> list[Any]:
        """The configs alone."""
        return [run.config for run in self]


Base = Any  # a config, a Run or Runs


def runs(base: Base) -> Runs:
    """A config, a run or several as runs."""
    if isinstance(base, Run):
        return Runs((base,))
    if isinstance(base, Runs | list | tuple):
        return Runs(itertools.chain.from_iterable(runs(one) for one in base))
    return Runs((Run(base),))


@uncollected()
def grid(base: Base, axes: Mapping[str, Sequence[Any]]) -> Runs:
    """Every combination of the axes (dotted path -> values), the last one fastest, of every run of `base`."""
    _check(axes)
    found = runs(base)
    for path, values in axes.items():  # one after the other: what the first replace is shared by all combinations
        found = Runs(_with(run, {path: value}) for run in found for value in values)
    return found


def zip_(base: Base, axes: Mapping[str, Sequence[Any]]) -> Runs:
    """The axes side by side: the first values together, the second values together, and so on.

    Raises ValueError for axes of different lengths.
    """
    _check(axes)
    if len({len(values) for values in axes.values()}) > 1:
        raise ValueError(
            f"axes of lengths { {path: len(values) for path, values in axes.items()} }: give equal lengths"
        )
    points = list(zip(*axes.values(), strict=True))
    return Runs(_with(run, dict(zip(axes, point, strict=True))) for run in runs(base) for point in points)


def seeds(base: Base, count: int, path: str = "seed") -> Runs:
    """Every run with seeds 0 to `count` - 1."""
    if count < 1:
        raise ValueError(f"{count} seeds: at least 1")
    return grid(base, {path: range(count)})


def chain(*bases: Base) -> Runs:
    """One list after the other; a run that came before is left out."""
    return Runs(dict.fromkeys(run for base in bases for run in runs(base)))


def where(base: Base, keep: Callable[[Any], bool]) -> Runs:
    """The runs whose config `keep` accepts."""
    return Runs(run for run in runs(base) if keep(run.config))


def _check(axes: Mapping[str, Sequence[Any]]) -> None:
    empty = [path for path, values in axes.items() if len(values) == 0]
    if empty:
        raise ValueError(f"axis {empty[0]!r} has no value: give at least one")


def _with(run: Run, changes: Mapping[str, Any]) -> Run:
    config = run.config
    for path, value in changes.items():
        config = override(config, path, value)
    words = [f"{path}={_word(value)}" for path, value in changes.items()]
    return Run(config, " ".join([run.name, *words]).strip())


def _without(name: str, path: str) -> str:
    """A run's name without what it said of this path, or of a part of what stands there."""
    said = re.split(r" (?=[A-Za-z_][\w.]*=)", name)
    return " ".join(words for words in said if not re.match(rf"{re.escape(path)}[.=]", words))


def _word(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "name", value))


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """A config (dataclasses, or the JSON that they become) as dotted path -> figure."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        parts = [flat(item, f"{path}.{name}" if path else str(name)) for name, item in value.items()]
        return {name: item for part in parts for name, item in part.items()}
    return {path: tuple(value) if isinstance(value, list) else value}


def differences(one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> both figures, where two configs differ; None where one has no such figure."""
    left, right = flat(one), flat(other)
    paths = dict.fromkeys([*left, *right])
    return {path: (left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)}


@dataclass(frozen=True)
class Needed:
    """What a job finds of one that it needs: the folder, and what its action returned."""

    path: Path
    result: Any


Action = Callable[[Path, Mapping[str, Needed]], Any]


@dataclass(frozen=True)
class Job:
    """One piece of work that a worker claims.

    `action(work, needed)` leaves its output in `work`, where it finds what an interrupted attempt left, and returns
    plain JSON; a job with `rows` returns a list of rows, any other may say in a mapping how many `env_steps` it took.
    `needs` are keys by label. `seconds` (on one device), `megabytes` and `env_steps` are estimates, `expects` what is
    known of its rows beforehand; like `name` they are not part of `key`. A gang does a job together, or leaves one that
    is not `together` to its first process.
    """

    key: str
    stage: str
    name: str
    config: Any
    action: Action = field(compare=False)
    needs: Mapping[str, str] = field(default_factory=dict)
    rows: bool = False
    seconds: float = 0.0
    megabytes: float = 0.0
    env_steps: float = 0.0
    expects: Sequence[Mapping[str, Any]] = ()
    together: bool = True

    def spec(self) -> dict[str, Any]:
        """What a store keeps beside the run, for people and `diff`."""
        return {"stage": self.stage, "name": self.name, "config": flat(self.config), "needs": dict(self.needs)}


def closure(jobs: Mapping[str, Job], keys: Iterable[str]) -> set[str]:
    """These keys and those of all that they need, however far back."""
    found, ahead = set(keys), list(keys)
    while ahead:
        new = set(jobs[ahead.pop()].needs.values()) - found
        found |= new
        ahead += new
    return found


def needed_for(jobs: Mapping[str, Job], starts: Sequence[str]) -> dict[str, Job]:
    """The jobs whose key begins with one of `starts` and what they need, in the same order; all where none is given.

    Raises InputError where one has none.
    """
    if not starts:
        return dict(jobs)
    unknown = [start for start in starts if not any(key.startswith(start) for key in jobs)]
    if unknown:
        raise InputError(f"no run of this sweep has the hash {unknown[0]!r}: scaling sweep status SWEEP lists them")
    wanted = closure(jobs, [key for key in jobs if key.startswith(tuple(starts))])
    return {key: job for key, job in jobs.items() if key in wanted}


def job_key(stage: str, config: Any, needs: Mapping[str, str], version: int) -> str:
    """The content hash of a job: its stage with its version, its config, and the keys of what it needs."""
    return content_hash({"schema": SCHEMA, "stage": stage, "config": config, "needs": dict(needs), "version": version})


def simple_jobs(stage: str, version: int, work: Callable[[Any, Path], dict[str, Any]], seconds: float) -> Any:
    """The `jobs` of a sweep whose every run is one job without needs: `work(config, folder)` returns its row."""

    def jobs(run: Run) -> list[Job]:
        def action(folder: Path, needed: Mapping[str, Needed]) -> list[dict[str, Any]]:
            return [work(run.config, folder)]

        key = job_key(stage, run.config, {}, version)
        return [Job(key, stage, str(run), run.config, action, rows=True, seconds=seconds, expects=(flat(run.config),))]

    return jobs


@dataclass(frozen=True)
class Sweep:
    """A named list of runs and the jobs of each; jobs of one key are one job, whoever needs it."""

    name: str
    runs: Runs
    jobs_of: Callable[[Run], Iterable[Job]] = field(compare=False)
    devices: int = 1

    def __str__(self) -> str:
        return f"{self.name}: {len(self.runs)} runs\n{self.runs}"

    @uncollected()
    def jobs(self) -> dict[str, Job]:
        """Every job by key, each after those that it needs."""
        found: dict[str, Job] = {}
        for run in self.runs:
            for job in self.jobs_of(run):
                found.setdefault(job.key, job)
        return found

    def override(self, path: str, value: Any) -> "Sweep":
        """The sweep with one figure replaced in every run; runs that are the same then are one."""
        changed: dict[Any, Run] = {}
        for run in self.runs:
            config = override(run.config, path, value)
            changed.setdefault(config, Run(config, _without(run.name, path)))
        return dataclasses.replace(self, runs=Runs(changed.values()))
