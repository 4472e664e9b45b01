"""Keys that are given stay: a store that has a run under yesterday's key must find it under today's."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.record.hashing import content_hash
from scaling.study import sweep_teachers
from scaling.study.config import with_bank
from scaling.study.sweep import Sweep, grid
from scaling.study.sweep_cost import CPU
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_jobs import StudyJobs
from scaling.study.sweep_teachers import STUDENTS_OWN
from tests.study.tiny import DIRECT, FINETUNE, tiny

# If one of these fails, every store does these runs again: find what changed a key, or, where a stage computes
# something else, raise its version and write the new digest here.
SHIPPED = {
    "data_size-tiny": "c74364644623309a",
    "data_size-paper": "6f2d409df1d964a4",
    "cluster_count-tiny": "0473d95c8c0b0136",
    "cluster_count-paper": "407f767276439b46",
    "model_size-tiny": "bfb5f992215e1a55",
    "model_size-paper": "7ab8706e79d5924f",
    "architecture-tiny": "67dbd946afad1e3b",
    "architecture-paper": "095556e91936b595",
    "full_factorial-tiny": "16ed729db17c4b8d",
    "full_factorial-paper": "65547abcdff1fa2d",
    "isoflop-tiny": "862b7c840646b2a7",
    "isoflop-paper": "da0ae4354cc3e724",
    "engine_check": "726f2892ff06bba7",
}
STAGES = {
    "corpus": "4a55c0503974dc1f",
    "embedding": "64008ac706fd5250",
    "clusters": "b9ef6aa5fdbe0c01",
    "bank": "64f4df906d2aad9b",
    "valset": "8e752ed5c67792ab",
    "teachers": "cab5d911bb037f37",
    "pretrained": "9eb5a3118fcd2474",
    "students": "85354a965c88b20c",
    "closed_loop": "a4ee3c1d86a4f5cf",
    "reference": "459e68bff5d539bc",
    "rows": "ddc992347fee8459",
    "tuned": "319174cb2124de74",
    "direct": "eddf82a3c20792db",
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_keys_of_a_shipped_sweep_do_not_drift(name: str) -> None:
    assert content_hash(list(find_sweep(name).jobs())) == SHIPPED[name]


def test_the_keys_of_every_stage_do_not_drift() -> None:
    base = tiny(reference=True, finetune=FINETUNE, direct=DIRECT, auxiliary=0.1)
    base = replace(base, pretrain=replace(base.pretrain, hours=0.004))
    runs = grid(base, {"seed": (0, 1), "families": [("mlp",), ("gru",)]})
    keys = defaultdict(list)
    for job in Sweep("every stage", runs, StudyJobs()).jobs().values():
        keys[job.stage].append(job.key)
    assert {stage: content_hash(found) for stage, found in keys.items()} == STAGES


OTHERS = {
    "name": "other",
    "dagger": replace(tiny().dagger, updates=9),
    "direct": DIRECT,
    "families": ("gru",),
    "sizes": ("1M",),
    "context": 16,
    "history": 2,
    "resamples": 7,
    "look_ahead": (5,),
    "auxiliary": 0.5,
    "pretrain": replace(tiny().pretrain, hours=0.004),
    "dtype": "bfloat16",
    "remat": True,
    "selection": "complex",
    "finetune": FINETUNE,
}


@pytest.mark.parametrize("name", STUDENTS_OWN)
def test_what_is_the_students_own_leaves_the_keys_of_their_teachers(name: str) -> None:
    base = tiny(reference=True)
    other = replace(base, **{name: OTHERS[name]})
    assert getattr(other, name) != getattr(base, name)
    found = [[job.key for job in sweep_teachers._teachers(one, CPU).jobs] for one in (base, other)]
    assert found[0] == found[1]


def test_the_validation_set_of_a_kept_bank_is_of_one_physics() -> None:
    kept = with_bank(tiny(), str(Path(__file__).parents[2] / "experiments/banks/generated"))
    keys = {
        physics: {job.stage: job.key for job in sweep_teachers._teachers(replace(kept, physics=physics), CPU).jobs}
        for physics in ("mujoco", "mjx")
    }
    assert keys["mujoco"]["bank"] == keys["mjx"]["bank"]
    assert keys["mujoco"]["valset"] != keys["mjx"]["valset"]
