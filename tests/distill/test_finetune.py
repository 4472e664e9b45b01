"""Fine-tuning by PPO: what the loss sees is what was done, the price of departure holds, and a killed one goes on."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.cli import process
from scaling.contract.normaliser import Normaliser
from scaling.distill.finetune import FinetuneConfig, Tuner, TuningProgram, divergence, finetune
from scaling.distill.group import RunSpec
from scaling.distill.student import Student, policy, policy_params
from scaling.errors import InputError
from scaling.experts.loop import pad_clusters
from scaling.experts.loss import Weights
from scaling.experts.ppo import PPOConfig
from scaling.record.stopping import Stopped
from scaling.students import model
from scaling.students.config import StudentConfig
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.reference import make_store
from tests.distill.samples import SEEN

TRANSFORMER = StudentConfig("transformer", SEEN, 8, 1, heads=2, feed_forward=8, context=4)
MLP = StudentConfig("mlp", SEEN, width=8, depth=2, history=2)
PPO = PPOConfig(
    envs=16,
    unroll=12,
    minibatches=2,
    epochs=2,
    value_hidden=(16,),
    learning_rate=1e-3,
    critic_warmup=0,
    noise_std=0.3,
    env=EnvConfig(episode_seconds=0.6, start_noise=0.5),
)
CONFIG = FinetuneConfig(iterations=4, kl=0.0, ppo=PPO)


def distilled(config, seed):
    """A student of some opinion, its inputs scaled in some way."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(np.asarray, model.init(config, jax.random.key(seed)))
    head = {**params["head"], "kernel": 30 * params["head"]["kernel"]}
    normaliser = Normaliser(
        0.1 * rng.normal(size=SEEN).astype(np.float32), rng.uniform(0.5, 2.0, SEEN).astype(np.float32)
    )
    scale = rng.uniform(0.5, 1.5, 29).astype(np.float32)
    columns = {"val_loss": 0.1, "val_loss_squat": 0.1, "env_steps": 10, "seconds": 1.0, "status": "finished"}
    return Student(config, {**params, "head": head}, normaliser, scale, columns)


def actions(student, obs):
    """What it would do on a sequence, seen one frame after the other."""
    play, params = policy(student.config), policy_params(student)
    memory, found = play.init(obs.shape[0]), []
    for time in range(obs.shape[1]):
        action, memory = play.act(params, memory, obs[:, time], jnp.full(obs.shape[:1], time == 0))
        found.append(np.asarray(action))
    return np.stack(found, axis=1)


@pytest.fixture(scope="module")
def task(corpus):
    store, train = make_store(corpus.qpos, corpus.start, corpus.length), corpus.indices("train")
    return Task(store, *pad_clusters([train[:1], train], corpus.length), jnp.zeros(()))


@pytest.mark.parametrize("config", [MLP, TRANSFORMER], ids=["mlp", "transformer"])
def test_the_loss_sees_the_actions_that_were_taken(config, task, physics):
    """Episodes end within the unroll; at the first update nothing has moved: ratio 1, no divergence of either kind."""
    students = [distilled(config, seed) for seed in (0, 1)]
    training = CONFIG.training(0.0)
    env = TrackingEnv(physics, training.env)
    program = TuningProgram(env, training, 0.5, students, [3, 4])
    state = program.init(np.zeros((2, 2), np.uint32), task)
    tuner = Tuner(env, training, config, 0.5)
    first = jax.tree.map(lambda x: x[1], state)
    mine = task._replace(clips=task.clips[1], weights=task.weights[1])
    _, rollout, std, _ = jax.jit(tuner._collect)(jax.random.key(0), first, mine)
    assert np.asarray(rollout.failed | rollout.truncated)[:, :-1].any()
    read = tuner._read(first, rollout)
    assert np.asarray(read.obs.first)[:, 1:].any() and np.asarray(read.obs.first)[:, 0].all()
    mean = model.forward(config, students[1].params, read.obs.own, read.obs.first)
    np.testing.assert_allclose(mean, rollout.mean, atol=1e-5)
    np.testing.assert_allclose(read.obs.anchor, rollout.mean, atol=1e-5)
    weights = Weights(0.97, 0.9, 0.2, 0.0)
    (_, parts), grads = jax.value_and_grad(tuner._loss, has_aux=True)(first.params, read, std, weights)
    assert abs(float(parts.kl)) < 1e-5 and abs(float(parts.departure)) < 1e-5
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert float(jnp.abs(leaf).max()) > 0, jax.tree_util.keystr(path)


