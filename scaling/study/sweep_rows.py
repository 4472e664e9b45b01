"""What a sweep has found: the rows of its finished jobs, and the folder of the student behind a row."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record.files import unjson
from scaling.record.ledger import Ledger
from scaling.study.sweep_bill import shares
from scaling.study.sweep_child import RESULT
from scaling.study.sweep_state import FINISHED, Standing
from scaling.study.sweep_worker import output


def rows(standings: Sequence[Standing], ledger: Ledger, devices: int = 1) -> list[dict[str, Any]]:
    """The rows of every finished job that makes some, in the sweep's order, with the job's hash, attempts and seconds.

    `sweep_device_hours` is the row's share of everything that was done for it; see `shares`.
    """
    made = [one for one in standings if one.state == FINISHED and one.job.rows]
    results = {one.hash: _result(one, ledger) for one in made}
    share = shares(standings, {key: len(found) for key, found in results.items()}, devices)
    return [
        {
            **{name: unjson(value) for name, value in row.items()},
            "sweep_run": one.job.name,
            "sweep_hash": one.hash,
            "sweep_attempts": one.entry.attempts,
            "sweep_seconds": round(one.entry.seconds, 3),
            "sweep_device_hours": share[one.hash],
        }
        for one in made
        for row in results[one.hash]
    ]


def _result(one: Standing, ledger: Ledger) -> list[dict[str, Any]]:
    text = ledger.shelf.read(f"{output(one.hash, one.entry)}/{RESULT}")
    if text is None:
        raise InputError(
            f"the results of {one.job.name} ({one.hash}) are missing: scaling sweep invalidate SWEEP {one.hash}"
        )
    return json.loads(text)


def best_student(standings: Sequence[Standing], ledger: Ledger, devices: int = 1) -> tuple[dict[str, Any], Path]:
    """The row of the best student so far and the student's folder; see `best_row`.

    Raises InputError where no run has finished, none trains students, or they were judged by different protocols.
    """
    from scaling.study.results import best_row  # JAX comes with it, which a table does not need

    by_key = {one.hash: one for one in standings}
    if not any("students" in one.job.needs for one in standings if one.job.rows):
        raise InputError("the runs of this sweep train no students: there is nothing to export")
    found = [
        row
        for row in rows(standings, ledger, devices)
        if row.get("status") == "finished" and "students" in by_key[row["sweep_hash"]].job.needs
    ]
    if not found:
        raise InputError("no run of this sweep has finished: scaling sweep work SWEEP first")
    protocols = {row["protocol"] for row in found}
    if len(protocols) > 1:
        raise InputError(f"the runs were judged by {' and '.join(sorted(protocols))}: export one by its folder")
    row = best_row(found, *protocols)
    group = by_key[by_key[row["sweep_hash"]].job.needs["students"]]
    name = str(row["run"]).removeprefix(f"{row['student']}-{row['size']}-")
    return row, ledger.shelf.fetch(output(group.hash, group.entry)) / name
