"""Sweeps as values: combinators, keys, the graph of jobs, and names with their nearest."""

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from scaling.errors import InputError
from scaling.record.hashing import added, content_hash
from scaling.record.override import override
from scaling.study.sweep import (
    Job,
    Run,
    Runs,
    Sweep,
    chain,
    differences,
    grid,
    job_key,
    runs,
    seeds,
    simple_jobs,
    where,
    zip_,
)
from scaling.study.sweep_find import find_sweep, names


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate {self.rate}: above 0")


@dataclass(frozen=True)
class Config:
    size: int = 1
    inner: Inner = field(default_factory=Inner)
    seed: int = 0


def test_a_grid_is_every_combination_the_last_axis_fastest():
    found = grid(Config(), {"size": (1, 2), "inner.rate": (0.1, 0.2)})
    assert [(one.size, one.inner.rate) for one in found.configs()] == [(1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2)]
    assert str(found).splitlines()[1] == "size=1 inner.rate=0.2"
    assert {hash(run) for run in found} == {
        hash(run) for run in grid(Config(), {"size": (1, 2), "inner.rate": (0.1, 0.2)})
    }


def test_zip_seeds_chain_and_where_compose():
    pairs = zip_(Config(), {"size": (1, 2), "inner.rate": (0.5, 0.25)})
    assert [(one.size, one.inner.rate) for one in pairs.configs()] == [(1, 0.5), (2, 0.25)]
    with pytest.raises(ValueError, match=r"'inner\.rate': 1"):
        zip_(Config(), {"size": (1, 2), "inner.rate": (0.5,)})
    many = seeds(pairs, 3)
    assert [str(run) for run in many][:2] == ["size=1 inner.rate=0.5 seed=0", "size=1 inner.rate=0.5 seed=1"]
    assert len(chain(many, many, pairs[0])) == 6 + 1  # what came before is left out
    assert [run.config.seed for run in where(many, lambda config: config.size == 2)] == [0, 1, 2]
    assert runs(Run(Config())) == runs(Config()) == Runs((Run(Config()),))
    with pytest.raises(ValueError, match="no value"):
        grid(Config(), {"size": ()})


def test_a_typo_in_a_path_is_answered_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean rate"):
        override(Config(), "inner.rat", 1.0)
    with pytest.raises(InputError, match=r"inner\.rate=-1: rate -1.0: above 0"):
        grid(Config(), {"inner.rate": (-1,)})
    for wrong in ("many", 1.5, "1.5"):
        with pytest.raises(InputError, match="not of the kind of 1"):
            override(Config(), "size", wrong)
    with pytest.raises(InputError, match=r"^inner\.rat: there is no 'rat'"):
        override(Config(), "inner.rat", 1)


def test_what_differs_between_two_configs():
    other = replace(Config(), inner=Inner(0.2), seed=3)
    assert differences(Config(), other) == {"inner.rate": (0.1, 0.2), "seed": (0, 3)}
    assert differences(Config(), Config()) == {}


KEYS = """
import dataclasses
from scaling.record.hashing import added
from scaling.study.sweep import job_key
@dataclasses.dataclass(frozen=True)
class Config:
    {fields}
print(job_key("stage", Config(), {{"b": "2", "a": "1"}}, 1))
"""


