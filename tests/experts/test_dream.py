"""Dreamed experts: what is drawn from the memory, what is undone, and that imagination improves what it should."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.dynamics.artifact import FOLDER, load
from scaling.dynamics.model import ModelConfig, step
from scaling.dynamics.train import TrainConfig
from scaling.experts.actor import ExpertActors
from scaling.experts.bank import load_bank
from scaling.experts.checkpoint import Checkpoints
from scaling.experts.competence import CompetenceConfig
from scaling.experts.critic import CriticConfig
from scaling.experts.dream import Dreamer, normaliser_of
from scaling.experts.dream_config import DreamConfig
from scaling.experts.imagine import episodes, imagine, valued
from scaling.experts.loop import pad_clusters
from scaling.experts.memory import belongs, finite, written
from scaling.experts.mesh import DreamBank
from scaling.experts.roster import WaveConfig, open_roster
from scaling.experts.train import train_bank
from scaling.motion.synthetic import generate
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.physics import CPhysics
from scaling.tracking.randomise import Randomisation
from scaling.tracking.reference import pack
from scaling.tracking.rewards import RewardInputs, reward

CONFIG = DreamConfig(
    envs=4,
    unroll=4,
    iterations=8,
    memory=12,
    head_start=0,
    hidden=(16,),
    warm_start=0.0,
    horizon=3,
    actor_updates=2,
    actor_batch=8,
    learning_rate=1e-3,
    model=ModelConfig(width=16, depth=1, soles=False),
    model_updates=2,
    tail=CriticConfig(hidden=(8,)),
    dynamics=TrainConfig(window=2, batch=16),
    env=EnvConfig(reward="absolute", episode_seconds=4.0, start_noise=0.5),
)


def make_task():
    """Two experts with a clip each."""
    store = pack([generate("squat", 4.0, 1).qpos, generate("arm_wave", 4.0, 2).qpos])
    clips, weights = pad_clusters([np.array([0]), np.array([1])], np.asarray(store.length))
    return Task(store, clips, weights, jnp.zeros(()))


@pytest.fixture(scope="module")
def task():
    """See `make_task`."""
    return make_task()


@pytest.fixture(scope="module")
def trainer():
    """Of the tiny config."""
    return Dreamer(TrackingEnv(CPhysics(), CONFIG.env), CONFIG)


@pytest.fixture(scope="module")
def iterate(trainer):
    """The compiled iteration."""
    return jax.jit(trainer.iterate)


@pytest.fixture(scope="module")
def started(trainer, task):
    """Two fresh experts."""
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), 2))
    return jax.jit(trainer.init)(keys, task)


def one(tree, k=0):
    """An expert of a stack."""
    return jax.tree.map(lambda x: x[k], tree)


def test_stretches_of_the_memory_are_of_one_episode_and_never_cross_its_newest_step(trainer, task, iterate, started):
    state = started
    for turn in range(4):  # the ring of 12 columns is full after two more iterations and goes round
        memory = one(state.experts.memory)
        assert int(state.experts.iteration[0]) == turn
        held_steps = min(4 * (turn + 1), 12)
        newest = (4 * turn) % 12 + 3
        ages = (np.arange(12) - newest - 1) % 12  # 11 the newest
        expert = one(state.experts)
        rows, fine = trainer._stretches(jax.random.key(turn), expert, 256, 3)
        rows, weight = jax.tree.map(np.asarray, (rows, belongs(rows, fine)))
        held = np.asarray(memory.qpos[:held_steps])
        frames, clips, ends = (np.asarray(x) for x in (rows.frame, rows.clip, rows.ends))
        assert (weight[:, 0] == 1).all() and set(np.unique(weight)) <= {0.0, 1.0}
        for b in range(len(frames)):
            times = [np.argwhere((held == rows.qpos[b, j]).all(axis=-1))[0] for j in range(3)]
            assert len({e for _, e in times}) == 1
            assert np.diff(ages[[time for time, _ in times]]).tolist() == [1, 1]
            for j in (1, 2):
                assert weight[b, j] == (not ends[b, j - 1] and weight[b, j - 1])
                if weight[b, j]:
                    assert frames[b, j] == frames[b, j - 1] + 1 and clips[b, j] == clips[b, j - 1]
                    np.testing.assert_array_equal(rows.qpos[b, j], rows.next_qpos[b, j - 1])
        late, _ = trainer._stretches(jax.random.key(turn), expert, 64, 3, 4)
        found = {np.argwhere((held == qpos).all(axis=-1))[0][0] for qpos in np.asarray(late.qpos).reshape(-1, 36)}
        assert found == set(range(newest - 3, newest + 1))
        state, _ = iterate(state, task)


def test_an_iteration_changes_what_it_should(task, iterate, started):
    after, metrics = iterate(started, task)
    assert all(np.isfinite(value).all() and value.shape == (2,) for value in metrics)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.experts.actor, started.experts.actor)
    assert all(jax.tree.leaves(moved))
    judged = jax.tree.map(lambda a, b: bool((a != b).any()), after.experts.critic.params, started.experts.critic.params)
    assert all(jax.tree.leaves(judged))
    assert float(metrics.gradient_norm.min()) > 0
    gap = jax.tree.map(lambda a, b, c: (a - c) / jnp.where(b == c, 1.0, b - c), *(
        state.experts.__getattribute__(name).kernels[0] for state, name in
        ((after, "average"), (after, "actor"), (started, "actor"))
    ))  # fmt: skip
    assert 0.0 < float(jnp.median(gap)) < 0.1  # the average follows slowly
    assert int(after.experts.restored.sum()) == 0


def test_an_expert_that_is_not_finite_is_undone_alone_and_the_model_never_sees_it(task, iterate, started):
    broken = started.experts.actor._replace(
        kernels=tuple(kernel.at[1].set(jnp.nan) for kernel in started.experts.actor.kernels)
    )
    after, _ = iterate(started._replace(experts=started.experts._replace(actor=broken)), task)
    sound, _ = iterate(started, task)
    assert after.experts.restored.tolist() == [0, CONFIG.actor_updates]
    for mine, other in zip(
        jax.tree.leaves(one(after.experts.actor)), jax.tree.leaves(one(sound.experts.actor)), strict=True
    ):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(jax.tree.leaves(after.shared), jax.tree.leaves(sound.shared), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_who_has_spent_the_budget_stays_as_it_is(task, iterate, started):
    spent = started.experts._replace(iteration=jnp.array([CONFIG.iterations, 0]))
    after, _ = iterate(started._replace(experts=spent), task)
    for mine, other in zip(jax.tree.leaves(one(after.experts)), jax.tree.leaves(one(spent)), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert int(after.experts.iteration[1]) == 1


def test_imagination_is_the_model_stepped_and_judged_as_the_environment_would(trainer, task, started):
    expert, env = one(started.experts), trainer.env
    rows = jax.tree.map(lambda x: x[0], expert.memory)
    start, dream = episodes(rows), started.shared.dream
    actor = jax.tree.map(lambda x: x + 0.01, expert.actor)
    bank = trainer.kind.params(actor, normaliser_of(expert.statistics))
    how = trainer._how._replace(noise=0.0)
    alone = Task(task.store, task.clips[0], task.weights[0], task.assist)
    none = jnp.zeros(start.clip.shape, bool)

    @jax.jit
    def both(start):
        found = imagine(how, env, trainer.kind.policy, bank, dream, alone, start, (), none, jax.random.key(0))
        state, seen, gains = start, [], []
        for _ in range(how.horizon):
            obs = env.observe(state, task.store)
            action, _ = trainer.kind.policy.act(bank, (), obs, none)
            physics = step(how.model, dream, state.physics, env.targets(task.store, state, action))
            moved = state._replace(physics=physics, frame=state.frame + 1, last_action=action)
            inputs = RewardInputs(env.errors(task.store, moved), physics.qpos, action, state.last_action)
            seen, gains, state = [*seen, obs], [*gains, reward(how.reward, inputs)], moved
        return found, jnp.stack([*seen, env.observe(state, task.store)]), jnp.stack(gains)

    found, seen, gains = both(start)
    np.testing.assert_allclose(found.obs, seen, atol=1e-4)
    np.testing.assert_allclose(found.reward, gains, atol=1e-5)
    assert found.counts.all()
    late = start._replace(frame=jnp.broadcast_to(task.store.length[start.clip] - 2, start.frame.shape))
    assert both(late)[0].counts.sum(axis=0).tolist() == [1] * len(late.frame)  # the clip is over


def test_a_fresh_actor_plays_the_reference():
    actor = ExpertActors((16,)).init(jax.random.key(0))
    assert max(float(jnp.abs(actor.kernels[-1]).max()), 0.0) < 1e-2


def test_a_value_keeps_another_ones_derivative():
    value, slope = jax.value_and_grad(lambda x: valued(jnp.asarray(7.0), 3.0 * x))(2.0)
    assert (float(value), float(slope)) == (7.0, 3.0)


def test_steps_that_blew_up_end_where_they_began(started):
    rows = one(started.experts.memory)
    blown = rows._replace(next_qvel=rows.next_qvel.at[1, 2].set(jnp.inf))
    mended, fine = finite(blown)
    assert fine.sum() == fine.size - 1 and not bool(fine[1, 2])
    np.testing.assert_array_equal(mended.next_qpos[1, 2], rows.qpos[1, 2])
    np.testing.assert_array_equal(mended.next_qvel[1, 2], rows.qvel[1, 2])


def test_the_ring_is_written_in_place(started):
    rows = one(started.experts.memory)
    new = jax.tree.map(lambda x: x[:4] + 1 if x.dtype != bool else ~x[:4], rows)
    after = written(rows, new, 8)
    np.testing.assert_array_equal(after.qpos[8:], new.qpos)
    np.testing.assert_array_equal(after.qpos[:8], rows.qpos[:8])


def test_a_checkpoint_holds_all_of_a_bank_in_training(started, iterate, task, tmp_path):
    roster = open_roster(2, WaveConfig())
    state, _ = iterate(started, task)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, roster)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))  # or what is restored compiles again
    with Checkpoints(tmp_path) as checkpoints:
        found, _, turn = checkpoints.restore(started, roster)
    assert turn == 1
    found = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), found)  # not committed to a device: one program
    for mine, same in zip(jax.tree.leaves(iterate(found, task)), jax.tree.leaves(iterate(state, task)), strict=True):
        np.testing.assert_array_equal(mine, same)


@pytest.mark.slow
def test_devices_train_their_own_experts_around_the_same_model(tmp_path):
    """In a process of its own: two simulated devices; and what is then in the bank's folder."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from pathlib import Path
