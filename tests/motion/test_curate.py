"""Curation: spikes are mended or told, ends trimmed, and every defect that is put into a clip is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.motion.clip import Motion
from scaling.motion.collisions import collisions
from scaling.motion.curate import CurateConfig, Limits, curate, score_of
from scaling.motion.read import read_motion
from scaling.motion.spikes import SpikeConfig, find_spikes, mend
from scaling.motion.synthetic import FAMILIES, generate
from scaling.robot.g1 import JOINT_NAMES, standing_qpos

KNEE = 7 + JOINT_NAMES.index("left_knee_joint")


def changed(motion: Motion, change: Callable[[np.ndarray], None]) -> Motion:
    qpos = motion.qpos.copy()
    change(qpos)
    return replace(motion, qpos=qpos)


def test_a_clean_clip_comes_back_as_it_is(turning: Motion) -> None:
    verdict = curate(turning)
    assert verdict.reasons == verdict.done == ()
    np.testing.assert_array_equal(verdict.motion.qpos, turning.qpos)
    assert verdict.score > 0.8


@pytest.mark.parametrize("family", FAMILIES)
def test_generated_clips_are_taken(family: str) -> None:
    assert curate(generate(family, 6.0, 3)).reasons == ()


@pytest.mark.parametrize(("column", "jump"), [(0, 0.6), (KNEE, 1.5), (20, -2.5)])
def test_one_wild_frame_is_repaired_and_told(turning: Motion, column: int, jump: float) -> None:
    def spoil(qpos: np.ndarray) -> None:
        qpos[120, column] += jump

    wild = changed(turning, spoil)
    found = mend(wild, SpikeConfig())
    assert list(find_spikes(wild, SpikeConfig())) == [119, 120]
    assert len(find_spikes(found.motion, SpikeConfig())) == 0
    assert len(found.done) == 1
    assert "2.38 s" in found.done[0]
    assert found.motion.notes == found.done
    assert found.left == ()
    touched = np.flatnonzero((found.motion.qpos != wild.qpos).any(axis=1))
    assert touched.min() >= 117
    assert touched.max() <= 123
    assert np.abs(found.motion.qpos - turning.qpos).max() < 0.02


def test_bad_first_and_last_frames_are_cut_and_the_rest_is_untouched(turning: Motion) -> None:
    def spoil(qpos: np.ndarray) -> None:
        qpos[:3, :2] += np.array([[9.0, 0.0], [5.0, 2.0], [3.0, 1.0]])
        qpos[-2:, KNEE] += 2.0

    verdict = curate(changed(turning, spoil))
    np.testing.assert_array_equal(verdict.motion.qpos[:, 7:], turning.qpos[3:-2, 7:])
    np.testing.assert_array_equal(verdict.motion.qpos[:, :3], turning.qpos[3:-2, :3])
    assert [words.split(" were")[0] for words in verdict.done] == ["the first 3 frames", "the last 2 frames"]
    assert verdict.reasons == ()


def test_a_teleport_in_the_middle_is_a_reason_to_refuse(turning: Motion) -> None:
    def spoil(qpos: np.ndarray) -> None:
        qpos[150:, 0] += 2.0

    verdict = curate(changed(turning, spoil))
    assert verdict.done == ()
    assert verdict.reasons[0] == "1 spikes of speed cannot be repaired (at 2.98 s)"
    assert verdict.reasons[1].startswith("its root teleports (root_speed_max_m_s 1")
    assert verdict.score < curate(turning).score


def frozen(qpos: np.ndarray) -> None:
    qpos[:, 7:] = qpos[0, 7:]


def shaken(qpos: np.ndarray) -> None:
    qpos[:, 7:] += 0.15 * np.random.default_rng(0).standard_normal(qpos[:, 7:].shape)


def crossed(qpos: np.ndarray) -> None:
    qpos[:, 7 + JOINT_NAMES.index("left_hip_roll_joint")] = -0.5
    qpos[:, 7 + JOINT_NAMES.index("right_hip_roll_joint")] = 0.5


DEFECTS: dict[str, Callable[[np.ndarray], None]] = {
    "float_median_m": lambda qpos: qpos.__setitem__((slice(None), 2), qpos[:, 2] + 0.3),
    "penetration_max_m": lambda qpos: qpos.__setitem__((slice(None), 2), qpos[:, 2] - 0.3),
    "foot_slide_m_s": lambda qpos: qpos.__setitem__((slice(None), 0), qpos[:, 0] + 0.04 * np.arange(len(qpos))),
    "frozen_joints": frozen,
    "limit_worst_rad": lambda qpos: qpos.__setitem__((slice(None), KNEE), 3.5),
    "joint_jerk_p95_rad_s3": shaken,
    "self_collision_share": crossed,
}


@pytest.mark.parametrize("figure", DEFECTS)
def test_every_defect_is_refused_by_its_name(turning: Motion, figure: str) -> None:
    whole, spoiled = curate(turning), curate(changed(turning, DEFECTS[figure]))
    assert any(f"({figure} " in reason for reason in spoiled.reasons), spoiled.reasons
    assert spoiled.figures[figure] > vars(Limits())[figure] > whole.figures[figure]
    assert spoiled.score < whole.score


def test_limits_decide_and_must_be_positive(turning: Motion) -> None:
    strict = CurateConfig(limits=Limits(foot_slide_m_s=1e-6))
    assert len(curate(turning, strict).reasons) == 1
    with pytest.raises(ValueError, match="foot_slide_m_s 0"):
        Limits(foot_slide_m_s=0.0)
    with pytest.raises(ValueError, match="joint_speed -1"):
        SpikeConfig(joint_speed=-1.0)


def test_the_score_is_what_is_left_of_the_limits(turning: Motion) -> None:
    figures = dict.fromkeys(vars(Limits()), 0.0)
    assert score_of(figures, Limits()) == 1.0
    assert score_of({**figures, "foot_slide_m_s": float("nan")}, Limits()) == 1.0
    assert score_of(vars(Limits()), Limits()) == 0.0


def test_collisions_are_in_metres_and_bodies_meet_the_floor() -> None:
    stand = np.tile(standing_qpos(), (10, 1))
    assert collisions(stand, 10.0)["self_collision_share"] == 0.0
    assert collisions(stand, 10.0)["body_penetration_max_m"] == pytest.approx(0.0, abs=1e-3)
    lying = stand.copy()
    lying[:, 2], lying[:, 3:7] = -0.05, [np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0]
    assert 0.1 < collisions(lying, 10.0)["body_penetration_max_m"] < 0.3


def test_the_pool_and_the_formats_keep_all_but_their_flaws(shared: Path) -> None:
    teleport = curate(read_motion(shared / "motions" / "formats" / "pkl_gmr_29" / "0807_yanjie_walk_004.pkl"))
    assert teleport.done == ("the first 2 frames were cut off: they jump (root at up to 96 m/s)",)
    assert teleport.reasons == ()
    fast = curate(read_motion(shared / "motions" / "g1_29dof" / "g1_moves" / "J_Dance5_Hype.csv.gz"))
    assert [done.split(" at ")[0] for done in fast.done] == ["a spike"] * 3 + ["a glitch"]
    assert fast.figures["joint_speed_worst"] < 2.0
    lying = curate(read_motion(shared / "motions" / "g1_29dof" / "lafan1" / "fallAndGetUp1_subject1.csv.gz"))
    assert lying.reasons == lying.done == ()
    assert 0.02 < lying.figures["body_penetration_max_m"] < 0.2
