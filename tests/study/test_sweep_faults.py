"""What is taken back stays back, and what fails for a moment, or takes long, costs no attempt."""

import errno
import time

import pytest

from scaling.record.ledger import CLAIMED, DONE, INVALID, PREEMPTED, RUNS, Ledger
from scaling.record.shelf import LocalShelf
from scaling.study import sweep_worker
from scaling.study.sweep import needed_for
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_rows import rows
from scaling.study.sweep_state import chosen, invalidate, survey
from scaling.study.sweep_worker import MOST_DEATHS, Order, Worker, output
from tests.study.sweeps import FAST, SAFE, entries, ledger_of, write_check


@pytest.fixture
def check(tmp_path):
    """The path of a sweep of one bank and two students."""
    return write_check(tmp_path)


def jobs_by_name(sweep, overrides=()):
    return {job.name: job for job in find_sweep(sweep, overrides).jobs().values()}


def take_back(folder, sweep, name):
    """`invalidate` of one run by its name; the hashes that were taken back."""
    ledger, jobs = ledger_of(folder), find_sweep(sweep).jobs()
    standings = survey(jobs, ledger)
    return invalidate(standings, chosen(standings, [jobs_by_name(sweep)[name].key]), ledger)


def begun(folder, key, steps=""):
    """A claim of this process that has left a checkpoint, as if it worked."""
    ledger = ledger_of(folder)
    claim = ledger.claim(key, ledger.last(key), "another")
    (ledger.shelf.scratch(output(key, claim)) / "steps.txt").write_text(steps)
    return claim


def test_who_works_on_what_was_made_from_it_is_fenced(tmp_path, check):
    Worker(Order(check), ledger_of(tmp_path)).run(max_runs=1)
    ann = jobs_by_name(check)["ann"].key
    claim = begun(tmp_path, ann)
    assert take_back(tmp_path, check, "bank") == [jobs_by_name(check)["bank"].key, ann]
    assert ledger_of(tmp_path).append(ann, claim, DONE) is None
    assert not list((tmp_path / "store" / RUNS / ann).glob("out-*"))


def test_no_checkpoint_from_before_is_resumed_even_where_it_is_left_or_comes_back(tmp_path, check):
    Worker(Order(check), ledger_of(tmp_path)).run(max_runs=1)
    ann, ledger = jobs_by_name(check)["ann"].key, ledger_of(tmp_path)
    claim = begun(tmp_path, ann, "old!")
    ledger.append(ann, claim, PREEMPTED)
    take_back(tmp_path, check, "bank")
    old = tmp_path / "store" / output(ann, claim)
    old.mkdir()  # a fenced child has not noticed yet
    (old / "steps.txt").write_text("old!")
    ledger.append(ann, ledger.claim(ann, ledger.last(ann), "another"), PREEMPTED)
    assert Worker(Order(check), ledger).run().done == 3
    assert (tmp_path / "store" / output(ann, ledger.last(ann)) / "steps.txt").read_text() == "xxxx"


def test_who_claims_while_it_is_taken_back_keeps_its_folder(tmp_path, check, monkeypatch):
    Worker(Order(check), ledger_of(tmp_path)).run(max_runs=1)
    append, bank, made = Ledger.append, jobs_by_name(check)["bank"].key, []

    def and_claimed(self, key, after, state, **data):
        entry = append(self, key, after, state, **data)
        if state == INVALID:
            made.append(begun(tmp_path, key, "new"))
        return entry

    monkeypatch.setattr(Ledger, "append", and_claimed)
    assert take_back(tmp_path, check, "bank") == [bank]
    assert (tmp_path / "store" / output(bank, made[0]) / "steps.txt").read_text() == "new"


def test_a_worker_whose_bank_is_taken_back_meanwhile_makes_it_again(tmp_path, check):
    taken = []

    def watch(done, of, words):
        if words == "bank" and not taken:
            taken.extend(take_back(tmp_path, check, "bank"))

    tally = Worker(Order(check), ledger_of(tmp_path), watch).run()
    assert len(taken) == 1 and (tally.done, tally.failed) == (4, 0)
    bank = jobs_by_name(check)["bank"].key
    assert entries(tmp_path, bank) == ["claimed", "done", "invalid", "claimed", "done"]


