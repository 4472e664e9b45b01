"""The engine: whatever is killed, paused, aborted or full, every run is finished once, and none is lost."""

import errno
import hashlib
import json
import math
import os
import signal
import time

import pytest

from scaling.errors import InputError
from scaling.record.files import disk_full
from scaling.study.sweep_bill import plan, status
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_rows import rows
from scaling.study.sweep_state import chosen, diff, gc, invalidate, retry, survey
from scaling.study.sweep_worker import MOST_DEATHS, Order, Worker
from tests.study.sweeps import FAST, SAFE, entries, finish, ledger_of, start, wait_for, write_check


@pytest.fixture
def check(tmp_path):
    """The path of a sweep of one bank and two students."""
    return write_check(tmp_path)


def work(folder, sweep, times=SAFE, **more):
    """A worker of this process."""
    return Worker(Order(sweep), ledger_of(folder, times)).run(**more)


def standing(folder, sweep):
    """Name -> state of every job."""
    return {one.job.name: one.state for one in survey(find_sweep(sweep).jobs(), ledger_of(folder))}


def key_of(sweep, name):
    return next(key for key, job in find_sweep(sweep).jobs().items() if job.name == name)


def table(folder, sweep):
    ledger = ledger_of(folder)
    return list(rows(survey(find_sweep(sweep).jobs(), ledger), ledger))


def test_students_wait_for_their_bank_which_is_made_once(tmp_path, check):
    assert standing(tmp_path, check) == {"bank": "new", "ann": "waiting", "bob": "waiting"}
    assert not (tmp_path / "store").exists()  # looking writes nothing
    assert work(tmp_path, check, max_runs=1).done == 1
    assert standing(tmp_path, check) == {"bank": "finished", "ann": "new", "bob": "new"}
    assert work(tmp_path, check).done == 2
    assert (tmp_path / "trace.txt").read_text().split() == ["bank", "ann", "bob"]
    assert [(row["name"], row["bank"]) for row in table(tmp_path, check)] == [("bank", None), ("ann", 4), ("bob", 4)]
    assert work(tmp_path, check).hashes == []  # what is done is not done again


def test_plan_counts_and_prices_what_is_left(tmp_path, check):
    sweep = find_sweep("engine_check", [("rounds", 1000)])
    ledger = ledger_of(tmp_path)
    before = plan(survey(sweep.jobs(), ledger), devices=2)
    assert (before["new"], before["cached"], before["device_hours"]) == (40, 0, pytest.approx(40 * 2 / 3600))
    Worker(Order("engine_check", [("rounds", 1000)]), ledger).run(max_runs=10)
    after = plan(survey(sweep.jobs(), ledger))
    assert (after["new"], after["cached"], after["stages"]["engine_check"]["left"]) == (30, 10, 30)
    assert after["device_hours"] < before["device_hours"] / 2  # at the price that was measured here


def test_a_failure_blocks_what_needs_it_until_somebody_says_retry(tmp_path, check):
    (tmp_path / "raise-bank").touch()
    assert work(tmp_path, check).failed == 1
    assert standing(tmp_path, check) == {"bank": "failed", "ann": "blocked", "bob": "blocked"}
    ledger = ledger_of(tmp_path)
    standings = survey(find_sweep(check).jobs(), ledger)
    assert (plan(standings)["failed"], plan(standings)["blocked"]) == (1, 2)
    error = status(standings)["runs"][0]["error"]
    assert "RuntimeError: the knee" in error and error.endswith("buckled")
    assert work(tmp_path, check).hashes == []
    assert len(retry(standings, ledger)) == 1
    assert work(tmp_path, check).done == 3
    assert entries(tmp_path, key_of(check, "bank")) == ["claimed", "failed", "retry", "claimed", "done"]


def test_a_failure_does_not_touch_what_is_finished_or_what_does_not_need_it(tmp_path, check):
    (tmp_path / "raise-ann").touch()
    tally = work(tmp_path, check)
    assert (tally.done, tally.failed) == (2, 1)
    assert standing(tmp_path, check) == {"bank": "finished", "ann": "failed", "bob": "finished"}
    assert [row["name"] for row in table(tmp_path, check)] == ["bank", "bob"]


def test_an_abort_is_a_preemption_and_75_is_nobodys_failure(tmp_path, check):
    (tmp_path / "abort-ann").touch()
    (tmp_path / "requeue-bob").touch()
    tally = work(tmp_path, check)
    assert (tally.done, tally.preempted, tally.requeued, tally.failed) == (3, 1, 1, 0)
    assert entries(tmp_path, key_of(check, "ann")) == ["claimed", "preempted", "claimed", "done"]
    assert entries(tmp_path, key_of(check, "bob")) == ["claimed", "requeued", "claimed", "done"]
    found = {one["name"]: one for one in status(survey(find_sweep(check).jobs(), ledger_of(tmp_path)))["runs"]}
    assert (found["ann"]["attempts"], found["ann"]["preemptions"]) == (2, 1)
    assert (found["bob"]["attempts"], found["bob"]["preemptions"]) == (2, 0)
    lost = json.loads((tmp_path / "store" / "runs" / key_of(check, "ann") / "0002.json").read_text())
    assert "a peer is lost" in lost["error"] and lost["error"].endswith("ended by signal SIGABRT")


