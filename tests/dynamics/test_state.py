"""The model's view is blind to place and heading, and its integration is MuJoCo's."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.dynamics.model import clip_cotangent, step
from scaling.dynamics.state import FEATURES, features, integrate, mean_velocity, velocity_change
from scaling.robot.model import STANDARD, build_model
from scaling.robot.rotations import from_rotation_vector, quat_mul, rotate
from scaling.tracking.physics import PhysicsState
from tests.dynamics.conftest import TINY


def moved(state, shift, heading):
    """The same robots elsewhere on the floor, turned by `heading` (rad)."""
    turn = from_rotation_vector(jnp.array([0.0, 0.0, heading]))
    qpos = jnp.concatenate(
        [
            rotate(turn, state.qpos[:, :3]) + jnp.array([*shift, 0.0]),
            quat_mul(jnp.broadcast_to(turn, state.qpos[:, 3:7].shape), state.qpos[:, 3:7]),
            state.qpos[:, 7:],
        ],
        axis=-1,
    )
    return PhysicsState(qpos, jnp.concatenate([rotate(turn, state.qvel[:, :3]), state.qvel[:, 3:]], axis=-1))


@pytest.fixture
def some(data):
    """64 states, tilted and moving."""
    return jax.tree.map(lambda x: jnp.asarray(x[40:104]), data)


@pytest.mark.parametrize(("shift", "heading"), [((3.0, -2.0), 0.0), ((0.0, 0.0), 2.5), ((-4.0, 1.0), -1.2)])
def test_features_and_prediction_do_not_depend_on_place_and_heading(some, dream, shift, heading):
    state = PhysicsState(some.before.qpos.at[:, :2].set(0.0), some.before.qvel)
    elsewhere = moved(state, shift, heading)
    assert features(state, some.ctrl).shape == (64, FEATURES)
    np.testing.assert_allclose(features(elsewhere, some.ctrl), features(state, some.ctrl), atol=1e-5)

    there = step(TINY, dream, elsewhere, some.ctrl)
    here = moved(step(TINY, dream, state, some.ctrl), shift, heading)
    np.testing.assert_allclose(there.qpos, here.qpos, atol=1e-5)
    np.testing.assert_allclose(there.qvel, here.qvel, atol=1e-5)


def test_tilt_height_and_target_do_reach_the_model(some):
    state = some.before
    tilted = moved(state, (0.0, 0.0), 0.0)._replace(qpos=state.qpos.at[:, 3:7].set(jnp.array([0.8, 0.6, 0.0, 0.0])))
    higher = state._replace(qpos=state.qpos.at[:, 2].add(0.1))
    seen = features(state, some.ctrl)
    for other in (features(tilted, some.ctrl), features(higher, some.ctrl), features(state, some.ctrl + 0.1)):
        assert float(jnp.abs(other - seen).max(axis=-1).min()) > 0.05


def test_the_true_change_of_velocity_gives_mujocos_next_state(data):
    """One solver step of the real model, contacts and all, from states of noisy tracking."""
    model, worst = build_model(STANDARD), 0.0
    for row in range(0, len(data.qpos), 20):
        sim = mujoco.MjData(model)
        sim.qpos, sim.qvel, sim.ctrl = data.qpos[row], data.qvel[row], data.ctrl[row]
        before = PhysicsState(jnp.asarray(data.qpos[row]), jnp.asarray(data.qvel[row]))
        mujoco.mj_step(model, sim)
        after = PhysicsState(jnp.asarray(sim.qpos, jnp.float32), jnp.asarray(sim.qvel, jnp.float32))
        found = integrate(before, velocity_change(before, after), dt=STANDARD.timestep)
        worst = max(worst, float(jnp.abs(found.qpos - after.qpos).max()))
        np.testing.assert_allclose(found.qpos, after.qpos, atol=1e-4)
        np.testing.assert_allclose(found.qvel, after.qvel, atol=1e-4)
    assert worst > 0.0


def test_a_control_step_is_exact_with_the_true_drift_and_worse_without(some, dream):
    """Over four solver steps the final velocity alone does not give the displacement; what is left is the drift."""
    before, after = some.before, some.after
    change, blend = velocity_change(before, after), dream.scales.blend
    still = mean_velocity(before, integrate(before, jnp.zeros_like(change)))
    drift = mean_velocity(before, after) - still - blend * change
    found = integrate(before, change, blend, drift)
    np.testing.assert_allclose(found.qpos, after.qpos, atol=1e-4)
    np.testing.assert_allclose(found.qvel, after.qvel, atol=1e-4)

    def error(state):
        return float(jnp.sqrt(jnp.mean((state.qpos - after.qpos)[:, 7:] ** 2)))

    assert error(found) < error(integrate(before, change, blend)) < error(integrate(before, change))


def test_the_cotangent_is_clipped_by_row_and_the_value_is_not():
    state = PhysicsState(jnp.ones((2, 36)), jnp.ones((2, 35)))
    scale = jnp.array([[1e-3], [1e3]])
    np.testing.assert_array_equal(clip_cotangent(5.0, state).qpos, state.qpos)
    grad = jax.grad(lambda s: jnp.sum(scale * clip_cotangent(5.0, s).qpos))(state)
    norm = np.sqrt(np.sum(np.square(grad.qpos), axis=-1) + np.sum(np.square(grad.qvel), axis=-1))
    np.testing.assert_allclose(norm, [6e-3, 5.0], rtol=1e-4)
