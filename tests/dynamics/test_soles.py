"""The soles as seen from the pelvis are those of the whole robot's kinematics."""

import jax
import jax.numpy as jnp
import numpy as np

from scaling.dynamics.soles import SOLE_FEATURES, sole_features, sole_motion
from scaling.dynamics.state import integrate
from scaling.robot.kinematics import soles
from scaling.robot.rotations import rotate
from scaling.tracking.physics import PhysicsState


def test_heights_are_those_of_the_whole_robot(data):
    height, _ = jax.jit(sole_motion)(jax.tree.map(jnp.asarray, data.before))
    np.testing.assert_allclose(height, soles(data.qpos)[..., 2], atol=2e-6)


def test_velocity_is_the_rate_of_height(data):
    """The world's vertical part of each corner's velocity against a central difference of its height."""
    state = jax.tree.map(lambda x: jnp.asarray(x[:200]), data.before)
    _, velocity = jax.jit(sole_motion)(state)
    quat = jnp.broadcast_to(state.qpos[:, None, None, 3:7], (*velocity.shape[:-1], 4))
    h = 1e-2
    ends = [integrate(state, jnp.zeros((200, 35)), dt=sign * h) for sign in (1.0, -1.0)]
    rate = (soles(np.asarray(ends[0].qpos)) - soles(np.asarray(ends[1].qpos)))[..., 2] / (2 * h)
    np.testing.assert_allclose(rotate(quat, velocity)[..., 2], rate, atol=0.03)
    assert float(jnp.abs(rate).max()) > 0.5


def test_features_have_finite_gradients_at_rest(data):
    still = PhysicsState(jnp.asarray(data.qpos[:2]).at[:, 7:].set(0.0), jnp.zeros((2, 35)))
    assert sole_features(still).shape == (2, SOLE_FEATURES)
    grad = jax.jit(jax.grad(lambda s: jnp.sum(sole_features(s))))(still)
    assert all(bool(jnp.isfinite(x).all()) for x in grad)
