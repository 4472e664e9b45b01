"""The shape of a benchmark: its rows, its medians, its rooms; no test here knows how fast the machine is."""

import json
import math
import time

import pytest

from scaling.bench import ROOMS, Row, measure_room
from scaling.bench.dream import flops_per_iteration
from scaling.bench.ppo import Sizes
from scaling.cli import main
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.dynamics.model import ModelConfig
from scaling.dynamics.state import FEATURES
from scaling.dynamics.train import TrainConfig
from scaling.experts.dream_config import DreamConfig
from scaling.experts.ppo import PPOConfig
from scaling.record.timing import medians

KEYS = {"name", "value", "unit", "target", "higher_is_better", "ratio_to", "machine"}


def check(rows):
    """Every row has its keys, a finite value, a unique name; a ratio says of what."""
    assert rows
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() == KEYS
        assert math.isfinite(row["value"]), row
        assert (row["unit"] == "x") == (row["ratio_to"] is not None), row
        assert row["target"] is None or math.isfinite(row["target"])
        assert "cores" in row["machine"]


def bench(room, tmp_path):
    path = tmp_path / "out.json"
    assert main(["bench", room, "--quick", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    check(report["rows"])
    return {row["name"]: row for row in report["rows"]}


def test_robot_and_its_errors(tmp_path):
    rows = bench("robot", tmp_path)
    for name in ("fk_position_error", "fk_rotation_error", "mass_error"):
        assert rows[name]["value"] <= rows[name]["target"]
        assert not rows[name]["higher_is_better"]


def test_motion(tmp_path):
    rows = bench("motion", tmp_path)
    whole, parts = rows["resample_and_velocities"], [rows["resample"], rows["velocities"]]
    assert 1 / whole["value"] == pytest.approx(sum(1 / part["value"] for part in parts))


@pytest.mark.slow
def test_the_engine_of_sweeps(tmp_path):
    rows = {name: row["value"] for name, row in bench("sweep", tmp_path).items()}
    assert rows["two_workers_of_one"] == pytest.approx(rows["sweep_2_workers"] / rows["sweep_1_worker"])
    assert rows["recovery_after_kill"] > rows["recovery_lease"] - 1.0  # a heartbeat before it is stale, at the soonest


@pytest.mark.slow
def test_experts_and_the_bill(tmp_path, monkeypatch):
    """Networks and batches as small as they go: here the rows are looked at, not the speed."""
    config = PPOConfig(unroll=2, minibatches=2, epochs=1, hidden=(8,), value_hidden=(8,))
    monkeypatch.setattr("scaling.bench.experts.sizes", lambda quick: Sizes((1, 8), 16, 1, config=config))
    rows = {name: row["value"] for name, row in bench("experts", tmp_path).items()}
    many, roofline = rows["ppo_8_experts"], rows["ppo_roofline"]
    assert rows["ppo_8_experts_share"] == pytest.approx(many / rows["ppo_1_experts"])
    assert rows["ppo_share_of_roofline"] == pytest.approx(many / roofline)
    assert roofline < rows["bare_physics"]
    assert rows["roofline_physics_share"] == pytest.approx(roofline / rows["bare_physics"])
    assert rows["published_bank"] * 3600 * many == pytest.approx(384 * 3e9)


@pytest.mark.slow
@pytest.mark.parametrize("room", [room for room in ROOMS if room not in ("robot", "motion", "sweep", "experts")])
def test_every_other_room(room, tmp_path):
    bench(room, tmp_path)


def test_medians_are_of_ways_in_turns():
    calls = []

    def way(name, seconds):
        def work():
            calls.append(name)
            # The first call is the slow one, and one of the others is an outlier.
            time.sleep(0.2 if len(calls) in (1, 5) else seconds)

        return work

    found = medians({"a": way("a", 0.002), "b": way("b", 0.02)}, repeats=5)
    assert calls == ["a", "b"] * 6
    assert 0.002 <= found["a"] < found["b"]


def test_a_row_knows_whether_it_met_its_target():
    assert Row("speed", 2.0, "x", target=1.0, ratio_to="a").met is True
    assert Row("error", 2.0, "m", target=1.0, higher_is_better=False).met is False
    assert Row("plain", 2.0, "m").met is None


def test_a_room_that_is_not_there():
    with pytest.raises(ValueError, match="kitchen"):
        next(measure_room("kitchen"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [(["laws", "--algorithm", "dream"], "--algorithm is for bench experts")],
)
def test_what_cannot_be_measured_is_said(capsys, given, sentence):
    assert main(["bench", *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_the_matrix_products_of_dreamed_experts_by_hand():
    config = DreamConfig(
        hidden=(10,), model=ModelConfig(8, 1, soles=False), model_updates=2, actor_updates=3, actor_batch=5, horizon=7,
        dynamics=TrainConfig(window=2, batch=4),
    )  # fmt: skip
    seen, actor_in = FEATURES, observation_dim(EXPERT_TERMS)
    learning = 6 * seen * 8 + 6 * 8 * 70 - 2 * seen * 8  # three products a layer, less that to the data
    dreaming = 4 * (seen * 8 + 8 * 70) + 6 * (actor_in * 10 + 10 * 29)
    assert flops_per_iteration(config, 11) == 2 * 4 * 2 * learning + 11 * 3 * 5 * 7 * dreaming


def test_the_table_for_a_person(capsys):
    assert main(["bench", "robot", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "fk_numpy_speedup" in out
    assert "at most 1e-06" in out