def test_a_job_that_always_aborts_has_failed_in_the_end(tmp_path, check):
    path = tmp_path / "check.py"
    path.write_text(path.read_text().replace("mark.unlink()", "pass"))
    (tmp_path / "abort-bank").touch()
    tally = work(tmp_path, check)
    assert (tally.preempted, tally.failed, tally.done) == (MOST_DEATHS - 1, 1, 0)
    assert standing(tmp_path, check)["bank"] == "failed"


def test_a_killed_worker_is_taken_over_where_it_stood(tmp_path, check):
    victim = start(tmp_path, check, overrides=[["pause", 0.2]])
    wait_for(tmp_path / "steps.txt", 2)
    victim.kill()
    victim.communicate()
    assert finish(start(tmp_path, check, overrides=[["pause", 0.2]])) == [3, 0, 0]
    assert len((tmp_path / "steps.txt").read_text()) <= 12 + 1  # at most the step that was being written is lost
    bank = next(key for key, job in find_sweep(check, [("pause", 0.2)]).jobs().items() if job.stage == "bank")
    assert entries(tmp_path, bank) == ["claimed", "claimed", "done"]
    assert len(list((tmp_path / "store" / "runs" / bank).glob("out-*"))) == 1


def test_a_paused_worker_that_wakes_up_late_is_refused(tmp_path, check):
    slow = [["pause", 0.3]]
    paused = start(tmp_path, check, FAST, slow)
    wait_for(tmp_path / "steps.txt", 1)
    os.kill(paused.pid, signal.SIGSTOP)  # its child goes on, and will have something to publish
    try:
        done, refused, _ = finish(start(tmp_path, check, FAST, slow))
    finally:
        os.kill(paused.pid, signal.SIGCONT)
    assert (done, refused) == (3, 0)
    assert finish(paused)[:2] == [0, 1]
    jobs = find_sweep(check, [("pause", 0.3)]).jobs()
    bank = next(key for key, job in jobs.items() if job.stage == "bank")
    assert entries(tmp_path, bank) == ["claimed", "claimed", "done"]
    ledger = ledger_of(tmp_path)
    standings = survey(jobs, ledger)
    assert [row["steps"] for row in rows(standings, ledger)] == [4, 4, 4]
    gc(standings, ledger)
    assert len(list((tmp_path / "store" / "runs" / bank).glob("out-*"))) == 1


def test_two_workers_share_the_runs_and_do_none_twice(tmp_path):
    small = [["rounds", 20_000]]
    tallies = [finish(one) for one in [start(tmp_path, "engine_check", SAFE, small) for _ in range(2)]]
    assert sum(done for done, _, _ in tallies) == 40
    jobs = find_sweep("engine_check", [("rounds", 20_000)]).jobs()
    ledger = ledger_of(tmp_path)
    found = list(rows(survey(jobs, ledger), ledger))
    assert len({row["sweep_hash"] for row in found}) == len(found) == 40
    assert all(row["sweep_attempts"] == 1 and row["rounds_computed"] == 20_000 for row in found)


def test_a_full_disk_in_a_run_is_one_sentence_and_a_later_worker_completes(tmp_path, check):
    (tmp_path / "full-ann").touch()
    with pytest.raises(InputError, match="the disk is full while building ann"):
        work(tmp_path, check)
    assert standing(tmp_path, check)["bank"] == "finished"
    assert work(tmp_path, check).done == 2
    assert entries(tmp_path, key_of(check, "ann"))[:2] == ["claimed", "requeued"]


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_full_disk_in_mid_publication_publishes_nothing(tmp_path, check, monkeypatch, call):
    real, count = getattr(os, call), 0

    def full(*arguments, **more):
        nonlocal count
        count += 1
        if count > 2:  # the spec and the claim were written, the rest is not
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(InputError, match="the disk is full"):
            work(tmp_path, check)
    assert entries(tmp_path, key_of(check, "bank")) == ["claimed"]
    assert table(tmp_path, check) == []
    work(tmp_path, check, FAST)  # the dead claim is of this very process: it goes stale
    assert (tmp_path / "trace.txt").read_text().split() == ["bank", "ann", "bob"]  # what was built is not built again
    assert [row["name"] for row in table(tmp_path, check)] == ["bank", "ann", "bob"]


def test_a_half_written_entry_is_taken_over_once_it_is_stale(tmp_path, check):
    work(tmp_path, check, max_runs=1)
    key = key_of(check, "bank")
    torn = tmp_path / "store" / "runs" / key / "0002.json"
    torn.write_text(torn.read_text()[:20])
    assert standing(tmp_path, check)["bank"] == "running"  # as far as anybody can tell
    assert work(tmp_path, check, FAST).done == 3
    assert sorted(path.name for path in torn.parent.glob("0*.json"))[-2:] == ["0003.json", "0004.json"]
    assert [row["name"] for row in table(tmp_path, check)] == ["bank", "ann", "bob"]


