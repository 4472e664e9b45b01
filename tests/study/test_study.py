"""The whole pipeline on a study small enough for a test, killed, resumed and run again; and its bad inputs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from scaling.cli.actors import find
from scaling.contract.manifest import read_manifest
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.distill.pretrain import PretrainConfig, transplanted
from scaling.distill.student import CIRCUMSTANCES, load_student
from scaling.errors import InputError
from scaling.experts.bank import BankCard, load_bank
from scaling.experts.kept import halved, save_kept
from scaling.experts.ppo import PPOConfig
from scaling.motion.corpus import Corpus, CorpusConfig, build_corpus
from scaling.motion.read import read_motion, write_npz
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import corpus_motions, generate
from scaling.record.override import override
from scaling.record.runs import read_log, read_row
from scaling.record.store import Artifact, ArtifactStore
from scaling.record.table import read_table, rows_of
from scaling.students.config import FAMILIES
from scaling.students.ladder import ladder
from scaling.study import experiments
from scaling.study.config import MotionsConfig, quickstart, with_bank
from scaling.study.corpus_stages import corpus_stage
from scaling.study.quickstart import run_study
from scaling.study.results import best_row, fit_laws
from scaling.study.stages import Teaching, teaching_stages
from scaling.study.student_stages import pretrain_stage, student_config, students_stage
from tests.study import tiny as tiny_study
from tests.study.tiny import DIRECT, FINETUNE, tiny

CORPUS = CorpusConfig(segments=SegmentConfig(4.0, 4.0, 8.0), val=0.34, test=0.16)


@pytest.mark.slow
def test_everything_a_newcomer_is_promised_is_there(finished):
    _, summary, rows = finished
    for key in ("table", "law", "report", "policy", "render", "clip"):
        assert Path(summary[key]).exists(), key
    assert read_motion(summary["clip"]).frames > 50
    assert read_manifest(Path(summary["policy"])).row["corpus_hash"] == rows[0]["corpus_hash"] != ""
    assert len(rows) == 3 * 2 + 2  # arms x seeds, and the other clustering at the full arm
    assert {row["clusters"] for row in rows} == {1, 2}
    assert all(np.isfinite(row[name]) for row in rows for name in ("val_loss", "val_loss_own", "survival_s_assist0"))
    frames = sorted({row["unique_frames"] for row in rows})
    assert len(frames) == 3
    assert summary["export_max_abs_difference"] < 1e-5
    for row in rows:
        folder = finished[0] / "runs" / f"{row['run']}-{row['config_hash']}"
        assert read_row(folder)["val_loss"] == row["val_loss"]
        kind, saved = find(folder)
        assert kind == "student" and load_student(saved).columns["val_loss"] == row["val_loss"]
        assert [line["step"] for line in read_log(folder / "log.jsonl")] == [2, 4]
    assert all(row["expert_budget"] == "per_expert" and row["expert_envs"] == 8 for row in rows)
    assert all(row["expert_env_steps"] == row["clusters"] * 8 * 4 * 2 for row in rows)
    assert all(np.isfinite(row["expert_survival_ratio_assist0"]) for row in rows)
    assert all(np.isfinite(row["val_loss_reference"]) for row in rows)
    for row in rows:  # K = 1 has no neighbours; of two experts some states may be shared, or none
        assert (row["shared_states"] is None) == (row["clusters"] == 1)
        assert (row["label_conflict"] is not None) == bool(row["shared_states"])
        for split in ("", "test_"):
            for column in ("survival_s", "survival_s_hgpt_assist0"):  # of either protocol
                gap = row[f"{split}{column}"] - row[f"{split}experts_{column}"]
                assert row[f"{split}gap_{column}"] == pytest.approx(gap)
            assert 0 <= row[f"{split}success_hgpt_low"] <= row[f"{split}success_hgpt"] <= 1
            assert np.isfinite(row[f"{split}open_loop_mpkpe_hgpt_mm"])
    beside = rows_of(read_table(finished[0] / "closed_loop.csv"))
    assert len(beside) == 2 * 2 * (2 * 2 + len(rows))  # splits and assists of two banks' experts and playback, and rows
    assert {row["who"] for row in beside if row["who"].startswith("open_loop")} == {"open_loop K=2", "open_loop K=1"}
    for bank in summary["banks"]:
        assert (Path(bank) / "pictures" / "worst" / "strip.png").is_file()
        [events] = sorted((Path(bank) / "log" / "tensorboard").iterdir())[-1:]
        assert b"worst_clip" in events.read_bytes() and b"\x89PNG" in events.read_bytes()
    page = Path(summary["report"]).read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "a command" in page


@pytest.mark.slow
def test_a_second_call_redoes_nothing_and_says_the_same(finished):
    out, summary, _ = finished
    before = Path(summary["table"]).read_bytes()
    began = time.perf_counter()
    again = run_study(tiny(reference=True), out, "a command")
    assert set(again["cached"]) == set(again["seconds"])
    assert Path(again["table"]).read_bytes() == before
    assert again["sentences"] == summary["sentences"]
    assert time.perf_counter() - began < 60


@pytest.mark.slow
def test_tuned_students_stand_beside_what_they_were(finished):
    out, summary, whole = finished
    again = run_study(tiny(finetune=FINETUNE, reference=True), out, "a command")
    assert {name for name in again["seconds"] if name not in again["cached"]} >= {
        "fine-tuning mlp 0.05M",
        "closed loop mlp 0.05M, fine-tuned, on test",
    }
    rows = rows_of(read_table(again["table"]))
    before, after = rows[: len(whole)], rows[len(whole) :]
    assert [row["val_loss"] for row in before] == [row["val_loss"] for row in whole]
    known = {row["run"]: row for row in before}
    assert [(row["arm"], row["clusters"], row["seed"]) for row in after] == [(1.0, 2, 0), (1.0, 2, 1)]
    for row in after:
        old = known[row["tuned_from"]]
        assert row.get("val_loss") is None and np.isfinite(row["tuned_val_loss"])
        assert row["tuned_val_loss"] != pytest.approx(old["val_loss"], abs=1e-9)
        assert row["env_steps"] == old["env_steps"] + 8 * 4 * 2 and row["params"] == old["params"]
        assert row["bank"] == old["bank"] and row["config_hash"] != old["config_hash"]
        assert np.isfinite(row["survival_s_assist0"]) and np.isfinite(row["test_gap_survival_s"])
        log = read_log(Path(again["table"]).parent / "runs" / f"{row['run']}-{row['config_hash']}")
        assert np.isfinite(log[-1]["reward"])
    assert again["sentences"] == summary["sentences"]  # the laws are of those who were distilled
    who = {row["who"] for row in rows_of(read_table(Path(again["table"]).with_name("closed_loop.csv")))}
    assert {after[0]["run"], after[0]["tuned_from"]} <= who


def test_tuned_rows_are_in_no_law():
    rng = np.random.default_rng(0)
    rows = [
        {
            "run": f"{arm}-{seed}", "student": "mlp", "size": "0.05M", "clusters": 4, "status": "finished",
            "unique_frames": round(arm * 30000), "hours": arm / 6, "val_loss": arm**-0.3 + 0.01 * rng.normal(),
        }
        for arm in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
        for seed in range(2)
    ]  # fmt: skip
    tuned = {name: value for name, value in rows[-1].items() if name != "val_loss"}
    tuned |= {"run": "tuned", "tuned_from": rows[-1]["run"]}
    config = replace(quickstart(), resamples=20)
    assert fit_laws([*rows, tuned], config).to_json() == fit_laws(rows, config).to_json()


def test_a_price_of_departure_is_set_by_path():
    assert quickstart().finetune.iterations == 0
    config = quickstart()
    for path, value in {"iterations": "60", "kl": "0.5", "ppo.envs": "32", "arms": "0.25,1"}.items():
        config = override(config, f"finetune.{path}", value)
    found = config.finetune
    assert (found.iterations, found.kl, found.ppo.envs, found.arms) == (60, 0.5, 32, (0.25, 1.0))
    with pytest.raises(InputError, match=r"finetune\.arms"):
        override(config, "finetune.arms", "0.3")
    with pytest.raises(InputError, match="kl -1"):
        override(config, "finetune.kl", "-1")


@pytest.mark.slow
def test_students_without_experts_stand_beside_those_with(finished):
    out, _, whole = finished
    again = run_study(tiny(direct=DIRECT, reference=True), out, "a command")
    assert {name for name in again["seconds"] if name not in again["cached"]} >= {
        "direct mlp 0.05M",
        "closed loop mlp 0.05M, direct, on val",
    }
    rows = rows_of(read_table(again["table"]))
    taught, alone = rows[: len(whole)], rows[len(whole) :]
    assert [row["val_loss"] for row in taught] == [row["val_loss"] for row in whole]
    assert [(row["trainer"], row["arm"], row["seed"]) for row in alone] == [("direct", 1.0, 0), ("direct", 1.0, 1)]
    for row in alone:
        assert row.get("val_loss") is None and row["clusters"] is None and np.isfinite(row["survival_s_assist0"])
        assert row["env_steps"] == 4 * 4 * 2 and row["params"] == whole[0]["params"]
    assert again["sentences"][1:] == finished[1]["sentences"][1:]  # the laws are of those who were taught


def test_trunks_are_kept_one_for_each_seed_and_fit_their_student(tmp_path):
    build_corpus(corpus_motions(24.0, 0, families=("squat",), take_seconds=4.0), CORPUS).save(tmp_path / "corpus")
    corpus = Artifact("corpus", tmp_path / "corpus", "any", True, 0.0)
    hours = PretrainConfig(hours=0.001, updates=2, batch=2, steps=8)
    config, store = tiny(pretrain=hours, look_ahead=(10,), auxiliary=0.5), ArtifactStore(tmp_path / "store")
    assert pretrain_stage(store, tiny(), corpus, "mlp", "0.05M") is None
    made = pretrain_stage(store, config, corpus, "mlp", "0.05M")
    trunks, student = (
        [load_student(made.path / f"seed{seed}") for seed in (0, 1)],
        student_config(config, "mlp", "0.05M"),
    )
    for trunk in trunks:
        assert trunk.config == student and trunk.columns["pretrain_hours"] == 0.001
        moved = transplanted(trunk.params, trunk, student, trunk.normaliser)
        np.testing.assert_allclose(moved["embed"]["kernel"], trunk.params["embed"]["kernel"], rtol=1e-5)
    kernels = [trunk.params["embed"]["kernel"] for trunk in trunks]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
    with pytest.raises(ValueError, match="the trunk is None"):
        students_stage(store, config, corpus, [], "mlp", "0.05M")


@pytest.mark.slow
def test_a_pretrained_student_with_a_second_head_goes_all_the_way(finished):
    out, _, whole = finished
    pretrained = PretrainConfig(hours=0.005, updates=8, batch=2, steps=8)
    again = run_study(tiny(families=("gru",), pretrain=pretrained, auxiliary=0.5, look_ahead=(10,)), out, "a command")
    assert {"corpus", "experts K=2", "validation set K=1"} <= set(again["cached"])
    assert "pretraining gru 0.05M" in again["seconds"]
    rows = rows_of(read_table(again["table"]))
    assert [(row["arm"], row["seed"], row["clusters"]) for row in rows] == [
        (row["arm"], row["seed"], row["clusters"]) for row in whole
    ]
    for row in rows:
        assert row["pretrain_hours"] == 0.005 and np.isfinite(row["val_auxiliary"]) and np.isfinite(row["val_loss"])
        parts = sum(value for name, value in row.items() if name.startswith("params_"))
        assert row["params"] == parts - row["params_auxiliary"] and row["params_auxiliary"] > 0
    assert again["export_max_abs_difference"] < 1e-5


@pytest.mark.slow
def test_a_kept_bank_takes_the_place_of_training(finished, tmp_path):
    out, summary, _ = finished
    [corpus_folder] = [path for path in (out / "store" / "corpus").iterdir() if (path / "corpus.json").exists()]
    corpus = Corpus.load(corpus_folder)
    bank, card = load_bank(Path(summary["banks"][0]))
    found = json.loads((Path(summary["banks"][0]) / "done.json").read_text())["inputs"]["clusters"]
    clusters = json.loads((out / "store" / "clusters" / found / "clusters.json").read_text())
    config = {"motions": asdict(tiny().motions), "clustering": clusters["report"]}
    save_kept(tmp_path / "kept", bank, card, np.array(clusters["labels"]), corpus, config, "a command")
    study = with_bank(tiny(assist=0.1), str(tmp_path / "kept"))
    assert study.clusters == (2,) and study.assist == card.assist == 0.1
    store = ArtifactStore(tmp_path / "store")
    teaching = teaching_stages(store, study, corpus_stage(store, study), 2)
    found, said = load_bank(teaching.bank.path)
    for mine, same in zip(found.kernels, halved(bank).kernels, strict=True):
        np.testing.assert_array_equal(mine, same)
    assert said == card and (teaching.bank.path / "pictures" / "best" / "strip.png").is_file()
    assert teaching.teacher().labels.tolist() == clusters["labels"]
    other = replace(study, motions=replace(study.motions, seed=5))
    with pytest.raises(InputError, match="other motions than these"):
        teaching_stages(store, other, corpus_stage(store, other), 2)
    with pytest.raises(InputError, match="no kept bank here"):
        quickstart(bank=str(tmp_path))


@pytest.mark.slow
def test_killed_in_the_middle_it_resumes_to_the_same_table(finished, tmp_path):
    _, _, whole = finished
    command = [sys.executable, tiny_study.__file__, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for marker in ("store/bank/*/done.json", "store/valset/*/done.json"):
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env)
        while child.poll() is None and not list(tmp_path.glob(marker)):
            time.sleep(0.2)
        time.sleep(1.0)
        child.send_signal(signal.SIGKILL)
        child.wait()
    resumed = run_study(tiny(), tmp_path, "a command")
    mine = rows_of(read_table(resumed["table"]))
    other = (*CIRCUMSTANCES, "val_loss_reference")  # measured times; and this study has no reference
    for row, same in zip(mine, whole, strict=True):
        assert {k: v for k, v in row.items() if k not in other} == {k: v for k, v in same.items() if k not in other}


def test_no_recording_left_for_a_split_is_one_sentence(tmp_path):
    write_npz(generate("squat", 10.0, 0), tmp_path / "only.npz")
    with pytest.raises(InputError, match="at least three recordings"):
        run_study(tiny(motions=MotionsConfig(path=str(tmp_path))), tmp_path / "out")


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        run_study(tiny(motions=MotionsConfig(path=str(tmp_path / "nowhere"))), tmp_path / "out")


def test_a_total_budget_of_experts_shares_out_the_environments():
    config = tiny(expert_budget="total", clusters=(2, 1))
    assert [config.experts_for(k).envs for k in (2, 1)] == [8, 16]
    assert tiny().experts_for(1).envs == 8
    with pytest.raises(ValueError, match="16 environments do not divide among 3 experts"):
        tiny(expert_budget="total", clusters=(2, 3))


def teaching_of(folder, *held):
    """Two clusters of two segments each, whose experts reach the target or do not."""
    (folder / "clusters.json").write_text(json.dumps({"labels": [0, 0, 1, 1], "report": {"clusters": 2}}))
    competence = [
        {"cluster": k, "assist": assist, "competent": one and not assist}
        for assist in (0.1, 0.0)
        for k, one in enumerate(held)
    ]
    card = BankCard("ppo", "mujoco", 0.1, 2, 0, {}, competence)
    (folder / "card.json").write_text(json.dumps(asdict(card)))
    artifact = Artifact("any", folder, "hash", True, 0.0)
    return Teaching(2, artifact, artifact, artifact, artifact)


def test_students_may_do_without_experts_below_target(tmp_path):
    segments = np.array([0, 2, 3])
    teaching = teaching_of(tmp_path, False, True)
    assert teaching.taught(segments, "all").tolist() == [0, 2, 3]
    assert teaching.taught(segments, "competent").tolist() == [2, 3]
    with pytest.raises(InputError, match="nobody to learn from"):
        teaching_of(tmp_path, False, False).taught(segments, "competent")


def test_one_assist_is_in_force_everywhere():
    with pytest.raises(ValueError, match=r"assist \[0.1, 0.5\]"):
        tiny(assist=0.5)
    config = override(tiny(), "assist", "0.5")
    assert config.experts.assist == config.dagger.assist == config.val.assist == 0.5


def test_a_recipe_of_experts_brings_its_harness():
    assert quickstart().assist == quickstart().experts.assist == 0.0
    config = override(quickstart(), "experts", "ppo")
    assert isinstance(config.experts, PPOConfig)
    assert config.assist == config.experts.assist == config.val.assist == config.dagger.assist == 0.1
    assert override(config, "experts", "dream") == quickstart()
    assert config == quickstart(experts="ppo")
    with pytest.raises(InputError, match=r"experts=pop: .*one of \['dream', 'ppo'\]"):
        override(config, "experts", "pop")
    with pytest.raises(InputError, match="set experts=ppo first"):
        override(quickstart(), "assist", "0.1")


def test_a_study_says_what_its_students_are():
    config = tiny(families=FAMILIES, sizes=("0.05M", "0.2M"))
    for family in FAMILIES:
        plain = student_config(config, family, "0.2M")
        assert plain == ladder(family, "0.2M", observation_dim(STUDENT_TERMS))
    changed = config
    for path, value in {"look_ahead": "10", "auxiliary": "0.5", "dtype": "bfloat16", "remat": "true"}.items():
        changed = override(changed, path, value)
    found = student_config(changed, "gru", "0.2M")
    assert (found.look_ahead, found.auxiliary, found.dtype, found.remat) == ((10,), 0.5, "bfloat16", True)
    assert override(config, "look_ahead", "").look_ahead == ()
    assert override(config, "pretrain.hours", "0.5").pretrain == PretrainConfig(hours=0.5)
    with pytest.raises(InputError, match="look_ahead is"):
        override(config, "look_ahead", "7")
    for path, value in (("dtype", "float16"), ("auxiliary", "-1"), ("pretrain.hours", "-1")):
        with pytest.raises(InputError, match=f"{path.split('.')[-1]}={value}"):
            override(config, path, value)


def test_overrides_by_dotted_path_and_their_typos():
    assert override(tiny(), "dagger.updates", "7").dagger.updates == 7
    assert override(tiny(), "experts.hidden", "8,4").experts.hidden == (8, 4)
    with pytest.raises(InputError, match="did you mean updates"):
        override(tiny(), "dagger.update", 7)
    with pytest.raises(InputError, match="not of the kind"):
        override(tiny(), "dagger.updates", "many")


@pytest.mark.parametrize("where", ["closed_loop", "competence"])
def test_a_protocol_that_nobody_knows_is_refused_before_anything_is_trained(where):
    with pytest.raises(InputError, match=r"protocol 'mine'.*humanoid-gpt"):
        override(quickstart(), f"{where}.protocol", "mine")


def test_an_unknown_experiment_is_answered_with_the_nearest_names():
    with pytest.raises(InputError, match=r"mlp-0\.05M"):
        experiments.run_experiment("mpl-0.05M")
    assert all(experiments.experiment(name).families for name in experiments.names())


def test_noise_is_not_dressed_up_as_a_law():
    rng = np.random.default_rng(0)
    rows = [
        {
            "run": f"{arm}-{seed}", "student": "mlp", "size": "0.05M", "clusters": 4, "status": "finished",
            "unique_frames": round(arm * 30000), "hours": arm * 30000 / 180000, "val_loss": 0.2 + 0.02 * rng.normal(),
        }
        for arm in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
        for seed in range(2)
    ]  # fmt: skip
    result = fit_laws(rows, quickstart())
    assert not result.supported and not result.validated
    assert "None of 1 students supports a law" in result.sentences[0]


def test_the_best_student_is_chosen_on_val_at_assist_zero():
    base = {"status": "finished", "val_loss": 0.1, "success_sonic": 1.0, "survival_s": 3.0}
    rows = [
        base | {"run": "held up", "success_sonic_assist0": 0.0, "survival_s_assist0": 1.0},
        base | {"run": "stands", "success_sonic": 0.5, "success_sonic_assist0": 0.1, "survival_s_assist0": 0.9},
        base | {"run": "broken", "status": "diverged", "success_sonic_assist0": 1.0, "survival_s_assist0": 9.0},
    ]
    assert best_row(rows, "sonic")["run"] == "stands"


def test_the_table_of_a_study_is_json_all_the_way():
    result = fit_laws([], quickstart())
    assert json.loads(json.dumps(result.to_json()))["sentences"] == ["No run finished: there is nothing to fit."]


@pytest.mark.slow
def test_a_changed_figure_redoes_what_depends_on_it_alone(finished):
    out, _, _ = finished
    changed = tiny(dagger=replace(tiny().dagger, updates=6))
    again = run_study(changed, out, "a command")
    kept = set(again["cached"])
    assert {"corpus", "experts K=2", "experts K=1", "validation set K=2"} <= kept
    assert not any(name.startswith("students") for name in kept)
