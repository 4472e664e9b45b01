"""A sweep as it goes: how long running jobs have run, their last words, and when everything will be finished."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.record.ledger import Ledger
from scaling.study.sweep_bill import prices, status
from scaling.study.sweep_child import LOG
from scaling.study.sweep_state import BLOCKED, BROKEN, RUNNING, Standing
from scaling.study.sweep_worker import output

_LONGEST = 100  # characters of a run's last line


def watched(
    standings: Sequence[Standing], ledger: Ledger, devices: int = 1, now: float | None = None
) -> dict[str, Any]:
    """The `status`, with running jobs' seconds, estimates (`expected_s`) and last lines (`progress`), and for the whole
    `seconds_left` of one worker and `eta_s` for as many as work now (None where nobody does).

    What is blocked is not counted. `now` is the time of day (s) of an observer, whose clock may differ from a worker's.
    """
    now = time.time() if now is None else now
    costs = prices(standings)
    took = {one.hash: _elapsed(one, now) for one in standings if one.state == RUNNING}
    left = [max(0.0, costs[one.hash] - took.get(one.hash, 0.0)) for one in standings if _to_come(one, costs)]
    found = status(standings, devices)
    rows = [_row(row, one, took, costs, ledger) for row, one in zip(found["runs"], standings, strict=True)]
    eta = max(sum(left) / len(took), max(left)) if took else None
    return found | {"runs": rows, "seconds_left": sum(left), "eta_s": eta}


def _to_come(one: Standing, costs: Mapping[str, float]) -> bool:
    return one.hash in costs and one.state not in (BLOCKED, BROKEN)


def _row(
    row: dict[str, Any], one: Standing, took: Mapping[str, float], costs: Mapping[str, float], ledger: Ledger
) -> dict[str, Any]:
    if one.state != RUNNING:
        return row | {"expected_s": costs.get(one.hash), "progress": None}
    seconds = round(one.entry.seconds + took[one.hash], 3)
    return row | {"seconds": seconds, "expected_s": costs[one.hash], "progress": _last_line(one, ledger)}


def _elapsed(one: Standing, now: float) -> float:
    """Seconds since the attempt began; none before, whatever the clocks say."""
    started = one.entry.data.get("started")
    return max(0.0, now - started) if isinstance(started, int | float) else 0.0


def _last_line(one: Standing, ledger: Ledger) -> str | None:
    """What the run said last, where its folder is the store's own (a bucket gets it when it is finished)."""
    log = ledger.shelf.read(f"{output(one.hash, one.entry)}/{LOG}") or b""
    lines = log[-4000:].decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][-_LONGEST:] if said else None
