"""`scaling eval`: a policy, the student it came from, and a bank, on one short clip beside open-loop playback."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.cli import main
from scaling.cli.actors import find
from scaling.cli.clips import load_clips
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.dynamics.artifact import FOLDER, save
from scaling.dynamics.model import ModelConfig, init, measure_scales
from scaling.errors import InputError
from scaling.experts.bank import Bank, BankCard, save_bank
from scaling.motion.native import write_npz
from scaling.motion.read import read_motion
from scaling.robot.model import STANDARD
from scaling.tracking.physics import PhysicsState

KEYS = {"protocol", "physics", "assist", "clips", "metrics", "baselines"}


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory):
    """`evaluate(actor, clip, flags)`: the JSON of `scaling eval` over .4 s; each is played once for all tests."""
    played = {}

    def run(*arguments):
        if arguments not in played:
            path = tmp_path_factory.mktemp("eval") / "out.json"
            actor, clip, *more = map(str, arguments)
            assert main(["eval", actor, "--clips", clip, "--seconds", "0.4", *more, "--json", str(path)]) == 0
            played[arguments] = json.loads(path.read_text())
        return played[arguments]

    return run


SONIC = ("--protocol", "sonic")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Two experts: one that does nothing, one that flails."""
    width = observation_dim(EXPERT_TERMS)
    kernel = jnp.stack([jnp.zeros((width, 29)), 0.5 * jax.random.normal(jax.random.key(0), (width, 29))])
    normaliser = Normaliser(jnp.zeros((2, width)), jnp.ones((2, width)))
    folder = tmp_path_factory.mktemp("bank") / "experts"
    folder.mkdir()
    save_bank(folder, Bank((kernel,), (jnp.zeros((2, 29)),), normaliser), BankCard("ppo", "mujoco", 0.0, 2, 0, {}, []))
    return folder


@pytest.mark.slow
def test_the_exported_program_scores_as_its_student_does(evaluate, policy_folder, student_folder, standing):
    policy = evaluate(policy_folder, standing, *SONIC)
    student = evaluate(student_folder, standing, *SONIC, "--assist", "1")["at_assist_0"]
    assert policy.keys() >= KEYS
    assert (policy["protocol"], policy["physics"], policy["assist"]) == ("sonic", "mujoco", 0.0)
    assert [clip["clip"] for clip in policy["clips"]] == ["standing"]
    assert policy["actor"]["kind"] == "policy"
    figures = policy["clips"][0]
    assert figures["seconds"] == pytest.approx(0.4)
    assert figures["survival_s"] == pytest.approx(0.4)
    assert policy["metrics"]["success_sonic"] == 1.0
    low, high = policy["metrics"]["success_sonic_interval"]
    assert 0.0 < low < high == 1.0, "one clip is weak evidence, and the interval says so"
    assert policy["metrics"]["mpjpe_l_mm_interval"] == [None, None]
    for name in ("mpjpe_l_mm", "mpjpe_rad", "root_vel_err"):
        assert figures[name] == pytest.approx(student["clips"][0][name], rel=1e-3)
        assert figures[name] != policy["baselines"]["open_loop"]["clips"][0][name], "the student does act"
    assert policy["families"]["still"]["success_sonic"] == 1.0


def test_what_is_measured_with_the_harness_stands_beside_what_is_without(evaluate, student_folder, standing):
    report = evaluate(student_folder, standing, *SONIC, "--assist", "1")
    assert report["actor"]["kind"] == "student"
    assert report["assist"] == 1.0
    assert report["at_assist_0"]["assist"] == 0.0
    assert report["at_assist_0"].keys() >= {"metrics", "baselines", "clips"}
    assert report["metrics"]["root_vel_err"] < report["at_assist_0"]["metrics"]["root_vel_err"]


