"""`scaling sweep status`, once and live, on a store with one job that runs, one failed, one done and two to come."""

import json
import time

import pytest

from scaling.cli import sweep as verbs
from scaling.record.ledger import DONE, FAILED
from scaling.study.sweep_child import LOG
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_state import survey
from scaling.study.sweep_watch import watched
from scaling.study.sweep_worker import output
from tests.study.sweeps import SAFE, ledger_of

# Banks of 1000 s by estimate, rows of 5 s.
SWEEP = """
from scaling.study.sweep import Job, Sweep, runs
def jobs(run):
    for name, stage, seconds in (("a", "bank", 1000.0), ("b", "bank", 1000.0), ("c", "rows", 5.0), ("d", "rows", 5.0)):
        yield Job(name * 8, stage, f"job {name}", name, lambda work, needed: {}, seconds=seconds)
    yield Job("e" * 8, "bank", "job e", "e", lambda work, needed: {}, seconds=1000.0)
VERSIONS = {"": lambda: Sweep("watched", runs(1), jobs)}
"""


@pytest.fixture
def store(tmp_path):
    """The sweep's file and its ledger: a was done in 2000 s, b runs for 500 s, c has failed, d and e are new."""
    path = tmp_path / "watched.py"
    path.write_text(SWEEP)
    ledger = ledger_of(tmp_path, SAFE)
    claims = {name: ledger.claim(name * 8, ledger.last(name * 8), "me:1") for name in "abc"}
    ledger.append("a" * 8, claims["a"], DONE, seconds=2000.0)
    ledger.append("c" * 8, claims["c"], FAILED, seconds=1.0, error="the knee\nbuckled [hard]", failures=1)
    running = tmp_path / "store" / "runs" / ("b" * 8) / "0001.json"
    running.write_text(json.dumps(json.loads(running.read_text()) | {"started": time.time() - 500.0}))
    work = ledger.shelf.scratch(output("b" * 8, claims["b"]))
    (work / LOG).write_text("experts: started\nexperts: 12/40 (30 %), 5.0 s\n\n")
    return path, ledger, claims


def test_what_runs_has_seconds_an_estimate_and_its_last_line(store):
    path, ledger, _ = store
    found = watched(survey(find_sweep(str(path)).jobs(), ledger), ledger)
    rows = {one["name"][-1]: one for one in found["runs"]}
    assert rows["b"]["seconds"] == pytest.approx(500.0, abs=60.0)
    assert rows["b"]["expected_s"] == 2000.0  # banks took twice what was thought
    assert rows["b"]["progress"] == "experts: 12/40 (30 %), 5.0 s" and rows["a"]["progress"] is None
    # By price: 1500 s of b, 5 s of d, 2000 s of e; c needs somebody's `retry`. One worker is at it.
    assert found["seconds_left"] == pytest.approx(3505.0, abs=60.0) and found["eta_s"] == found["seconds_left"]


def test_a_clock_that_is_off_runs_nobody_backwards_and_nobody_at_work_is_no_eta(store):
    path, ledger, _ = store
    standings = survey(find_sweep(str(path)).jobs(), ledger)
    assert watched(standings, ledger, now=0.0)["runs"][1]["seconds"] == 0.0
    ledger.append("b" * 8, ledger.last("b" * 8), DONE, seconds=2000.0)
    found = watched(survey(find_sweep(str(path)).jobs(), ledger), ledger)
    assert found["eta_s"] is None and found["seconds_left"] == 2005.0


def test_status_says_it_once_and_live_until_nothing_is_left(call, store, monkeypatch, tmp_path):
    path, ledger, _ = store
    words = ("sweep", "status", path, "--store", tmp_path / "store")
    once = call(*words).out
    assert "left with the 1 that work now" in once and "experts: 12/40 (30 %)" in once and "buckled [hard]" in once
    waits = []

    def others_work(seconds):
        waits.append(seconds)
        for name in "bde":
            ledger.append(name * 8, ledger.last(name * 8), DONE, seconds=2000.0)

    monkeypatch.setattr(verbs.time, "sleep", others_work)
    monkeypatch.setattr("rich.live.Live.update", lambda live, frame: live.console.print(frame, width=240))
    live = call(*words, "--live").err
    assert len(waits) == 1
    first, last = live.split("watched: 4 of 5 finished")
    assert "watched: 1 of 5 finished, about" in first and "left with the 1 that work now" in first
    assert "running" in first and "experts: 12/40" in first
    assert "job c (cccccccc) failed:\nthe knee\nbuckled [hard]" in first and "failed" in last
