"""A follower of a gang: does with its child what the leader orders, and says so when it has lost it."""

import contextlib
import time
from pathlib import Path
from typing import Any

from scaling.record.ledger import Ledger
from scaling.study.gang import Gang
from scaling.study.sweep_handle import Child, Order

_ALONE_S = 5.0  # in which the leader meets the same error, if it does


def follow(order: Order, ledger: Ledger, gang: Gang) -> int:
    """Until the leader says that nothing is left; how many orders were followed."""
    child, followed = Child(order), 0
    try:
        while True:
            given = gang.order()
            if given is None:
                time.sleep(ledger.times.poll_s)
            elif given.get("end"):
                return followed
            elif (joining := gang.joining(given)) is not None:
                followed += 1
                child.renew(joining)
                child.order(given["key"], Path(given["work"]), {k: Path(path) for k, path in given["needed"].items()})
                _watch(child, given, ledger, gang)
    finally:
        with contextlib.suppress(OSError):
            child.stop(gently=True)


def _watch(child: Child, given: dict[str, Any], ledger: Ledger, gang: Gang) -> None:
    """Until the attempt is over. A child that is done stays: JAX would take its farewell for a loss.

    An error that the leader meets too is the leader's to tell; one that it does not would keep it waiting for ever.
    """
    poll_s, told, due = ledger.times.poll_s, "", float("inf")
    rank = gang.place.rank
    while gang.current(given):
        answer = child.answer(poll_s) if not told else None
        if answer is not None and "ok" in answer:
            told = "done"
        elif answer is not None and "exit" in answer:
            told, due = f"the child of rank {rank} ended with {answer['exit']}\nended by the loss of a peer", 0.0
        elif answer is not None:
            told, due = f"{answer['error']}\nraised by rank {rank} alone", time.monotonic() + _ALONE_S
        if time.monotonic() >= due:
            gang.report(told)
            due = float("inf")
        if told:
            time.sleep(poll_s)
    child.stop()
