"""Observations are one function under NumPy and JAX, and a student's are only what the robot measures."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.contract.normaliser import CLIP, Normaliser
from scaling.contract.observation import (
    EXPERT_TERMS,
    LOOK_AHEAD,
    STUDENT_TERMS,
    TERMS,
    Inputs,
    Privileged,
    Reference,
    Sensors,
    noise_scale,
    observation_dim,
    observe,
    reference_terms,
)

PRIVILEGED = [name for name in EXPERT_TERMS if not TERMS[name].measured]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def inputs() -> Inputs:
    """Five robots in any pose, float32."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=(5, *shape)).astype(np.float32)

    def pose(*lead):
        return np.concatenate([draw(*lead, 3), unit(draw(*lead, 4)), draw(*lead, 29)], axis=-1)

    ahead = len(LOOK_AHEAD)
    return Inputs(
        Sensors(unit(draw(4)), draw(3), draw(29), draw(29)),
        Reference(pose(), draw(35), pose(ahead), draw(ahead, 35)),
        draw(29),
        Privileged(draw(3), draw(3)),
    )


def on_device(inputs: Inputs) -> Inputs:
    parts = [type(part)(*map(jnp.asarray, part)) for part in (inputs.sensors, inputs.reference, inputs.privileged)]
    return Inputs(parts[0], parts[1], jnp.asarray(inputs.last_action), parts[2])


@pytest.mark.parametrize("name", EXPERT_TERMS)
def test_a_term_is_the_same_under_numpy_and_jax(name, inputs):
    ours, theirs = observe((name,), inputs), observe((name,), on_device(inputs))
    assert ours.shape == (5, TERMS[name].dim)
    assert np.abs(ours).max() > 0.01
    np.testing.assert_allclose(theirs, ours, atol=2e-6, rtol=2e-6)


def test_a_student_needs_nothing_that_only_a_simulator_knows(inputs):
    blind = inputs._replace(privileged=None)
    obs = observe(STUDENT_TERMS, blind)
    assert obs.shape == (5, observation_dim(STUDENT_TERMS))
    np.testing.assert_array_equal(obs, observe(EXPERT_TERMS, inputs)[:, : obs.shape[1]])
    assert len(noise_scale(STUDENT_TERMS)) == obs.shape[1]


def test_terms_of_the_reference_are_known_before_the_sensors_speak(inputs):
    """Exactly those are flagged that no reading and no action moves; with them in hand the observation is the same."""
    known = reference_terms(EXPERT_TERMS, inputs.reference)
    blind = Sensors(*(value[::-1] for value in inputs.sensors))
    other = Inputs(blind, inputs.reference, inputs.last_action[::-1], Privileged(*(v[::-1] for v in inputs.privileged)))
    still = [name for name in TERMS if (observe((name,), other) == observe((name,), inputs)).all()]
    assert sorted(known) == sorted(still) == sorted(name for name, term in TERMS.items() if term.of_reference)
    np.testing.assert_array_equal(observe(EXPERT_TERMS, inputs, known), observe(EXPERT_TERMS, inputs))


@pytest.mark.parametrize("name", PRIVILEGED)
def test_a_privileged_term_is_refused_on_a_robot(name, inputs):
    assert name not in STUDENT_TERMS
    with pytest.raises(ValueError, match="privileged"):
        observe((name,), inputs._replace(privileged=None))


def test_the_clips_place_in_the_world_is_not_seen(inputs):
    offset = np.zeros(36, np.float32)
    offset[:2] = 4.0, -2.0
    reference = inputs.reference
    moved = reference._replace(qpos=reference.qpos + offset, ahead_qpos=reference.ahead_qpos + offset)
    blind = inputs._replace(privileged=None)
    there = observe(STUDENT_TERMS, blind._replace(reference=moved))
    np.testing.assert_allclose(there, observe(STUDENT_TERMS, blind), atol=2e-6)


def test_the_normaliser_limits_a_glitch():
    normaliser = Normaliser(np.array([1.0, 2.0]), np.array([0.5, 4.0]))
    np.testing.assert_allclose(normaliser(np.array([[2.0, 1e9]])), [[2.0, CLIP]])