def test_an_expert_of_a_bank_by_its_number_and_the_other_protocol(call, refused, bank, standing):
    flags = ("--clips", standing, "--protocol", "humanoid-gpt", "--seconds", "0.4")
    called = call("eval", bank, *flags, "--expert", "0")
    assert called.code == 0, called.err
    assert "success_hgpt" in called.out
    errors = [line.split()[-3] for line in called.out.splitlines() if "mpjpe_rad" in line]
    assert len(errors) == 2
    assert errors[0] == errors[1], "an expert that does nothing is open-loop playback"
    for more in ((), ("--expert", "2")):
        assert "--expert 0 to 1" in refused("eval", bank, *flags, *more)


@pytest.mark.slow
def test_in_a_learned_simulator_and_where_it_departs(call, bank, standing):
    """One in which nothing ever moves: the robot stands where MuJoCo's does not quite."""
    quiet = ModelConfig(width=8, depth=1, soles=False)
    still = [np.zeros((2, *shape), np.float32) for shape in ((36,), (35,), (29,))]
    state = PhysicsState(still[0] + np.eye(36, dtype=np.float32)[3], still[1])
    dream = init(quiet, jax.random.key(0), measure_scales(quiet, state, still[2], state))
    save(bank / FOLDER, quiet, dream, STANDARD)
    flags = ("--clips", standing, "--protocol", "sonic", "--expert", "0", "--seconds", "0.4", "--physics", "dream")
    report = call("eval", bank, *flags, "--json", "-").json
    assert report["physics"] == "dream" and report["simulator"] == str(bank / FOLDER)
    assert report["metrics"]["survival_s"] == pytest.approx(0.4)
    dreamed, true = (one["clips"][0]["mpjpe_rad"] for one in (report, report["mujoco"]))
    assert dreamed < 1e-3 < true, "soft servos sag"
    said = call("eval", bank, *flags).out
    assert "where it departs from C MuJoCo" in said


@pytest.mark.slow
def test_random_starts_and_perturbations_beside_open_loop(call, bank, clips):
    flags = ("--clips", clips, "--protocol", "sonic", "--starts", "6", "--seconds", "0.4", "--assist", "0.5")
    called = call("eval", bank, *flags, "--expert", "0", "--perturb", "mass", "--json", "-")
    assert called.code == 0, called.err
    report = called.json
    assert (report["starts"], report["seed"], report["max_seconds"]) == (6, 0, 0.4)
    assert [one["episodes"] for one in report["clips"]] == [2, 2, 2]
    assert report["metrics"]["episodes"] == sum(family["episodes"] for family in report["families"].values()) == 6
    levels = [("nominal", None), ("mass", 0.8), ("mass", 1.2)]
    for measured in (report, report["at_assist_0"]):
        found = measured["perturbations"]
        assert [(one["name"], one["level"]) for one in found] == levels
        assert {name: found[0][name] for name in measured["metrics"]} == measured["metrics"]
        for one in found:
            low, high = one["success_sonic_interval"]
            assert 0.0 <= low <= one["success_sonic"] <= high <= 1.0
            low, high = one["survival_s_interval"]
            assert low <= one["survival_s"] <= high
            for name, value in one["open_loop"].items():  # the idle expert is open loop, by another program
                assert one[name] == pytest.approx(value, rel=1e-4), name
        nominal, *_, heavy = found
        assert heavy["mpjpe_rad"] != nominal["mpjpe_rad"]
    assert "perturbations" not in report["metrics"]
    assert "left" in called.err or "done in" in called.err


def test_clips_are_one_split_of_a_corpus(call, clips, tmp_path):
    call("motions", "import", clips, "--out", tmp_path / "corpus")
    found = load_clips(str(tmp_path / "corpus"), "val", 32)
    assert len(found.names) == 1
    assert [len(qpos) for qpos in found.qpos] == [200]
    with pytest.raises(InputError, match="split 'nosuch'"):
        load_clips(str(tmp_path / "corpus"), "nosuch", 32)