def test_a_key_is_the_same_in_every_process_field_order_and_after_a_field_was_added():
    variants = ["x: int = 1; y: str = 'a'", "y: str = 'a'; x: int = 1", "x: int = 1; y: str = 'a'; z: int = added(7)"]
    found = {
        subprocess.run(
            [sys.executable, "-c", KEYS.format(fields=fields)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for fields in variants
        for seed in ("1", "2")
    }
    assert len(found) == 1


@dataclass(frozen=True)
class Later:
    x: int = 1
    z: int = added(7)
    w: int = added(5, before=4)  # the code did 4 before; 5 is the default since


def test_an_added_field_is_hashed_where_it_says_something_new():
    @dataclass(frozen=True)
    class Later2:
        x: int = 1

    assert content_hash(Later()) != content_hash(Later(w=4))
    assert content_hash(Later(z=8, w=4)) != content_hash(Later(w=4))
    Later2.__name__ = "Later"
    assert content_hash(Later(w=4)) == content_hash(Later2())


def test_a_key_covers_stage_config_needs_and_version():
    base = ("stage", Config(), {"bank": "a"}, 1)
    others = [
        ("other", *base[1:]),
        ("stage", Config(2), *base[2:]),
        (*base[:2], {"bank": "b"}, 1),
        (*base[:3], 2),
    ]
    assert len({job_key(*one) for one in (base, *others)}) == 5


def test_jobs_that_runs_share_are_one_job():
    def jobs(run: Run) -> list[Job]:
        bank = job_key("bank", run.config.inner, {}, 1)
        mine = job_key("student", run.config, {"bank": bank}, 1)
        return [
            Job(bank, "bank", "bank", run.config.inner, lambda work, needed: None),
            Job(mine, "student", str(run), run.config, lambda work, needed: [], needs={"bank": bank}),
        ]

    sweep = Sweep("shared", grid(Config(), {"inner.rate": (0.1, 0.2), "size": (1, 2, 3)}), jobs)
    assert [job.stage for job in sweep.jobs().values()].count("bank") == 2
    assert len(sweep.jobs()) == 2 + 6
    one = sweep.override("inner.rate", 0.3)
    assert len(one.jobs()) == 1 + 3 and (len(sweep.runs), len(one.runs)) == (6, 3)
    assert [str(run) for run in sweep.override("size", 7).runs] == ["inner.rate=0.1", "inner.rate=0.2"]
    whole = sweep.override("inner", Inner(0.4)).override("size", 1)
    assert [str(run) for run in whole.runs] == ["base"]
    assert [str(run) for run in one.runs] == ["size=1", "size=2", "size=3"]
    assert str(sweep).startswith("shared: 6 runs\ninner.rate=0.1 size=1\n")


def test_sweeps_by_name_and_by_file_and_their_nearest():
    assert "engine_check" in names()
    sweep = find_sweep("engine_check")
    assert len(sweep.runs) == len(sweep.jobs()) == 40
    file = Path(__file__).resolve().parents[2] / "sweeps" / "engine_check.py"
    assert (
        find_sweep(str(file), [("rounds", 1000)]).jobs().keys()
        == find_sweep("engine_check", [("rounds", 1000)]).jobs().keys()
    )
    with pytest.raises(InputError, match=r"'engine_chek'; did you mean engine_check\?"):
        find_sweep("engine_chek")
    with pytest.raises(InputError, match="no version 'paper'"):
        find_sweep("engine_check-paper")


def test_a_file_that_is_no_sweep_is_one_sentence(tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(InputError, match="defines no sweep"):
        find_sweep(str(tmp_path / "empty.py"))
    (tmp_path / "broken.py").write_text("x = (\n")
    with pytest.raises(InputError, match=r"line 1 of .*broken\.py is not Python"):
        find_sweep(str(tmp_path / "broken.py"))


def test_a_run_of_the_check_resumes_from_its_checkpoint_to_the_same_digest(tmp_path):
    [job] = find_sweep("engine_check", [("rounds", 100), ("seed", 3)]).jobs().values()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    [row] = job.action(whole, {})
    assert row["rounds_computed"] == 100 and not row["resumed"]
    (cut / "checkpoint.json").write_text((whole / "checkpoint.json").read_text())
    (cut / "chunks.txt").write_text("0\n1\n2\n3\n4\n5\n")  # one after the checkpoint was lost
    [again] = job.action(cut, {})
    assert again["digest"] == row["digest"] and again["resumed"] and again["rounds_computed"] == 110


def test_a_figure_that_is_replaced_is_not_told_of_any_more_and_equal_runs_are_one():
    axes = {"size": (1, 2), "seed": (0, 1)}
    sweep = Sweep("one", grid(Run(Config(), "a first word"), axes), simple_jobs("one", 1, lambda config, work: {}, 1.0))
    names = [job.name for job in sweep.override("seed", 0).jobs().values()]
    assert names == ["a first word size=1", "a first word size=2"]


def test_simple_jobs_hand_the_config_to_the_work(tmp_path):
    jobs = simple_jobs("one", 1, lambda config, work: {"size": config.size}, 2.0)
    [job] = jobs(Run(Config(5), "five"))
    assert job.action(tmp_path, {}) == [{"size": 5}] and job.rows and job.seconds == 2.0
    assert job.spec()["config"] == {"size": 5, "inner.rate": 0.1, "seed": 0}


LIGHT = """
import sys
for name in ("numpy", "rich", "jax", "flax", "mujoco", "scipy", "sklearn", "matplotlib", "pyarrow", "fsspec"):
    sys.modules[name] = None
"""
PARENT = """
from scaling.cli import main
sys.exit(main(["sweep", "work", "engine_check", "--store", "store", "--set", "rounds=10", "--json", "found.json"]))
"""
CHILD = """
from pathlib import Path
from scaling.study import sweep_child
from scaling.study.sweep_find import find_sweep
job = next(iter(find_sweep("engine_check", [("rounds", 10)]).jobs().values()))
Path("work").mkdir()
sys.exit(sweep_child._done(job, Path("work"), {}, 0) != {"ok": True, "env_steps": None})
"""


@pytest.mark.parametrize("process", [PARENT, CHILD])
def test_a_worker_waits_for_no_package_that_its_study_does_not_use(process, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", LIGHT + process], cwd=tmp_path, env=environment, check=True)
