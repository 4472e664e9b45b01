"""A follower of a gang: does with its child what the leader orders, and says so when it has lost it."""

import contextlib
import time
from pathlib import Path
from typing import Any

from scaling.record.ledger import Ledger
from scaling.study.gang import Gang
from scaling.study.sweep_handle import Child, Order


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
    """Until the attempt is over. A child that is done stays: JAX would take its farewell for a loss."""
    while gang.current(given):
        answer = child.answer(ledger.times.poll_s)
        if answer is None:
            continue
        if "exit" in answer:
            gang.report(f"the child of rank {gang.place.rank} ended with {answer['exit']}\nended by the loss of a peer")
        while gang.current(given):
            time.sleep(ledger.times.poll_s)
    child.stop()
