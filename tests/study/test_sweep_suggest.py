"""Suggestions: from the rows of a sweep to the runs that are worth their cost, and to doing those alone."""

import itertools
import json
from dataclasses import replace

import pytest

from scaling.cli import main
from scaling.errors import InputError
from scaling.study.sweep import grid
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_jobs import StudyJobs
from scaling.study.sweep_state import survey
from scaling.study.sweep_suggest import Question, _points, suggest
from scaling.study.sweep_worker import Order, Worker
from tests.study.sweeps import SAFE, ledger_of
from tests.study.tiny import tiny

# A planted law as a sweep: a row's loss falls with both columns; `hours` are not spent but said.
PLANTED = """
import numpy as np
from dataclasses import dataclass
from scaling.study.sweep import Sweep, grid, simple_jobs

@dataclass(frozen=True)
class Config:
    params: float = 1e4
    unique_frames: float = 1e3
    seed: int = 0

def work(config, folder):
    noise = np.random.default_rng([int(config.params), int(config.unique_frames), config.seed]).normal(0, 0.01)
    loss = 0.1 + 6 * config.params**-0.35 + 30 * config.unique_frames**-0.4
    return {"params": config.params, "unique_frames": config.unique_frames, "val_loss": loss * np.exp(noise),
            "status": "finished", "family": "even" if config.seed % 2 == 0 else "odd"}

SIZES, DATA = (1e4, 4e4, 1.6e5, 6.4e5), (1e3, 4e3, 1.6e4, 6.4e4)
VERSIONS = {"": lambda: Sweep("planted", grid(Config(), {"seed": (0, 1), "params": SIZES, "unique_frames": DATA}),
                              simple_jobs("planted", 1, work, 3600.0))}
"""
COLUMNS = {"size": "params", "data": "unique_frames"}
TARGET = {"size": 6.4e6, "data": 6.4e5}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The sweep's file, and a store in which its first seed is finished."""
    folder = tmp_path_factory.mktemp("planted")
    path = folder / "planted.py"
    path.write_text(PLANTED)
    assert Worker(Order(str(path)), ledger_of(folder, SAFE)).run(max_runs=16).done == 16
    return folder, str(path)


def asked(planted, **more):
    folder, path = planted
    ledger = ledger_of(folder)
    question = Question(**{"target": TARGET, "columns": COLUMNS, "budget_hours": 1e9, "form": "chinchilla", **more})
    return suggest(survey(find_sweep(path).jobs(), ledger), ledger, question)


def test_runs_are_proposed_best_first_until_the_budget_is_spent(planted):
    found = asked(planted)
    assert found["rows"] == found["candidates"] == len(found["runs"]) == 16
    widths = [found["width"], *(one["width_after"] for one in found["runs"])]
    assert all(after < before for before, after in itertools.pairwise(widths))
    assert found["expected_width"] == widths[-1]
    few = asked(planted, budget_hours=2.5 * found["runs"][0]["device_hours"])
    assert [one["hash"] for one in few["runs"]] == [one["hash"] for one in found["runs"]][:2]
    assert all("seed=1" in one["name"] for one in few["runs"])


def test_what_cannot_be_answered_is_one_sentence(planted):
    with pytest.raises(InputError, match="name the column with --data"):
        asked(planted, target={"size": 1e6})
    with pytest.raises(InputError, match="needs a law: run some more first"):
        asked(planted, where={"params": "10000.0"})
    with pytest.raises(InputError, match="no finished row"):
        asked(planted, where={"family": "odd"})
    with pytest.raises(InputError, match="state a larger sweep"):
        asked(planted, where={"family": "even"})  # nobody knows the family of a run beforehand
    with pytest.raises(InputError, match="above 0"):
        Question(TARGET, COLUMNS, 0.0)
    with pytest.raises(InputError, match="--target takes figures for size, data"):
        Question({"sise": 1.0}, COLUMNS, 1.0)


def test_the_proposed_runs_alone_are_done_through_the_command(planted, capsys):
    folder, path = planted
    store = folder / "store"
    flags = ("--store", store, "--target", "size=6.4e6,data=6.4e5", "--form", "chinchilla")

    def call(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in ("sweep", *arguments)]) == 0
        return capsys.readouterr().out

    found = json.loads(call("suggest", path, *flags, "--budget", 1e9, "--json"))
    best, budget = found["runs"][0]["hash"], 1.5 * found["runs"][0]["device_hours"]
    words = call("suggest", path, *flags, "--budget", budget)
    assert f"scaling sweep work {path} --store {store} --only {best}\n" in words
    done = json.loads(call("work", path, "--store", store, "--only", best, "--json"))
    assert done["done"] == 1 and done["counts"]["finished"] == 17
    again = json.loads(call("suggest", path, *flags, "--budget", budget, "--json"))
    assert again["rows"] == 17 and again["candidates"] == 15


def test_the_points_of_a_study_are_known_but_for_the_frames_of_its_arms():
    runs = grid(tiny(seeds=1, clusters=(2,), arms=(0.25, 0.5, 1.0)), {"seeds": (1,)})
    [job] = [job for job in StudyJobs()(runs[0]) if job.rows]
    [one] = [one for one in survey({job.key: replace(job, needs={})}, _Nothing()) if one.job.rows]
    found = [{"arm": 1.0, "unique_frames": 4000}, {"arm": 0.5, "unique_frames": 2100}]
    question = Question({"size": 1e6, "data": 1e6}, COLUMNS, 1.0)
    points = _points(one, found, ("size", "data"), question)
    assert points[:, 1].tolist() == [0.25 * 4100, 2100, 4000]
    assert len(set(points[:, 0])) == 1 and points[0, 0] > 1e4


class _Nothing:
    """A ledger in which nobody has begun."""

    def standing(self, keys):
        return {}