from tests.experts import test_dream
test_dream.train_spread(Path({str(tmp_path)!r}))
"""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=500)
    assert found.returncode == 0, found.stderr[-2000:]
    bank, card = load_bank(tmp_path)
    assert (bank.experts, card.trainer, card.assist, card.env_steps) == (2, "dream", 0, 2 * 4 * 4 * 2)
    assert [row["assist"] for row in card.competence] == [0.0, 0.0]
    assert load(tmp_path / FOLDER).config == CONFIG.model


def train_spread(work):
    """A bank on all devices, which afterwards hold the same model."""
    held = []
    leave = DreamBank.leave

    def look(self, state, work):
        held.append(state)
        leave(self, state, work)

    DreamBank.leave = look
    task = make_task()
    clusters = [np.array([0]), np.array([1])]
    config = replace(CONFIG, iterations=2)
    train_bank(jax.random.key(0), task.store, clusters, config, work, "mujoco", CompetenceConfig(2, 0.1))
    [state] = held
    for leaf in jax.tree.leaves(state.shared):
        mine, other = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        np.testing.assert_array_equal(mine, other)
    kernel = state.experts.actor.kernels[0]
    assert [shard.data.shape[0] for shard in kernel.addressable_shards] == [1, 1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"memory": 10}, "multiple of unroll"),
        ({"horizon": 64}, "not shorter than a roll-out"),
        ({"optimiser": "sgd"}, "optimiser"),
        ({"gradients": "none"}, "gradients"),
        ({"gradients": "true", "horizon": 8}, "true states at most unroll"),
        ({"average": 1.0}, "average"),
        ({"envs": 0}, "envs"),
        ({"env": EnvConfig(randomisation=Randomisation(encoder_bias=0.1))}, "only sensor noise"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        DreamConfig(**({"memory": 12, "unroll": 4, "horizon": 3, "dynamics": TrainConfig(window=2)} | change))
