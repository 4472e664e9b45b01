"""Training a bank: waves, meshes, processes, kills, and what is refused before anything compiles."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.experts.bank import BankCard, competent
from scaling.experts.dream_config import DreamConfig
from scaling.experts.ppo import PPOConfig
from scaling.experts.roster import EMPTY, Roster, WaveConfig, exchange, open_roster
from scaling.experts.train import check_clips, train_bank
from scaling.record.runs import read_log
from scaling.tracking.reference import make_store
from tests.experts import spread

SCRIPT = Path(spread.__file__)


def start(work, devices=1, kill=0, ranks=()):
    """The training in processes of their own."""
    root = str(SCRIPT.parents[2])
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), str(work), str(kill)]
    return [
        subprocess.Popen([*command, *map(str, rank)], env=env, stderr=subprocess.PIPE, text=True)
        for rank in (ranks or [()])
    ]


def finish(processes):
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-2000:]


def left(work):
    """Every expert's actor as one list of arrays."""
    arrays = []
    for path in sorted((work / "left").glob("*.npz")):
        with np.load(path) as held:
            arrays += [held[name] for name in held.files]
    return arrays


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Four experts at once on one device."""
    work = tmp_path_factory.mktemp("alone")
    spread.train(work)
    return left(work)


def check_same(work, alone):
    """The experts in `work` are those, but for the order of sums."""
    together = left(work)
    assert len(together) == len(alone) > 0
    for mine, same in zip(together, alone, strict=True):
        assert mine == pytest.approx(same, abs=1e-5)


@pytest.mark.slow
def test_spread_over_simulated_devices_it_is_the_same_training(alone, tmp_path):
    """One expert a device; two a device are those of two processes."""
    finish(start(tmp_path, devices=4))
    check_same(tmp_path, alone)


@pytest.mark.slow
def test_spread_over_two_processes_it_is_the_same_training(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    finish(start(tmp_path, ranks=[(rank, 2, port) for rank in range(2)]))
    check_same(tmp_path, alone)
    assert (tmp_path / "card.json").is_file()


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """The folder and the card of a training in waves of two, never stopped."""
    work = tmp_path_factory.mktemp("waves")
    return work, spread.train(work, spread.WAVES)[1]


@pytest.mark.slow
def test_in_waves_each_expert_trains_as_it_does_in_company(alone, waves):
    work, card = waves
    check_same(work, alone)
    assert [one["left_at"] for one in card.training] == [3, 3, 6, 6]
    assert card.env_steps == 4 * 3 * 16


@pytest.mark.slow
def test_killed_and_resumed_equals_straight_through(waves, tmp_path):
    """kill -9 in the second wave; the log and the bank are those of a training that was never stopped."""
    [process] = start(tmp_path, kill=5)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, errors[-2000:]
    assert not (tmp_path / "card.json").exists()
    assert [line["step"] for line in read_log(tmp_path / "log" / "log.jsonl")] == [1, 2, 3, 4, 5]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]
    spread.train(tmp_path, spread.WAVES)
    straight, _ = waves
    assert len(left(straight)) == len(left(tmp_path)) > 0
    for mine, same in zip(left(tmp_path), left(straight), strict=True):
        assert (mine == same).all()
    logs = [read_log(work / "log" / "log.jsonl") for work in (tmp_path, straight)]
    for mine, same in zip(*logs, strict=True):
        assert {**mine, "steps_per_s": 0, "time": 0} == {**same, "steps_per_s": 0, "time": 0}


def test_a_roll_out_longer_than_any_clip_is_refused(tmp_path):
    store, clusters = spread.clips()
    with pytest.raises(InputError, match="horizon 300 is longer than any clip of cluster 0"):
        train_bank(jax.random.key(0), store, clusters, DreamConfig(horizon=300, memory=320), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_roster_fills_the_places_of_those_who_leave_in_order():
    roster = open_roster(5, WaveConfig(slots=2))
    assert roster.slots.tolist() == [0, 1]
    roster, fresh = exchange(roster, np.array([False, True]))
    assert (roster.slots.tolist(), fresh.tolist()) == ([0, 2], [False, True])
    roster, fresh = exchange(roster, np.array([True, True]))
    assert (roster.slots.tolist(), fresh.tolist()) == ([3, 4], [True, True])
    roster, fresh = exchange(roster, np.array([True, False]))
    assert (roster.slots.tolist(), fresh.any()) == ([EMPTY, 4], False)
    roster, _ = exchange(roster, np.array([True, True]))
    assert not roster.busy.any()
    assert roster.left.all()


def test_slots_fill_up_the_mesh():
    assert open_roster(5, WaveConfig(), devices=4).slots.tolist() == [0, 1, 2, 3, 4, EMPTY, EMPTY, EMPTY]
    assert open_roster(5, WaveConfig(slots=3), devices=2).slots.tolist() == [0, 1, 2, 3]
    assert Roster(np.array([2, EMPTY]), np.zeros(3, bool)).experts.tolist() == [2, 0]


def test_the_curriculum_is_a_schedule_in_steps():
    config = PPOConfig(envs=4, unroll=5, minibatches=2, assist=0.0, curriculum=((40, 0.5), (60, 0.2)))
    assert [round(float(config.assist_at(i)), 6) for i in range(5)] == [0.5, 0.5, 0.2, 0.0, 0.0]
    with pytest.raises(ValueError, match="rising"):
        PPOConfig(curriculum=((40, 0.5), (40, 0.2)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        PPOConfig(curriculum=((40, 1.5),))


def rows(*ratios):
    return [{"cluster": k, "assist": 0.0, "competent": ratio >= 1.3} for k, ratio in enumerate(ratios)]


def test_competent_experts_are_those_that_reach_the_target():
    assert competent(BankCard("ppo", "mujoco", 0.0, 3, 0, {}, rows(1.4, 1.0, 2.0))).tolist() == [True, False, True]


def clip(frames=50, height=0.8):
    qpos = np.zeros((frames, 36), np.float32)
    qpos[:, 2], qpos[:, 3] = height, 1.0
    return qpos


@pytest.mark.parametrize(
    ("qpos", "words"),
    [
        (np.where(np.arange(36) == 9, np.nan, clip()), "clip 0 holds values that are not finite"),
        (clip(height=-0.2), r"clip 0 has its feet \d\.\d\d m under the floor"),
    ],
)
def test_clips_that_cannot_be_trained_on_are_refused(qpos, words):
    store = make_store(np.nan_to_num(qpos), np.array([0]), np.array([50]))._replace(qpos=jnp.asarray(qpos))
    with pytest.raises(InputError, match=words):
        check_clips(store, [np.array([0])])


def test_a_checkpoint_of_another_configuration_is_refused_before_anything_compiles(tmp_path, monkeypatch):
    class Compiled(Exception):
        pass

    def stop(*_, **__):
        raise Compiled

    monkeypatch.setattr("scaling.experts.train.Program", stop)
    store, clusters = spread.clips()
    with pytest.raises(Compiled):
        train_bank(jax.random.key(0), store, clusters, spread.CONFIG, tmp_path)
    with pytest.raises(Compiled):
        train_bank(jax.random.key(0), store, clusters, spread.CONFIG, tmp_path)
    with pytest.raises(InputError, match="of another configuration"):
        train_bank(jax.random.key(0), store, clusters, replace(spread.CONFIG, gamma=0.9), tmp_path)
