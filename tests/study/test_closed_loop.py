"""Experts and playback beside students: who plays which clip, what the columns are called, and the gap between them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from scaling.distill.slots import Seat, lay_out
from scaling.study import closed_loop
from scaling.study.closed_loop import beside_teachers, closed_loop_rows, merged
from scaling.tracking.scores import Scores
from tests.distill.samples import ALL, linear_bank
from tests.distill.test_rollout import alone

ONE = {"success_sonic": 0.5, "success_sonic_low": 0.3, "success_sonic_high": 0.7, "survival_s": 2.0}
ONE |= {"mpjpe_l_mm": 50.0, "mpjpe_rad": None}


def changed(**values):
    return {**ONE, **values}


def test_each_start_is_played_by_the_expert_of_its_clip():
    bank, experts = linear_bank(3, 0, 1.0), [2, 0, 2, 1, 0]
    seats = lay_out([[Seat(expert, np.array([7]), np.ones(1)) for expert in experts]], bank.experts).seats
    obs = jax.random.normal(jax.random.key(0), (len(experts), ALL))
    found, _ = closed_loop._BANK.act((bank, seats), (), obs, jnp.zeros(len(experts), bool))
    for row, expert in enumerate(experts):
        np.testing.assert_allclose(found[row], alone(bank, expert, obs[row]), atol=1e-5)


def test_columns_of_other_splits_bear_their_name():
    rows = merged({"val": [ONE, ONE], "test": [changed(survival_s=1.0), ONE], "test_family": [{}, {}]})
    assert (rows[0]["survival_s"], rows[0]["test_survival_s"]) == (2.0, 1.0)
    assert len(rows[0]) == 2 * len(ONE)


def test_a_students_gap_is_to_the_experts_and_positive_where_it_is_better():
    played = {"val": {"experts": changed(survival_s=1.5, mpjpe_l_mm=40.0), "open_loop": changed(survival_s=0.5)}}
    found = beside_teachers(ONE, played, "sonic")
    assert (found["experts_survival_s"], found["open_loop_survival_s"]) == (1.5, 0.5)
    assert (found["gap_survival_s"], found["gap_mpjpe_l_mm"], found["gap_success_sonic"]) == (0.5, -10.0, 0.0)
    assert found["gap_mpjpe_rad"] is None
    assert "gap_success_sonic_low" not in found


def test_success_is_called_as_everywhere_by_either_protocol():
    seconds = np.array([1.0, 2.0])
    nothing = dict.fromkeys((field.name for field in dataclasses.fields(Scores)), np.zeros(2))
    result = Scores(**nothing | {"success": np.array([True, False]), "seconds": seconds})
    for protocol, name in (("sonic", "success_sonic"), ("humanoid-gpt", "success_hgpt")):
        found = closed_loop._columns(result, protocol, "_assist0")
        assert found[f"{name}_assist0"] == 0.5 and found[f"{name}_low_assist0"] < 0.5
        row = {"run": "mlp", "clusters": None, "assist": 0.0, "protocol": protocol}
        row |= {column.removesuffix("_assist0"): value for column, value in found.items()}
        [line] = closed_loop_rows([row], ("val",))
        assert line[name] == 0.5


def test_the_table_has_experts_and_playback_of_each_bank_before_the_students():
    played = {split: {who: changed() for who in closed_loop.TEACHERS} for split in ("val", "test")}
    rows = []
    for k in (4, 2):
        row = {"run": f"mlp-K{k}", "clusters": k, "assist": 0.0, "protocol": "sonic"}
        row |= merged({"val": [ONE], "test": [ONE]})[0]
        rows.append(row | beside_teachers(row, played, "sonic"))
    untaught = {"run": "direct", "clusters": None, "assist": 0.0, "protocol": "sonic", **ONE}
    found = closed_loop_rows([*rows, untaught], ("val", "test", "test_family"))
    assert [line["who"] for line in found if line["split"] == "val"] == [
        "experts K=4", "open_loop K=4", "experts K=2", "open_loop K=2", "mlp-K4", "mlp-K2", "direct",
    ]  # fmt: skip
    assert [line["who"] for line in found if line["split"] == "test"][-1] == "mlp-K2"  # the third was not played there
    assert {line["split"] for line in found} == {"val", "test"}
    assert all(line["success_sonic_low"] == 0.3 for line in found)
