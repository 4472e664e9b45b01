"""The card tells a good model from a bad one, the artifact comes back as it was, and policies play inside it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.dynamics import artifact
from scaling.dynamics.card import Card, measure, text
from scaling.dynamics.model import Dream, step
from scaling.dynamics.physics import DreamPhysics
from scaling.dynamics.state import velocity_change
from scaling.errors import InputError
from scaling.record.files import jsonable
from scaling.robot.g1 import GROUPS, KP, NV
from scaling.robot.model import STANDARD
from scaling.tracking.env import EnvConfig, TrackingEnv
from scaling.tracking.physics import PhysicsState
from tests.dynamics.conftest import TINY


@pytest.fixture(scope="module")
def fitted(trained):
    """A model that has learned something."""
    return trained.dream


@pytest.fixture(scope="module")
def card(data, store, fitted):
    """Of the fitted model, on one and four steps."""
    return measure(TINY, fitted, data, store, horizons=(1, 4), most=256)


def row(card, horizon, predictor, states="all"):
    """The one row of the card."""
    return next(r for r in card.errors if (r["horizon"], r["predictor"], r["states"]) == (horizon, predictor, states))


def test_the_card_tells_learning_from_none(card):
    assert set(card.r2) == {"all", "contact", "airborne"} and set(card.r2["all"]) == set(GROUPS)
    assert card.r2["all"]["root linear"] > 0.5
    assert row(card, 1, "model")["joints_rad"] < row(card, 1, "velocity unchanged")["joints_rad"]
    assert row(card, 1, "model")["joints_rad"] < row(card, 1, "reference velocities")["joints_rad"]
    assert row(card, 4, "nothing changes")["root_m"] > row(card, 1, "nothing changes")["root_m"] > 0
    parts = [row(card, 1, "model", states)["windows"] for states in ("contact", "airborne")]
    assert sum(parts) == row(card, 1, "model")["windows"] and min(parts) > 0


def test_a_perfect_predictor_would_have_an_r2_of_one(data, store, fitted, monkeypatch):
    from scaling.dynamics import card as room

    truth = velocity_change(data.before, data.after)

    def oracle(model, dream, state, ctrl):
        match = jnp.argmin(jnp.sum(jnp.abs(state.qpos[:, None] - data.qpos[None]), axis=-1), axis=1)
        return jnp.asarray(truth)[match], None

    monkeypatch.setattr(room, "predict", oracle)
    # Another width of network than any other test, so that no compiled program is met again.
    config = dataclasses.replace(TINY, width=17)
    assert all(value == pytest.approx(1.0) for value in room._explained(config, fitted, *_some(data))["all"].values())


def _some(data):
    return jax.tree.map(jnp.asarray, data), np.arange(0, 600, 10)


def test_a_figure_without_windows_is_missing_and_a_broken_model_is_refused(data, store, fitted):
    grounded = data._replace(qpos=data.qpos - np.eye(36, dtype=np.float32)[2], clip=data.clip)
    found = measure(TINY, fitted, grounded, store, horizons=(1,), most=64)
    assert found.r2["airborne"]["legs"] is None
    assert row(found, 1, "model", "airborne")["root_m"] is None
    assert " - " in text(found) + " "
    broken = Dream(fitted.params, fitted.scales._replace(change_std=jnp.full(NV, jnp.inf)))
    with pytest.raises(InputError, match="error over 1 steps is not finite"):
        measure(TINY, broken, data, store, horizons=(1,), most=64)


def test_what_is_saved_comes_back_equal(tmp_path, data, fitted, card):
    artifact.save(tmp_path / "m", TINY, fitted, STANDARD, card)
    saved = artifact.load(tmp_path / "m")
    assert saved.config == TINY and saved.physics == STANDARD and isinstance(saved.card, Card)
    assert jsonable(dataclasses.asdict(saved.card)) == jsonable(dataclasses.asdict(card))
    for one, other in zip(jax.tree.leaves(saved.dream), jax.tree.leaves(fitted), strict=True):
        np.testing.assert_array_equal(one, other)
    before = jax.tree.map(jnp.asarray, data.before)
    np.testing.assert_array_equal(
        step(TINY, saved.dream, before, data.ctrl).qpos, step(TINY, fitted, before, data.ctrl).qpos
    )


def test_another_robot_other_gains_and_damage_are_refused_in_a_sentence(tmp_path, fitted):
    assert artifact.dynamics_hash(kp=1.01 * KP) != artifact.dynamics_hash()
    artifact.save(tmp_path, TINY, fitted, STANDARD)
    meta = json.loads((tmp_path / "dream.json").read_text())
    (tmp_path / "dream.json").write_text(json.dumps(meta | {"dynamics_hash": artifact.dynamics_hash(kp=1.01 * KP)}))
    with pytest.raises(InputError, match="another robot or other gains"):
        artifact.load(tmp_path)
    (tmp_path / "dream.json").write_text(json.dumps(meta))
    (tmp_path / "dream.npz").write_bytes((tmp_path / "dream.npz").read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        artifact.load(tmp_path)
    with pytest.raises(InputError, match="no learned simulator here"):
        artifact.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not finite: nothing was saved"):
        artifact.save(tmp_path / "bad", TINY, jax.tree.map(lambda x: x * jnp.nan, fitted), STANDARD)
    assert not (tmp_path / "bad").exists()


def test_the_environment_plays_inside_the_model(tmp_path, fitted, make_task):
    artifact.save(tmp_path, TINY, fitted, STANDARD)
    inside = TrackingEnv(DreamPhysics.read(tmp_path), EnvConfig())
    task = make_task()
    state = jax.jit(inside.start, static_argnums=2)(jax.random.key(0), task, 4)
    action = jnp.full((4, 29), 0.1)
    after = jax.jit(inside.advance)(task, state, action)
    assert after.qpos.shape == (4, 36) and bool(jnp.isfinite(after.qpos).all())
    assert bool(jnp.all(after.qpos != state.physics.qpos))
    # One more leading axis, as vmapped experts have it.
    many = jax.jit(jax.vmap(lambda s: inside.advance(task, s, action)))(
        jax.tree.map(lambda x: jnp.stack([x, x]), state)
    )
    np.testing.assert_allclose(many.qpos[1], after.qpos, atol=1e-5)
    grad = jax.jit(jax.grad(lambda a: jnp.sum(inside.advance(task, state, a).qvel)))(action)
    assert bool(jnp.isfinite(grad).all()) and float(jnp.abs(grad).max()) > 0


def test_a_harness_is_refused_and_never_silently_ignored(fitted, make_task):
    physics = DreamPhysics(TINY, fitted)
    inside = TrackingEnv(physics, EnvConfig())
    state = jax.jit(inside.start, static_argnums=2)(jax.random.key(0), make_task(), 2)
    action, zero = jnp.zeros((2, 29)), jnp.zeros(2)
    with pytest.raises(InputError, match="knows no assist"):
        inside.advance(make_task(0.5), state, action)
    with pytest.raises(InputError, match="knows no force"):
        physics.step(state.physics, action, jnp.ones((2, 35)), zero, zero)
    assert bool(jnp.isnan(jax.jit(inside.advance)(make_task(0.5), state, action).qpos).all())
    assert isinstance(physics.step(state.physics, action, jnp.zeros((2, 35)), zero, zero), PhysicsState)