def test_the_divergence_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    mean, other = rng.normal(size=(2, 5, 29))
    std = rng.uniform(0.1, 0.4, 29)
    draw = mean + std * rng.normal(size=(20_000, 5, 29))
    ratio = -0.5 * ((draw - mean) / std) ** 2 - np.log(std) + 0.5 * ((draw - other) / 0.3) ** 2 + np.log(0.3)
    found = divergence(jnp.asarray(mean), jnp.asarray(std), jnp.asarray(other), 0.3)
    assert float(found) == pytest.approx(ratio.sum(axis=-1).mean(), rel=0.01)
    assert float(divergence(jnp.asarray(mean), jnp.full(29, 0.3), jnp.asarray(mean), 0.3)) == pytest.approx(0, abs=1e-5)


def runs_of(corpus):
    train = corpus.indices("train")
    return [RunSpec("small-tuned", train[:1], 5), RunSpec("whole-tuned", train, 6)]


@pytest.mark.slow
def test_it_earns_more_and_a_high_price_keeps_it_where_it_was(corpus, physics, tmp_path):
    """The students lean to one side, which is what there is to be earned."""
    students = []
    for seed in (0, 1):
        one = distilled(MLP, seed)
        head = {**one.params["head"], "bias": one.params["head"]["bias"] + 1.5}
        students.append(dataclasses.replace(one, params={**one.params, "head": head}))
    obs = jax.random.normal(jax.random.key(2), (4, 6, SEEN))
    ppo = dataclasses.replace(PPO, envs=64, minibatches=4, epochs=4, kl_target=0.05, value_learning_rate=3e-3)
    moved, gained = {}, {}
    for price in (0.0, 1e4):
        config = FinetuneConfig(iterations=40, kl=price, ppo=ppo)
        tuned = finetune(students, runs_of(corpus), corpus, physics, config, tmp_path / f"{price:g}")
        moved[price] = [np.abs(actions(a, obs) - actions(b, obs)).mean() for a, b in zip(tuned, students, strict=True)]
        gained[price] = [one.curve[-1]["reward"] - one.curve[0]["reward"] for one in tuned]
    assert min(gained[0.0]) > 0.02 > 2 * max(gained[1e4])
    assert max(moved[1e4]) < 0.1 < 0.2 < min(moved[0.0])


@pytest.mark.slow
def test_a_stopped_tuning_goes_on_to_the_same_students(corpus, physics, tmp_path, monkeypatch):
    students, runs = [distilled(TRANSFORMER, seed) for seed in (0, 1)], runs_of(corpus)
    config = dataclasses.replace(CONFIG, iterations=7)
    straight = finetune(students, runs, corpus, physics, config, tmp_path / "straight")
    advance, calls = TuningProgram.advance, []

    def signalled(self, *arguments):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, *arguments)

    monkeypatch.setattr(TuningProgram, "advance", signalled)
    with process.watch("save"), pytest.raises(Stopped):
        finetune(students, runs, corpus, physics, config, tmp_path / "work")
    assert len(calls) == 1
    for found, wanted, before in zip(
        finetune(students, runs, corpus, physics, config, tmp_path / "work"), straight, students, strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, found.params, wanted.params)
        assert found.curve and found.curve[-1]["reward"] == wanted.curve[-1]["reward"]
        assert np.abs(found.params["head"]["kernel"] - before.params["head"]["kernel"]).max() > 1e-5
        np.testing.assert_array_equal(found.normaliser.mean, before.normaliser.mean)
        assert found.columns["tuned_env_steps"] == 7 * 16 * 12 and found.columns["env_steps"] == 10 + 7 * 16 * 12
        assert not any(name.startswith("val_") for name in found.columns)
    assert len(calls) == 2  # of five iterations and of two


def test_by_default_a_student_can_go_further_than_it_errs():
    """A distilled student is some .7 of its action scale off its expert (SmoothL1 of .25), and no way is straight."""
    assert FinetuneConfig().reach(60) > 2 * 0.7
    ppo = dataclasses.replace(FinetuneConfig().ppo, noise_std=0.1, kl_target=0.01, critic_warmup=5)
    assert FinetuneConfig(ppo=ppo).reach(60) == pytest.approx(55 * 0.1 * (0.02 / 29) ** 0.5)
    assert FinetuneConfig(ppo=ppo).reach(3) == 0.0


def test_what_cannot_be_tuned_is_refused(corpus, physics, tmp_path):
    students, runs = [distilled(MLP, 0)], runs_of(corpus)[:1]
    with pytest.raises(InputError, match="iterations is 0"):
        finetune(students, runs, corpus, physics, FinetuneConfig(), tmp_path)
    for change, words in (
        ({"iterations": -1}, "iterations -1"),
        ({"kl": -0.5}, "kl -0.5"),
        ({"kl": float("nan")}, "kl nan"),
        ({"arms": ()}, "arms"),
        ({"ppo": dataclasses.replace(PPO, assist=0.5)}, "the study's assist"),
    ):
        with pytest.raises(ValueError, match=words):
            FinetuneConfig(**change)
