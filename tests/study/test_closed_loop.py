"""Experts and playback beside students: who plays which clip, what the columns are called, and the gap between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.distill.slots import Seat, lay_out
from scaling.study import closed_loop
from scaling.study.closed_loop import beside_teachers, closed_loop_rows, merged
from scaling.study.config import ClosedLoopConfig
from scaling.tracking.scores import Trace
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
    found = beside_teachers(ONE, played, ("sonic",))
    assert (found["experts_survival_s"], found["open_loop_survival_s"]) == (1.5, 0.5)
    assert (found["gap_survival_s"], found["gap_mpjpe_l_mm"], found["gap_success_sonic"]) == (0.5, -10.0, 0.0)
    assert found["gap_mpjpe_rad"] is None
    assert "gap_success_sonic_low" not in found


def trace(falls, reaches):
    """Two episodes of ten steps: one whole, one that fails by sonic's rule when it reaches, by the other's when it
    falls."""
    step = np.arange(10)[:, None]
    late, early = (np.concatenate([step < 0, step >= at], axis=1) for at in (falls, reaches))
    error = np.where(early, 0.3, 0.1)
    return Trace(np.ones((10, 2), bool), early, *(error,) * 5, np.zeros((10, 2, 36)), late[..., None])


def test_a_play_has_columns_of_each_protocol_and_success_is_called_as_everywhere():
    found = closed_loop._columns(trace(falls=6, reaches=4), ("sonic", "humanoid-gpt"), "_assist0")
    assert found["success_sonic_assist0"] == found["success_hgpt_assist0"] == 0.5
    assert found["success_hgpt_low_assist0"] < 0.5 < found["success_hgpt_high_assist0"]
    assert found["survival_s_assist0"] == pytest.approx(0.02 * (10 + 4) / 2)
    assert found["survival_s_hgpt_assist0"] == pytest.approx(0.02 * (10 + 6) / 2)
    assert found["mpjpe_rad_assist0"] == pytest.approx(0.1)
    assert found["mpjpe_rad_hgpt_assist0"] == pytest.approx((0.1 + (4 * 0.1 + 2 * 0.3) / 6) / 2)
    names = {name.removesuffix("_assist0") for name in found}
    assert {"mpkpe_hgpt_mm", "mpjve_rad_s_hgpt", "root_vel_err_hgpt", "mpjpe_l_mm"} < names
    other = closed_loop._columns(trace(falls=6, reaches=4), ("humanoid-gpt",), "")
    assert other["success_hgpt"] == 0.5 and "success_sonic" not in other and other["mpkpe_hgpt_mm"] > 0
    protocols = ClosedLoopConfig(protocol="humanoid-gpt").protocols
    assert protocols == ("humanoid-gpt", "sonic")
    swapped = closed_loop._columns(trace(falls=6, reaches=4), protocols, "")
    assert {"success_hgpt", "survival_s", "success_sonic", "survival_s_sonic", "mpjpe_l_mm_sonic"} < set(swapped)


def test_experts_playback_and_gaps_stand_beside_by_each_protocol():
    protocols = ("sonic", "humanoid-gpt")
    mine = closed_loop._columns(trace(falls=6, reaches=4), protocols, "")
    theirs = closed_loop._columns(trace(falls=8, reaches=4), protocols, "")
    row = {"run": "mlp", "clusters": 4, "assist": 0.0, "protocol": "sonic", **mine}
    row |= beside_teachers(row, {"val": dict.fromkeys(closed_loop.TEACHERS, theirs)}, protocols)
    assert row["gap_survival_s"] == 0.0 and row["gap_survival_s_hgpt"] == pytest.approx(-0.02)
    assert row["gap_mpkpe_hgpt_mm"] == pytest.approx(theirs["mpkpe_hgpt_mm"] - mine["mpkpe_hgpt_mm"])
    experts, playback, student = closed_loop_rows([row], ("val",))
    assert student["survival_s_hgpt"] == pytest.approx(0.16)
    assert experts["survival_s_hgpt"] == playback["survival_s_hgpt"] == pytest.approx(0.18)
    assert list(student)[3:9] == ["success_sonic", "success_sonic_low", "success_sonic_high", *closed_loop.QUANTITIES]


def test_the_table_has_experts_and_playback_of_each_bank_before_the_students():
    played = {split: {who: changed() for who in closed_loop.TEACHERS} for split in ("val", "test")}
    rows = []
    for k in (4, 2):
        row = {"run": f"mlp-K{k}", "clusters": k, "assist": 0.0, "protocol": "sonic"}
        row |= merged({"val": [ONE], "test": [ONE]})[0]
        rows.append(row | beside_teachers(row, played, ("sonic",)))
    untaught = {"run": "direct", "clusters": None, "assist": 0.0, "protocol": "sonic", **ONE}
    found = closed_loop_rows([*rows, untaught], ("val", "test", "test_family"))
    assert [line["who"] for line in found if line["split"] == "val"] == [
        "experts K=4", "open_loop K=4", "experts K=2", "open_loop K=2", "mlp-K4", "mlp-K2", "direct",
    ]  # fmt: skip
    assert [line["who"] for line in found if line["split"] == "test"][-1] == "mlp-K2"  # the third was not played there
    assert {line["split"] for line in found} == {"val", "test"}
    assert all(line["success_sonic_low"] == 0.3 for line in found)
