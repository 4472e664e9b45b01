"""Studies as jobs: what is shared is one job, shipped sweeps can be planned, and the rows are those of `run_study`."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from scaling.distill.student import CIRCUMSTANCES
from scaling.errors import InputError
from scaling.record.hashing import content_hash
from scaling.record.ledger import Ledger
from scaling.record.shelf import LocalShelf
from scaling.record.store import ArtifactStore
from scaling.record.table import read_table, rows_of, write_table
from scaling.students.ladder import ladder
from scaling.study.corpus_stages import CORPUS_VERSION
from scaling.study.sweep import Sweep, grid
from scaling.study.sweep_bill import bill, plan
from scaling.study.sweep_cost import GPU, bank_seconds
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_jobs import StudyJobs
from scaling.study.sweep_rows import best_student, rows
from scaling.study.sweep_stage import Builds
from scaling.study.sweep_state import survey
from scaling.study.sweep_worker import Order, Worker
from tests.study.tiny import DIRECT, FINETUNE, tiny

SHIPPED = ("data_size", "cluster_count", "model_size", "architecture", "full_factorial", "isoflop")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_sweep_is_planned_in_both_versions_without_building_anything(name, tmp_path):
    small, large = (find_sweep(f"{name}-{version}") for version in ("tiny", "paper"))
    assert find_sweep(name).name == small.name
    ledger = Ledger(LocalShelf(tmp_path / "store"))
    cost = {sweep.name: plan(survey(sweep.jobs(), ledger)) for sweep in (small, large)}
    assert 0.02 < cost[small.name]["device_hours"] < 1.0 < 1000 < cost[large.name]["device_hours"]
    for sweep in (small, large):
        data = {run.config.dagger.sequences(k) for run in sweep.runs for k in run.config.clusters}
        assert len(data) == 1, "how many experts there are does not decide how much a student sees"
        jobs = sweep.jobs()
        stages = Counter(job.stage for job in jobs.values())
        banks = {(run.config.clusters, run.config.experts) for run in sweep.runs}
        assert stages["corpus"] == 1 and stages["bank"] == stages["valset"] == len(banks)
        students = sum(len(run.config.families) * len(run.config.sizes) for run in sweep.runs)
        assert stages["students"] == stages["rows"] == students
        assert all(need in list(jobs)[:index] for index, job in enumerate(jobs.values()) for need in job.needs.values())
    assert not (tmp_path / "store").exists()


def test_the_published_bank_has_its_published_price():
    for run in find_sweep("cluster_count-paper").runs:
        [k] = run.config.clusters
        assert bank_seconds(run.config, k, GPU) / 3600 == pytest.approx(12_000, rel=0.05)


def test_isoflop_spends_its_budget_at_every_size():
    [budgets] = {tuple(sorted(_flops(run.config) for run in find_sweep("isoflop-tiny").runs))}
    assert all(min(abs(spent / budget - 1) for budget in (4e10, 1.6e11)) < 0.02 for spent in budgets)


def _flops(config):
    from scaling.students.count import training_flops_per_token
    from scaling.study.student_stages import student_config

    tokens = config.dagger.updates * config.dagger.batch * config.dagger.steps
    return tokens * training_flops_per_token(student_config(config, config.families[0], config.sizes[0]))


def test_keys_are_those_of_the_artifact_store_and_follow_what_they_cover():
    base = tiny()
    jobs = {job.name: job for job in Sweep("one", grid(base, {"seeds": (1,)}), StudyJobs()).jobs().values()}
    key = {"motions": base.motions, "corpus": base.corpus}
    assert jobs["corpus"].key == ArtifactStore("any").key("corpus", key, {"files": content_hash({})}, CORPUS_VERSION)
    changed = replace(base, seeds=1, dagger=replace(base.dagger, updates=6))
    after = {job.name: job for job in Sweep("other", grid(changed, {"seeds": (1,)}), StudyJobs()).jobs().values()}
    differing = {name for name in jobs if jobs[name].key != after[name].key}
    closed = {f"closed loop mlp 0.05M on {split}" for split in ("val", "test")}
    assert differing == {"students mlp 0.05M K=2,1", "rows mlp 0.05M K=2,1"} | closed
    assert set(jobs["experts K=2"].needs) == {"corpus", "clusters"}
    shared = {jobs[f"clusters K={k}"].needs["embedding"] for k in (2, 1)}
    assert shared == {jobs["embedding"].key}


def test_keys_are_those_of_every_machine_and_a_sweep_that_leaves_its_physics_open_is_refused(monkeypatch):
    def keys(device):
        monkeypatch.setattr(jax, "default_backend", lambda: device)
        return [list(find_sweep(name).jobs()) for name in ("data_size-tiny", "data_size-paper")]

    assert keys("cpu") == keys("gpu")
    assert [find_sweep(f"{name}-{how}").runs[0].config.physics for name in SHIPPED for how in ("tiny", "paper")] == [
        "mujoco",
        "mjx",
    ] * len(SHIPPED)
    with pytest.raises(InputError, match=r"physics=auto is another backend .* --set physics=mujoco or physics=mjx or"):
        find_sweep("data_size", [("physics", "auto")]).jobs()


def test_runs_that_differ_in_one_figure_solve_their_students_once():
    runs = grid(tiny(context=33), {"dagger.updates": range(2, 10), "families": [("mlp",), ("transformer",)]})
    before = ladder.cache_info().misses
    assert len(Sweep("many", runs, StudyJobs()).jobs()) > 16 * 3
    assert ladder.cache_info().misses == before + 2


PLANNED = """
from scaling.study.sweep_handle import Order
from scaling.study.sweep_bill import plan
from scaling.study.sweep_state import survey
from scaling.record.ledger import Ledger
from scaling.record.shelf import LocalShelf
from pathlib import Path
print(plan(survey(Order("data_size").jobs(), Ledger(LocalShelf(Path("nowhere")))))["jobs"])
import jax
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a plan took the device"
jax.devices()
assert xla_bridge.backends_are_initialized(), "this is not how one asks"
"""


def test_a_machine_that_plans_or_holds_a_lease_starts_no_jax(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", PLANNED]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 10


def test_a_reference_bank_is_of_another_seed_and_teaches_nobody():
    [run] = grid(tiny(reference=True), {"seeds": (1,)})
    jobs = {job.name: job for job in StudyJobs()(run)}
    assert jobs["reference: experts K=2"].key != jobs["experts K=2"].key
    reference = jobs["reference: validation set K=2"].key
    assert reference not in jobs["students mlp 0.05M K=2,1"].needs.values()
    assert jobs["reference loss mlp 0.05M"].needs["valset"] == reference
    assert jobs["rows mlp 0.05M K=2,1"].needs["reference"] == jobs["reference loss mlp 0.05M"].key


def test_students_are_tuned_after_they_were_distilled_and_nothing_else_changes_its_key():
    plain, tuned = (
        {job.name: job for job in StudyJobs()(grid(config, {"seeds": (1,)})[0])}
        for config in (tiny(), tiny(finetune=FINETUNE))
    )
    [group] = [job for name, job in plain.items() if name.startswith("students")]
    one = tuned["fine-tuning mlp 0.05M"]
    assert one.needs["students"] == group.key and one.together and one.env_steps == 8 * 4 * 2
    assert tuned["rows mlp 0.05M K=2,1, fine-tuned"].needs["students"] == one.key
    same = [name for name in plain if name in tuned and not name.startswith("rows")]
    assert len(same) == len(plain) - 1 and all(plain[name].key == tuned[name].key for name in same)
    dearer = tiny(finetune=replace(FINETUNE, kl=1.0))
    other = {job.name: job for job in StudyJobs()(grid(dearer, {"seeds": (1,)})[0])}
    assert other["students mlp 0.05M K=2,1"].key == group.key and other["fine-tuning mlp 0.05M"].key != one.key


def test_a_gang_shares_what_is_trained_over_devices_alone():
    jobs = StudyJobs()(grid(tiny(), {"seeds": (1,)})[0])
    assert {job.stage for job in jobs if job.together} == {"bank", "students"}


def test_direct_students_wait_for_no_bank():
    jobs = {job.name: job for job in StudyJobs()(grid(tiny(direct=DIRECT), {"seeds": (1,)})[0])}
    assert set(jobs["direct mlp 0.05M"].needs) == {"corpus", "clusters"}
    assert jobs["rows mlp 0.05M K=2,1, direct"].rows


def test_a_trunk_waits_for_the_corpus_alone_and_its_hours_are_an_axis():
    base = tiny(seeds=1, clusters=(2,))
    plain = {job.name: job for job in StudyJobs()(grid(base, {"seeds": (1,)})[0])}
    runs = grid(base, {"pretrain.hours": (0.0, 0.004, 0.008)})
    none, some, more = ({job.name: job for job in StudyJobs()(run)} for run in runs)
    assert {name: job.key for name, job in none.items()} == {name: job.key for name, job in plain.items()}
    assert set(some["pretraining mlp 0.05M"].needs) == {"corpus"}
    students = "students mlp 0.05M K=2"
    assert some[students].needs["pretrained"] == some["pretraining mlp 0.05M"].key
    assert len({jobs[students].key for jobs in (none, some, more)}) == 3
    assert some["experts K=2"].key == none["experts K=2"].key


def test_a_stage_that_is_not_what_was_planned_is_not_built(tmp_path):
    with pytest.raises(RuntimeError, match="was planned as 0123"):
        Builds(tmp_path, "0123").stage("corpus", {}, {}, 1, lambda work: (work / "x").touch())
    assert not list(tmp_path.iterdir())


SWEEP = """
from scaling.study.sweep import Sweep, runs
from scaling.study.sweep_jobs import StudyJobs
from tests.study.tiny import tiny
VERSIONS = {"": lambda: Sweep("tiny", runs(tiny()), StudyJobs())}
"""


@pytest.mark.slow
def test_a_study_through_the_engine_has_the_rows_of_the_study(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    path = tmp_path / "tiny_study.py"
    path.write_text(SWEEP)
    ledger = Ledger(LocalShelf(tmp_path / "store"))
    order = Order(str(path))
    planned = plan(survey(order.jobs(), ledger))["stages"]
    tally = Worker(order, ledger).run()
    assert tally.failed == 0 and tally.done == len(order.jobs())
    standings = survey(order.jobs(), ledger)
    found = rows(standings, ledger)
    expected = [row for job in order.jobs().values() for row in job.expects]
    assert len(expected) == len(found) and all(
        want.items() <= row.items() for want, row in zip(expected, found, strict=True)
    )
    spent = bill(standings)
    assert spent["students"]["env_steps"] == planned["students"]["env_steps"] == sum(row["env_steps"] for row in found)
    banks = {row["clusters"]: row["expert_env_steps"] for row in found}
    assert spent["bank"]["env_steps"] == planned["bank"]["env_steps"] == sum(banks.values())
    best, folder = best_student(standings, ledger)
    assert (folder / "student.json").exists() and best["run"] in {row["run"] for row in found}
    write_table(found, tmp_path / "engine.csv")
    other = {*CIRCUMSTANCES, "val_loss_reference"}  # this study has no reference
    for row, same in zip(rows_of(read_table(tmp_path / "engine.csv")), finished.rows, strict=True):
        assert {name: row[name] for name in same if name not in other} == {
            name: value for name, value in same.items() if name not in other
        }
        assert row["sweep_attempts"] == 1