def test_a_heartbeat_an_hour_off_counts_by_its_changes_alone(tmp_path, check):
    ledger, observer = ledger_of(tmp_path, FAST), ledger_of(tmp_path, FAST)
    key = key_of(check, "bank")
    claim = ledger.claim(key, ledger.last(key), "far away")
    path = tmp_path / "store" / "runs" / key / "0001.json"
    record = json.loads(path.read_text()) | {"world": "another machine"}
    path.write_text(json.dumps(record))
    began = time.monotonic()
    while time.monotonic() - began < 2 * FAST.stale_s:
        hour = time.time() - 3600 + (time.monotonic() - began)
        os.utime(path, (hour, hour))
        assert not observer.claimable(key, observer.last(key))
        time.sleep(0.01)
    began = time.monotonic()
    while not observer.claimable(key, observer.last(key)):
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    assert observer.claim(key, observer.last(key), "here") is not None
    assert not ledger.owned(key, claim.token)
    assert ledger.append(key, claim, "done") is None  # and so the late one cannot publish


def test_a_store_that_cannot_be_written_can_be_read(tmp_path, check, monkeypatch):
    work(tmp_path, check, max_runs=1)

    def read_only(*arguments, **more):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", read_only)
        with pytest.raises(InputError, match="choose a folder that you may write to"):
            work(tmp_path, check)
        assert standing(tmp_path, check) == {"bank": "finished", "ann": "new", "bob": "new"}
    assert work(tmp_path, check).done == 2


def test_invalidate_takes_back_what_was_made_from_it_and_builds_afresh(tmp_path, check):
    work(tmp_path, check)
    ledger = ledger_of(tmp_path)
    standings = survey(find_sweep(check).jobs(), ledger)
    with pytest.raises(InputError, match="no run of this sweep has the hash 'zz'"):
        chosen(standings, ["zz"])
    taken = invalidate(standings, chosen(standings, [key_of(check, "bank")[:8]]), ledger)
    assert len(taken) == 3 and table(tmp_path, check) == []
    assert standing(tmp_path, check) == {"bank": "new", "ann": "waiting", "bob": "waiting"}
    assert work(tmp_path, check).done == 3
    assert len((tmp_path / "steps.txt").read_text()) == 2 * 12  # no old checkpoint was used


def test_diff_names_the_figures_in_which_two_runs_of_a_store_differ(tmp_path, check):
    work(tmp_path, check)
    found = diff(key_of(check, "ann")[:10], key_of(check, "bob"), ledger_of(tmp_path))
    assert found == {"name": ("ann", "bob"), "config.name": ("ann", "bob")}
    with pytest.raises(InputError, match="no run begins with 'zz'"):
        diff("zz", key_of(check, "bob"), ledger_of(tmp_path))


def test_the_disk_is_full_says_a_reader_of_errors_too():
    assert disk_full(OSError(errno.ENOSPC, "x")) and not disk_full(OSError(errno.EIO, "x"))


def rounds_for(seconds, workers):
    """The rounds of each of the forty runs with which `workers` are at work for at least `seconds` on this machine."""
    began, digest = time.perf_counter(), b""
    for _ in range(300_000):
        digest = hashlib.sha256(digest).digest()
    a_second = 300_000 / (time.perf_counter() - began)
    at_once = min(workers, len(os.sched_getaffinity(0)))
    return 10 * math.ceil(seconds * at_once / 40 * a_second / 10)


@pytest.mark.slow
def test_four_workers_one_killed_every_five_seconds_finish_everything_once(tmp_path):
    """A kill costs at most the half of a run since its checkpoint, so the whole costs at most 1.3 times as much."""
    long = [("rounds", rounds_for(20.0, workers=4))]
    sweep = find_sweep("engine_check", long)
    jobs, ledger = sweep.jobs(), ledger_of(tmp_path)
    workers = [start(tmp_path, "engine_check", SAFE, long) for _ in range(4)]
    killed, due = 0, time.monotonic() + 5.0
    while sum(entry.state == "done" for entry in ledger.standing().values()) < len(jobs):
        if time.monotonic() >= due:
            victim = workers[killed % 4]
            victim.kill()
            victim.communicate()
            workers[killed % 4] = start(tmp_path, "engine_check", SAFE, long)
            killed, due = killed + 1, due + 5.0
        assert any(one.poll() is None for one in workers)
        time.sleep(0.05)
    for one in workers:
        finish(one)
    standings = survey(jobs, ledger)
    found = list(rows(standings, ledger))
    assert killed >= 3
    assert len({row["sweep_hash"] for row in found}) == len(found) == 40
    assert sum(row["rounds_computed"] for row in found) <= 1.3 * sum(run.config.rounds for run in sweep.runs)
    for one in standings:
        assert entries(tmp_path, one.hash).count("done") == 1
    gc(standings, ledger)
    assert all(len(list((tmp_path / "store" / "runs" / one.hash).glob("out-*"))) == 1 for one in standings)
