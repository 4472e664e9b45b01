"""Sweeps and workers for the tests of the engine: tiny, fast to go stale, and run in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from scaling.record.lease import LeaseTimes
from scaling.record.ledger import RUNS, Ledger
from scaling.record.shelf import LocalShelf

FAST = LeaseTimes(heartbeat_s=0.1, stale_s=0.6, poll_s=0.02)
SAFE = LeaseTimes(heartbeat_s=0.1, stale_s=60.0, poll_s=0.02)  # nobody goes stale on a busy machine

# A bank that two students need. A file FOLDER/HOW-NAME, made by a test, says how the run of that name ends for once.
CHECK = '''
"""A bank and two students."""
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
from scaling.study.sweep import Job, Run, Sweep, grid, job_key

FOLDER = Path({folder!r})

@dataclass(frozen=True)
class Config:
    name: str = "bank"
    steps: int = 4
    pause: float = 0.0

def told(how, name):
    mark = FOLDER / f"{{how}}-{{name}}"
    if mark.exists():
        mark.unlink()
        return True

def follow(config, work, needed):
    (FOLDER / "trace.txt").open("a").write(f"{{config.name}} ")
    if told("raise", config.name):
        raise RuntimeError("the knee\\nbuckled")
    if told("requeue", config.name):
        sys.exit(75)
    if told("abort", config.name):
        print("a peer is lost", file=sys.stderr, flush=True)
        os.abort()
    if told("full", config.name):
        open("/dev/full", "w").write("x" * 100_000)
    steps = work / "steps.txt"
    while len(steps.read_text() if steps.exists() else "") < config.steps:
        time.sleep(config.pause)
        with steps.open("a") as file:
            file.write("x")
        (FOLDER / "steps.txt").open("a").write("x")
    bank = needed["bank"].result[0]["steps"] if needed else None
    return [dict(name=config.name, steps=len(steps.read_text()), bank=bank)]

def jobs(run):
    base = run.config
    bank = Config("bank", base.steps, base.pause)
    key = job_key("bank", bank, {{}}, 1)
    yield Job(key, "bank", "bank", bank, lambda work, needed: follow(bank, work, needed), rows=True)
    need = {{"bank": key}}
    yield Job(job_key("student", base, need, 1), "student", base.name, base,
              lambda work, needed: follow(base, work, needed), needs=need, rows=True)

VERSIONS = {{"": lambda: Sweep("check", grid(Config(), {{"name": ("ann", "bob")}}), jobs)}}
'''

WORKER = """
import json, sys
from scaling.record.lease import LeaseTimes
from scaling.record.ledger import Ledger
from scaling.record.shelf import LocalShelf
from scaling.study.sweep_worker import Order, Worker
from pathlib import Path
spec = json.loads(sys.argv[1])
ledger = Ledger(LocalShelf(Path(spec["store"])), LeaseTimes(*spec["times"]))
tally = Worker(Order(spec["sweep"], spec["overrides"]), ledger).run()
print(json.dumps([tally.done, tally.refused, tally.preempted]))
"""


def write_check(folder: Path) -> str:
    """The sweep's file in `folder`."""
    path = folder / "check.py"
    path.write_text(CHECK.format(folder=str(folder)))
    return str(path)


def ledger_of(folder: Path, times: LeaseTimes = SAFE) -> Ledger:
    """The ledger of the store in `folder`."""
    return Ledger(LocalShelf(folder / "store"), times)


def start(folder: Path, sweep: str, times: LeaseTimes = SAFE, overrides: object = ()) -> "subprocess.Popen[str]":
    """A worker in a process of its own."""
    spec = {
        "store": str(folder / "store"),
        "sweep": sweep,
        "times": [times.heartbeat_s, times.stale_s, times.poll_s],
        "overrides": overrides,
    }
    command = [sys.executable, "-c", WORKER, json.dumps(spec)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(process: "subprocess.Popen[str]") -> list[int]:
    """[done, refused, preempted] of a worker that must end well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def wait_for(path: Path, length: int = 1) -> None:
    """Until `path` has `length` bytes."""
    for _ in range(6000):
        if path.exists() and path.stat().st_size >= length:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def entries(folder: Path, key: str) -> list[str]:
    """The states that a run went through."""
    files = sorted((folder / "store" / RUNS / key).glob("[0-9]*.json"))
    return [json.loads(path.read_text())["state"] for path in files]
