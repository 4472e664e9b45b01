"""The bill of a sweep: what stages cost, what the plan makes of it, and each row's share."""

import pytest

from scaling.record.ledger import DONE, Entry
from scaling.study.sweep import Job
from scaling.study.sweep_bill import bill, plan, prices, shares, status
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_rows import rows
from scaling.study.sweep_state import FINISHED, NEW, Standing, survey
from scaling.study.sweep_worker import Order, Worker
from tests.study.sweeps import SAFE, ledger_of

# A bank of 700 steps that three students share; the third is another run's with two rows.
SWEEP = """
from scaling.study.sweep import Job, Sweep, runs
def jobs(run):
    yield Job("bank", "bank", "bank", 1, lambda work, needed: {"env_steps": 700}, env_steps=1000.0, seconds=8.0)
    for name, count in (("a", 1), ("b", 1), ("c", 2)):
        yield Job(name, "rows", name, 1, lambda work, needed, count=count: [{"at": i} for i in range(count)],
                  {"bank": "bank"}, rows=True, seconds=2.0)
VERSIONS = {"": lambda: Sweep("bills", runs(1), jobs, devices=2)}
"""


def standing(key, stage, estimate, took=None, needs=(), steps=0):
    """A job that took so many seconds, or is still new."""
    job = Job(key, stage, key, key, None, {name: name for name in needs}, rows=stage == "rows", seconds=estimate)
    if took is None:
        return Standing(job, Entry(), NEW)
    return Standing(job, Entry(2, DONE, 1, seconds=took, data={"env_steps": steps}), FINISHED)


def test_steps_are_estimated_before_and_counted_after(tmp_path):
    path = tmp_path / "bills.py"
    path.write_text(SWEEP)
    ledger = ledger_of(tmp_path, SAFE)
    before = plan(survey(find_sweep(str(path)).jobs(), ledger), 2)
    assert before["env_steps"] == before["stages"]["bank"]["env_steps"] == 1000.0
    assert before["stages"]["bank"]["share"] == pytest.approx(8 / 14)
    assert Worker(Order(str(path)), ledger).run().done == 4
    standings = survey(find_sweep(str(path)).jobs(), ledger)
    assert bill(standings)["bank"]["env_steps"] == status(standings)["env_steps"] == 700
    assert plan(standings)["env_steps"] == 0.0
    found = rows(standings, ledger, 2)
    spent = status(standings, 2)["device_hours"]
    assert [row["at"] for row in found] == [0, 0, 0, 1]
    assert sum(row["sweep_device_hours"] for row in found) == pytest.approx(spent) and spent > 0


def test_a_row_bears_its_part_of_what_others_need_too():
    found = [standing("bank", "bank", 1, 3600.0), standing("a", "rows", 1, 360.0, ["bank"])]
    found.append(standing("b", "rows", 1, 720.0, ["bank"]))
    assert shares(found, {"a": 1, "b": 3}) == pytest.approx({"a": 0.25 + 0.1, "b": 0.25 + 0.2 / 3})
    stages = bill(found, devices=2)
    assert stages["bank"]["share"] == pytest.approx(1 / 1.3) and stages["bank"]["device_hours"] == 2.0


def test_estimates_are_scaled_by_how_wrong_they_were():
    found = [standing("a", "students", 10.0, 30.0), standing("b", "students", 20.0, 60.0)]
    assert prices([*found, standing("c", "students", 100.0), standing("d", "other", 5.0)]) == {"c": 300.0, "d": 5.0}
    assert prices([standing("a", "x", 0.0, 30.0), standing("b", "x", 0.0)]) == {"b": 30.0}  # no estimate at all


def test_nothing_done_has_no_shares():
    assert bill([standing("a", "bank", 1.0)])["bank"]["share"] is None


def test_the_bill_counts_the_devices_that_did_the_work(tmp_path, monkeypatch):
    path = tmp_path / "bills.py"
    path.write_text(SWEEP)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    ledger = ledger_of(tmp_path, SAFE)
    assert Worker(Order(str(path)), ledger).run(max_runs=2).done == 2
    standings = survey(find_sweep(str(path)).jobs(), ledger)
    done = [one for one in standings if one.state == FINISHED]
    assert [one.entry.data["devices"] for one in done] == [4, 4]
    spent = sum(one.entry.seconds for one in done) * 4 / 3600
    assert status(standings)["device_hours"] == pytest.approx(spent)
    assert sum(row["sweep_device_hours"] for row in rows(standings, ledger)) == pytest.approx(spent)
    left = [prices(standings)[key] for key in ("b", "c")]
    assert plan(standings)["device_hours"] == pytest.approx(sum(left) * 4 / 3600)