def test_what_another_sweep_made_from_it_is_taken_back_too(tmp_path, check):
    other = [("name", "carl")]
    assert Worker(Order(check, other), ledger_of(tmp_path)).run().done == 2
    carl = jobs_by_name(check, other)["carl"].key
    assert set(take_back(tmp_path, check, "bank")) == {carl, jobs_by_name(check)["bank"].key}
    ledger = ledger_of(tmp_path)
    assert ledger.last(carl).state == INVALID and not rows(survey(find_sweep(check).jobs(), ledger), ledger)


def test_lost_machines_say_nothing_about_a_job(tmp_path, check):
    bank, ledger = jobs_by_name(check)["bank"].key, ledger_of(tmp_path)
    for number in range(MOST_DEATHS):
        assert ledger.claim(bank, ledger.last(bank), "a lost machine").preemptions == number
    (tmp_path / "abort-bank").touch()
    tally = Worker(Order(check), ledger_of(tmp_path, FAST)).run()  # the last claim goes stale
    assert (tally.done, tally.preempted, tally.failed) == (3, 1, 0)
    last = ledger.last(bank)
    assert (last.preemptions, last.deaths, last.state) == (MOST_DEATHS + 1, 0, DONE)


def test_a_store_that_fails_now_and_then_costs_nothing(tmp_path, check, monkeypatch):
    count = 0

    def now_and_then(call):
        def asked(self, *arguments):
            nonlocal count
            count += 1
            if count % 4 == 0:
                raise OSError(errno.ESTALE, "Stale file handle")
            return call(self, *arguments)

        return asked

    for name in ("names", "read", "create", "fetch", "keep", "beat"):
        monkeypatch.setattr(LocalShelf, name, now_and_then(getattr(LocalShelf, name)))
    jobs, ledger = jobs_by_name(check), ledger_of(tmp_path)
    assert Worker(Order(check), ledger).run().done == 3 and count > 20
    assert entries(tmp_path, jobs["ann"].key) == ["claimed", "done"]


@pytest.mark.parametrize("transfer", ["fetch", "keep"])
def test_a_lease_is_held_while_files_travel(tmp_path, check, monkeypatch, transfer):
    real, beats = getattr(LocalShelf, transfer), []

    def slow(self, *arguments):
        claims = [path for path in (tmp_path / "store" / RUNS).glob("*/*.json") if f'"{CLAIMED}"' in path.read_text()]
        claim = max(claims, key=lambda path: path.stat().st_ctime_ns)
        before = claim.stat().st_mtime_ns
        for _ in range(1000):
            if claim.stat().st_mtime_ns != before:
                beats.append(transfer)
                break
            time.sleep(0.01)
        return real(self, *arguments)

    monkeypatch.setattr(LocalShelf, transfer, slow)
    keys = [jobs_by_name(check)["ann"].key]
    assert Worker(Order(check, only=keys), ledger_of(tmp_path)).run().done == 2
    assert len(beats) == {"fetch": 1, "keep": 2}[transfer]


def test_a_job_that_is_always_put_back_is_left_alone_for_longer_each_time(tmp_path, check, monkeypatch):
    ledger = ledger_of(tmp_path)
    worker, bank = Worker(Order(check), ledger), jobs_by_name(check)["bank"]
    pauses = []
    for _ in range(14):
        claim = ledger.claim(bank.key, ledger.last(bank.key), "me")
        worker._died(bank, claim, time.monotonic(), sweep_worker.REQUEUE, tmp_path)
        pauses.append(round(worker._put_back[bank.key][1] - time.monotonic(), 2))
    assert sorted(pauses) == pauses and pauses[-2:] == pytest.approx([SAFE.stale_s] * 2, abs=0.5)
    jobs = needed_for(find_sweep(check).jobs(), [bank.key])
    ran, alive = worker._round(jobs, dict(jobs), None, None)
    assert (ran, alive) == (False, True) and ledger.last(bank.key).attempts == 14
