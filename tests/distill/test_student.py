"""A student kept and read back, played by the evaluation, and the validation set kept and read back."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.distill.config import DaggerConfig, ValConfig
from scaling.distill.student import Student, load_student, policy, policy_params, save_student
from scaling.distill.valset import MIN_STD, ValSet, make_valset
from scaling.errors import InputError
from scaling.students import model
from scaling.students.config import StudentConfig
from tests.distill.samples import ALL, SEEN, STUDENT, linear_bank

TRANSFORMER = StudentConfig("transformer", SEEN, width=8, depth=1, heads=2, context=4)

forward = jax.jit(model.forward, static_argnums=0)


def make(config, seed):
    rng = np.random.default_rng(seed)
    params = jax.jit(model.init, static_argnums=0)(config, jax.random.key(seed))
    params = {**params, "head": {**params["head"], "kernel": 100 * params["head"]["kernel"]}}
    normaliser = Normaliser(rng.normal(size=SEEN).astype(np.float32), rng.uniform(0.5, 2, SEEN).astype(np.float32))
    scale = rng.uniform(0.1, 1, 29).astype(np.float32)
    return Student(config, params, normaliser, scale, {"val_loss": 0.25, "epochs": None}, [{"update": 3}])


@pytest.mark.parametrize("config", [STUDENT, TRANSFORMER], ids=["mlp", "transformer"])
def test_the_policy_is_the_forward_in_the_actions_own_units(config):
    students = [make(config, seed) for seed in (0, 1)]
    obs = jax.random.normal(jax.random.key(2), (9, 3, ALL))
    first = jnp.zeros((9, 3), bool).at[0].set(True).at[5, 1].set(True)
    player = policy(config)

    def play(params, obs):
        def body(state, frame):
            action, state = player.act(params, state, *frame)
            return state, action

        return jax.lax.scan(body, player.init(3), (obs, first))[1]

    stacked = jax.jit(jax.vmap(play, in_axes=(0, None)))(policy_params(students), obs)
    for student, found in zip(students, stacked, strict=True):
        seen = jnp.moveaxis(student.normaliser(obs[..., :SEEN]), 0, 1)
        wanted = jnp.moveaxis(forward(config, student.params, seen, first.T), 1, 0) * student.action_scale
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert float(jnp.abs(wanted).max()) > 0.1
    blind = jax.jit(play)(policy_params(students[0]), obs.at[..., SEEN:].set(99.0))
    np.testing.assert_allclose(blind, stacked[0], atol=1e-6)


def test_a_student_comes_back_as_it_was(tmp_path):
    student = make(TRANSFORMER, 3)
    save_student(tmp_path / "a", student)
    found = load_student(tmp_path / "a")
    assert (found.config, found.columns, found.curve) == (student.config, student.columns, student.curve)
    jax.tree.map(np.testing.assert_array_equal, found.params, jax.tree.map(np.asarray, student.params))
    np.testing.assert_array_equal(found.normaliser.std, student.normaliser.std)
    np.testing.assert_array_equal(found.action_scale, student.action_scale)
    with pytest.raises(InputError, match="no readable student"):
        load_student(tmp_path / "b")
    card = json.loads((tmp_path / "a" / "student.json").read_text())
    (tmp_path / "a" / "student.json").write_text(json.dumps(card | {"terms": card["terms"][1:]}))
    with pytest.raises(InputError, match="observations are not those"):
        load_student(tmp_path / "a")


def test_students_of_two_sizes_are_not_stacked():
    with pytest.raises(ValueError, match="different configs"):
        policy_params([make(STUDENT, 0), make(TRANSFORMER, 0)])


def test_a_valset_covers_val_and_takes_its_statistics_from_train(teachers, corpus):
    held = teachers[0].valset
    counts = np.bincount(held.segment, minlength=len(corpus))
    assert set(np.flatnonzero(counts)) == set(corpus.indices("val"))
    assert len(set(counts[counts > 0])) == 1
    assert held.families == tuple(corpus.families[segment] for segment in held.segment)
    assert held.start[:, 0].all()
    assert held.normaliser.std.min() >= MIN_STD * (1 - 1e-6)
    # The reference's joints stand in the observation as they are: their mean is that of `train`, not of `val`.
    joints = slice(3 + 3 + 29 + 29 + 29 + 3, 3 + 3 + 29 + 29 + 29 + 3 + 29)
    train = np.concatenate([corpus.segment(index) for index in corpus.indices("train")])[:, 7:].mean(axis=0)
    assert np.abs(held.normaliser.mean[joints] - train).max() < 0.15


def test_a_valset_is_the_same_when_made_again_and_read_back(teachers, corpus, physics, tmp_path):
    first = teachers[0]
    again = make_valset(first.bank, first.labels, corpus, physics, ValConfig(sequences=8, steps=12))
    again.save(tmp_path / "v")
    found = ValSet.load(tmp_path / "v")
    for name in ("obs", "start", "label", "segment", "action_scale", "families"):
        np.testing.assert_array_equal(getattr(found, name), getattr(first.valset, name))
    np.testing.assert_array_equal(found.normaliser.mean, first.valset.normaliser.mean)
    with pytest.raises(InputError, match="no readable validation set"):
        ValSet.load(tmp_path)


def test_a_corpus_without_val_is_told(corpus, physics):
    blind = dataclasses.replace(corpus, splits=tuple("train" for _ in corpus.splits))
    with pytest.raises(InputError, match="no val segments"):
        make_valset(linear_bank(1, 0), np.zeros(len(corpus), int), blind, physics, ValConfig())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rounds": 0}, "rounds 0"),
        ({"updates": 2, "rounds": 3}, "updates 2"),
        ({"beta": (1.5,)}, "beta"),
        ({"assist": 2.0}, "assist 2"),
        ({"learning_rate": 0.0}, "learning_rate 0"),
        ({"aggregation": "some"}, "aggregation 'some'"),
        ({"rate_rule": "depth"}, "rate_rule 'depth'"),
        ({"rate_width": 0}, "rate_width 0"),
    ],
)
def test_a_config_names_the_value_it_refuses(changes, named):
    with pytest.raises(ValueError, match=named):
        DaggerConfig(**changes)