def test_of_many_clips_the_short_ones_are_left_out_by_name(standing, tmp_path):
    motion = read_motion(standing)
    write_npz(motion, tmp_path / "standing.npz")
    write_npz(replace(motion, qpos=motion.qpos[:20], name="brief"), tmp_path / "brief.npz")
    found = load_clips(str(tmp_path), "test", 32)
    assert list(found.names) == ["standing"]
    assert "20 frames" in found.refused["brief"]


@pytest.mark.slow
def test_mjx_agrees_with_c_mujoco_over_a_short_while(evaluate, policy_folder, standing):
    c, mjx = (evaluate(policy_folder, standing, *SONIC, *more) for more in ((), ("--physics", "mjx")))
    assert mjx["physics"] == "mjx"
    assert mjx["metrics"]["mpjpe_rad"] == pytest.approx(c["metrics"]["mpjpe_rad"], rel=0.05)


def test_a_record_leads_to_what_it_names(policy_folder, student_folder, tmp_path):
    for name, key, folder in (("summary.json", "policy", policy_folder), ("row.json", "folder", student_folder)):
        (tmp_path / key).mkdir()
        (tmp_path / key / name).write_text(json.dumps({key: str(folder)}))
        assert find(tmp_path / key)[1] == folder


def test_what_cannot_be_played(refused, student_folder, standing, tmp_path):
    flags = ("--clips", standing, "--protocol", "sonic")
    assert "--simulator BANK/simulator" in refused("eval", student_folder, *flags, "--physics", "dream")
    assert "neither harness" in refused("eval", student_folder, *flags, "--physics", "dream", "--assist", "0.1")
    assert "--physics dream" in refused("eval", student_folder, *flags, "--simulator", tmp_path)
    nowhere = ("--physics", "dream", "--simulator", tmp_path / "nowhere")
    assert "nowhere" in refused("eval", student_folder, *flags, *nowhere)
    assert "assist" in refused("eval", student_folder, *flags, "--assist", "2")
    assert "--expert" in refused("eval", student_folder, *flags, "--expert", "0")
    assert str(tmp_path) in refused("eval", tmp_path, *flags)
    (tmp_path / "summary.json").write_text(json.dumps({"policy": str(tmp_path / "gone")}))
    assert "gone" in refused("eval", tmp_path, *flags)


def test_flags_that_say_nothing_are_refused(refused, student_folder, standing):
    flags = ("--clips", standing, "--protocol", "sonic")
    sentence = refused("eval", student_folder, *flags, "--perturb", "push,frcition")
    assert "'frcition'" in sentence and "did you mean 'friction'" in sentence
    assert "--starts is 0" in refused("eval", student_folder, *flags, "--starts", "0")
    assert "--seconds is nan" in refused("eval", student_folder, *flags, "--seconds", "nan")
    assert "--seed is -1" in refused("eval", student_folder, *flags, "--seed", "-1")


def test_clips_that_nobody_can_track_are_refused(refused, student_folder, clips, standing, tmp_path):
    rows = read_motion(clips / "turn.npz").qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]]  # xyzw, as in the wild
    sunk, broken = rows.copy(), rows.copy()
    sunk[:, 2] -= 1.0
    broken[7, 9] = np.nan
    told = {"sunk": "feet are up to 1.0", "broken": "NaN", "single": "1 frame"}
    for name, frames in (("sunk", sunk), ("broken", broken), ("single", rows[:1])):
        path = tmp_path / f"{name}_50hz.csv"
        np.savetxt(path, frames, delimiter=",")
        sentence = refused("eval", student_folder, "--clips", path, "--protocol", "sonic")
        assert name in sentence and told[name] in sentence
    write_npz(read_motion(standing), tmp_path / "standing.npz")
    found = load_clips(str(tmp_path), "test", 32)
    assert list(found.names) == ["standing"]
    assert len(found.refused) == 3
