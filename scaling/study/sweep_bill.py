"""What a sweep costs: the plan before, the bill by stage during and after, and each row's share of it."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.study.sweep import closure
from scaling.study.sweep_state import BLOCKED, BROKEN, FINISHED, NEW, RUNNING, WAITING, Standing


def prices(standings: Sequence[Standing]) -> dict[str, float]:
    """Seconds on one device of every job that is not finished, by key.

    Estimates of a stage that has run here are scaled by how wrong they were (the median); where they say nothing, the
    median of what its jobs took is taken.
    """
    known: dict[str, list[Standing]] = defaultdict(list)
    for one in standings:
        if one.state == FINISHED:
            known[one.job.stage].append(one)
    took = {stage: statistics.median(one.entry.seconds for one in done) for stage, done in known.items()}
    wrong = {
        stage: statistics.median(one.entry.seconds / one.job.seconds for one in done)
        for stage, done in known.items()
        if all(one.job.seconds > 0 for one in done)
    }
    left = [one.job for one in standings if one.state != FINISHED]
    return {
        job.key: job.seconds * wrong[job.stage] if job.stage in wrong else took.get(job.stage, job.seconds)
        for job in left
    }


def plan(standings: Sequence[Standing], devices: int = 1) -> dict[str, Any]:
    """Counts, and the device-hours, environment steps of training and bytes still to come, by stage too."""
    counts = Counter(one.state for one in standings)
    seconds, on = prices(standings), _usual(standings, devices)
    stages: dict[str, dict[str, Any]] = {}
    for one in standings:
        row = stages.setdefault(one.job.stage, {"jobs": 0, "left": 0, "device_hours": 0.0, "env_steps": 0.0})
        row["jobs"] += 1
        row["left"] += one.hash in seconds
        row["device_hours"] += seconds.get(one.hash, 0.0) * on.get(one.job.stage, devices) / 3600
        row["env_steps"] += one.job.env_steps if one.hash in seconds else 0.0
    return {
        "new": counts[NEW] + counts[WAITING],
        "cached": counts[FINISHED],
        "running": counts[RUNNING],
        "failed": counts[BROKEN],
        "blocked": counts[BLOCKED],
        "jobs": len(standings),
        "device_hours": sum(row["device_hours"] for row in stages.values()),
        "env_steps": sum(row["env_steps"] for row in stages.values()),
        "bytes": round(sum(one.job.megabytes for one in standings if one.hash in seconds) * 1e6),
        "stages": _shared(stages),
    }


def bill(standings: Sequence[Standing], devices: int = 1) -> dict[str, dict[str, Any]]:
    """Spent so far by stage, lost attempts included: seconds, device-hours, their share, environment steps of training.

    Steps are what finished banks and students say of themselves; evaluation plays more, which nobody learns from.
    """
    stages: dict[str, dict[str, Any]] = {}
    for one in standings:
        row = stages.setdefault(one.job.stage, {"seconds": 0.0, "device_hours": 0.0, "env_steps": 0})
        row["seconds"] += one.entry.seconds
        row["device_hours"] += one.entry.seconds * _held(one, devices) / 3600
        row["env_steps"] += int(one.entry.data.get("env_steps", 0)) if one.state == FINISHED else 0
    return _shared(stages)


def _held(one: Standing, otherwise: int) -> int:
    """Devices of the worker, or gang, that ended the last attempt, which all its attempts are billed by."""
    return int(one.entry.data.get("devices", otherwise))


def _usual(standings: Sequence[Standing], otherwise: int) -> dict[str, float]:
    """Devices that finished jobs of each stage were done on (the median)."""
    held: dict[str, list[int]] = defaultdict(list)
    for one in standings:
        if one.state == FINISHED:
            held[one.job.stage].append(_held(one, otherwise))
    return {stage: statistics.median(counts) for stage, counts in held.items()}


def _shared(stages: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each stage with its share of the device-hours; None where there are none."""
    whole = sum(row["device_hours"] for row in stages.values())
    return {stage: row | {"share": row["device_hours"] / whole if whole else None} for stage, row in stages.items()}


def status(standings: Sequence[Standing], devices: int = 1) -> dict[str, Any]:
    """Counts by state, the bill so far by stage, and every run."""
    counts = Counter(one.state for one in standings)
    stages = bill(standings, devices)
    return {
        "counts": {state: counts[state] for state in (NEW, WAITING, RUNNING, FINISHED, BROKEN, BLOCKED)},
        "seconds": sum(row["seconds"] for row in stages.values()),
        "device_hours": sum(row["device_hours"] for row in stages.values()),
        "env_steps": sum(row["env_steps"] for row in stages.values()),
        "stages": stages,
        "runs": [one.to_json() for one in standings],
    }


def shares(standings: Sequence[Standing], counts: Mapping[str, int], devices: int = 1) -> dict[str, float]:
    """Device-hours of one row of each job with rows (`counts`: how many it has): what was made for it alone, and its
    part of what others needed too. Over all rows they add up to the bill of what rows needed.
    """
    jobs = {one.hash: one.job for one in standings}
    hours = {one.hash: one.entry.seconds * _held(one, devices) / 3600 for one in standings}
    needed = {key: closure(jobs, [key]) for key in counts}
    users: dict[str, int] = defaultdict(int)
    for key, found in needed.items():
        for one in found:
            users[one] += counts[key]
    return {key: sum(hours[one] / users[one] for one in found) for key, found in needed.items() if counts[key]}
