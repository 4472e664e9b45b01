"""Who labels, who acts, what a student may see, and on which clips."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.distill.group import Group, RunSpec
from scaling.distill.rollout import Actors, Noise, make_act
from scaling.distill.slots import Seat, label, lay_out, seat_clusters, seat_segments, stack_banks
from scaling.errors import InputError
from scaling.experts import bank as experts
from scaling.experts.bank import Bank
from tests.distill.samples import ALL, CONFIG, SEEN, STUDENT, linear_bank

QUIET = Noise(np.float32(0), np.float32(0))


def alone(bank, expert, obs):
    """One expert on one state, by itself."""
    one = Bank(
        tuple(x[expert : expert + 1] for x in bank.kernels),
        tuple(x[expert : expert + 1] for x in bank.biases),
        Normaliser(*(x[expert : expert + 1] for x in bank.normaliser)),
    )
    return experts.act(one, obs[None, None])[0, 0]


def test_labels_are_those_of_each_expert_called_alone():
    bank = stack_banks([linear_bank(2, 0, 1.0), linear_bank(3, 1, 1.0)])
    seated = [[4, 0, 0], [0, 2, 4]]  # uneven, and experts 1 and 3 have no seat
    one = np.ones(1)
    slots = lay_out([[Seat(expert, np.array([0]), one) for expert in run] for run in seated], 5)
    obs = jax.random.normal(jax.random.key(0), (2, 3, 2, ALL))
    found = label(bank, slots.seats, obs)
    for run in range(2):
        for slot in range(3):
            for env in range(2):
                wanted = alone(bank, seated[run][slot], obs[run, slot, env])
                np.testing.assert_allclose(found[run, slot, env], wanted, atol=1e-5)


def test_a_run_sees_its_arm_alone_and_its_own_teacher(group, corpus, teachers):
    state, episodes = group.start()
    ended = 0
    for round_ in range(2):
        before = episodes
        episodes, frames = group.collect(state.params, episodes, round_)
        for run, clips in zip(group.runs, frames.clip, strict=True):
            assert set(np.unique(clips)) <= set(run.segments)
        assert frames.start[:, :, 0].all()
        ended += frames.start[:, :, 1:].sum()
        for number, run in enumerate(group.runs):
            teacher = teachers[run.teacher]
            for row in range(group.sequences):
                slot, env = divmod(row, CONFIG.envs)
                expert = teacher.labels[frames.clip[number, row, 0]]
                wanted = alone(teacher.bank, expert, before.obs[number, slot, env])
                np.testing.assert_allclose(frames.label[number, row, 0], wanted, atol=1e-4)
    assert ended > 4  # clips were drawn again within rounds, not only before the first
    assert set(np.unique(frames.clip[1])) <= set(corpus.indices("train"))
    assert len(np.unique(frames.clip[1])) > 2


def test_students_are_judged_on_val_alone(group, corpus):
    seats = np.asarray(group.val_stage.task.clips)[np.asarray(group.val_stage.task.weights) > 0]
    assert set(seats) == set(corpus.indices("val"))


def test_the_bank_acts_in_its_share_of_the_environments(make_group):
    group = make_group(beta=(1.0, 0.5, 0.0))
    shares = [group.teaching(round_).reshape(2, -1).mean(axis=1) for round_ in range(4)]
    np.testing.assert_allclose(shares, [[1, 1], [0.5, 0.5], [0, 0], [0, 0]])


def test_nothing_privileged_reaches_a_student(group, fresh):
    _, episodes = group.start()
    remember, act = make_act(STUDENT)
    shape = group.teaching(0).shape
    actors = Actors(group.bank, fresh, group.frozen)
    keys = jax.random.split(jax.random.key(1), 2)

    def outcome(obs):
        noise = Noise(np.float32(0), np.float32(1))
        first, nobody = np.ones(shape, bool), np.zeros(shape, bool)
        return act(keys, np.uint32(0), actors, group.stage.seats, nobody, noise, obs, first, remember(2, 6))

    plain, changed = outcome(episodes.obs), outcome(episodes.obs.at[..., SEEN:].add(3.0))
    assert plain[2].shape[-1] == SEEN
    for name, index in (("action", 0), ("what is seen", 2)):
        np.testing.assert_array_equal(plain[index], changed[index], err_msg=name)
    assert float(jnp.abs(plain[3] - changed[3])[0].max()) > 0.1  # the expert does look
    assert float(jnp.abs(plain[0] - outcome(episodes.obs.at[..., 0].add(3.0))[0]).max()) > 1e-3


def test_noise_is_on_what_the_student_sees_and_never_on_the_label(group, fresh):
    _, episodes = group.start()
    remember, act = make_act(STUDENT)
    shape = group.teaching(0).shape
    actors, keys = Actors(group.bank, fresh, group.frozen), jax.random.split(jax.random.key(1), 2)
    everybody = np.ones(shape, bool)

    def outcome(noise):
        return act(
            keys, np.uint32(0), actors, group.stage.seats, everybody, noise, episodes.obs, everybody, remember(2, 6)
        )

    clean, noisy = outcome(QUIET), outcome(Noise(np.float32(0.2), np.float32(1.0)))
    np.testing.assert_array_equal(clean[2], episodes.obs[..., :SEEN])
    np.testing.assert_array_equal(clean[0], clean[3])  # the bank acts
    np.testing.assert_array_equal(noisy[3], clean[3])
    assert 0.15 < float(jnp.std(noisy[0] - noisy[3])) < 0.25
    assert 0 < float(jnp.abs(noisy[2] - clean[2]).max()) <= 0.5 + 1e-5


def test_every_val_clip_has_a_seat_and_no_slot_mixes_experts():
    clips, experts_of = np.arange(10, 19), np.array([0, 0, 0, 0, 0, 0, 1, 2, 2])
    seats = seat_segments(clips, experts_of, 5)
    held = [clip for seat in seats for clip in seat.clips]
    assert sorted(held) == list(clips)
    assert all((experts_of[seat.clips - 10] == seat.expert).all() for seat in seats)
    assert [sum(seat.expert == expert for seat in seats) for expert in range(3)] == [3, 1, 1]
    with pytest.raises(ValueError, match="slots 2"):
        seat_segments(clips, experts_of, 2)


def test_clusters_share_the_slots_and_frames_are_equally_likely():
    clips, lengths = np.array([3, 4, 7]), np.array([0, 0, 0, 10, 30, 0, 0, 5])
    seats = seat_clusters(clips, np.array([1, 1, 0]), lengths[clips], 4)
    assert [seat.expert for seat in seats] == [0, 1, 0, 1]
    np.testing.assert_allclose(seats[1].weights, [0.25, 0.75])


def test_a_bank_of_more_experts_than_slots_has_a_slot_each_and_no_more_data(make_group, runs):
    config = dataclasses.replace(CONFIG, slots=8, envs=4)
    assert [config.room(experts) for experts in (1, 8, 16, 5)] == [(8, 4), (8, 4), (16, 2), (8, 4)]
    assert config.room(100) == (100, 1)
    crowded = make_group(slots=1, envs=4)
    assert (crowded.slots, crowded.envs, crowded.sequences) == (2, 2, 4)
    state, episodes = crowded.start()
    _, frames = crowded.collect(state.params, episodes, 0)
    assert frames.clip.shape[:2] == (len(runs), 4)
    families = np.array(crowded.corpus.families)
    taught_by_two = [number for number, run in enumerate(runs) if len(run.segments) > 1]
    assert all(len(set(families[np.unique(frames.clip[number])])) == 2 for number in taught_by_two)


def test_what_cannot_be_a_group_is_said_in_a_sentence(teachers, corpus, physics):
    val = corpus.indices("val")
    with pytest.raises(InputError, match="run leak: its arm must be train segments"):
        Group(STUDENT, [RunSpec("leak", val, 0)], teachers, corpus, physics, CONFIG)
    with pytest.raises(ValueError, match="different networks"):
        stack_banks([linear_bank(1, 0), Bank((jnp.zeros((1, ALL, 28)),), (jnp.zeros((1, 28)),), None)])
