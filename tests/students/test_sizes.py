"""Sizes by name, counted three ways: closed form, real tree, and the program's own matrix products."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params

from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.students import count, decode, model
from scaling.students.config import FAMILIES
from scaling.students.ladder import MATCH, RUNGS, ladder

# XLA also counts softmax, norms, gates, biases and masks.
TOLERANCE = {"transformer": 0.06, "mlp": 0.02, "tcn": 0.06, "gru": 0.06}
TARGETS = {"0.05M": 5e4, "0.2M": 2e5, "1M": 1e6, "S": 5.7e6, "B": 22.1e6, "L": 80.4e6}

OBS = observation_dim(STUDENT_TERMS)


def dot_flops(jaxpr):
    """Two per multiply-add over all dot_generals of a jaxpr, those of a scan as often as it runs them."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            shared = math.prod(eqn.invars[0].aval.shape[axis] for axis in contract)
            total += 2 * shared * math.prod(eqn.outvars[0].aval.shape)
        for sub in jaxprs_in_params(eqn.params):
            total += dot_flops(sub) * eqn.params.get("length", 1)
    return total


def shapes(config, batch, length):
    return model.abstract_params(config), jax.ShapeDtypeStruct((batch, length, config.obs_dim), jnp.float32)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rung", RUNGS)
def test_closed_form_is_the_tree(family, rung):
    config = ladder(family, rung, 200)
    groups = count.parameters_by_group(model.abstract_params(config))
    assert groups == count.closed_form(config)
    assert sum(groups.values()) == count.parameters(config)


@pytest.mark.parametrize("rung", RUNGS)
def test_sizes_hold_at_every_observation(rung):
    tolerance = 0.01 if rung in ("1M", "S", "B", "L") else 0.02
    for obs_dim in range(140, 261, 3):
        transformer = count.parameters(ladder("transformer", rung, obs_dim))
        assert transformer == pytest.approx(TARGETS[rung], rel=tolerance)
        for family in ("mlp", "tcn", "gru"):
            assert count.parameters(ladder(family, rung, obs_dim)) == pytest.approx(transformer, rel=MATCH)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rung", "length"), [("0.05M", 32), ("0.05M", 128), ("1M", 64), ("B", 96)])
def test_flops_are_the_programs_matrix_products(family, rung, length):
    config = ladder(family, rung, 200)
    traced = jax.make_jaxpr(lambda p, x: model.forward(config, p, x))(*shapes(config, 2, length))
    assert dot_flops(traced.jaxpr) == 2 * length * count.flops_per_token(config, length)


@pytest.mark.parametrize("family", FAMILIES)
def test_decode_flops_are_the_models(family):
    config = ladder(family, "0.2M", 200)
    params, obs = shapes(config, 1, 3)
    state = jax.eval_shape(lambda: decode.init_state(config, 3))
    frame = jax.ShapeDtypeStruct(obs.shape[1:], obs.dtype)
    traced = jax.make_jaxpr(lambda p, s, x: decode.step(config, p, s, x))(params, state, frame)
    assert dot_flops(traced.jaxpr) == 3 * count.flops_per_token(config)


@pytest.mark.parametrize("family", ["transformer", "mlp", "tcn"])
@pytest.mark.parametrize("rung", ["0.05M", "S", "L"])
def test_flops_against_xla(family, rung):
    """XLA's count exceeds the matrix products by the element-wise work alone: by less at each size up."""
    config = ladder(family, rung, 200)
    lowered = jax.jit(lambda p, x: model.forward(config, p, x)).lower(*shapes(config, 2, 64))
    ratio = lowered.cost_analysis()["flops"] / (2 * 64 * count.flops_per_token(config, 64))
    assert 1 <= ratio < 1 + TOLERANCE[family]
    assert rung != "L" or ratio < 1.005


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rung", ["0.05M", "S", "L"])
def test_flops_of_a_decoded_frame_against_xla(family, rung):
    """Likewise one step at a time (of a recurrence over a sequence XLA counts one frame alone)."""
    config = ladder(family, rung, 200)
    params, obs = shapes(config, 1, 3)
    state = jax.eval_shape(lambda: decode.init_state(config, 3))
    frame = jax.ShapeDtypeStruct(obs.shape[1:], obs.dtype)
    lowered = jax.jit(lambda p, s, x: decode.step(config, p, s, x)).lower(params, state, frame)
    ratio = lowered.cost_analysis()["flops"] / (3 * count.flops_per_token(config))
    assert 1 <= ratio < 1 + TOLERANCE[family]
    assert rung != "L" or ratio < 1.005


@pytest.mark.parametrize("family", FAMILIES)
def test_training_costs_three_forwards(family):
    """The backward's products are two for each of the forward's, but for the first layer: nobody asks for its input."""
    config = replace(ladder(family, "0.05M", OBS), auxiliary=1.0)
    params, obs = shapes(config, 1, 3)

    def loss(p, x):
        action, change = model.forward_both(config, p, x)
        return jnp.square(action).sum() + jnp.square(change).sum()

    traced = jax.make_jaxpr(jax.grad(loss))(params, obs)
    stacked = config.history if family == "mlp" else 1
    spared = 2 * stacked * config.input_dim * config.width
    assert dot_flops(traced.jaxpr) == 3 * (count.training_flops_per_token(config, 3) - spared)


def test_columns_are_the_counts():
    config = ladder("gru", "0.2M", 200)
    found = count.columns(config)
    assert sum(found[f"params_{group}"] for group in count.GROUPS) == count.parameters(config)
    assert found["params"] == count.parameters(config) - found["params_auxiliary"]
    assert found["train_flops_per_token"] == 3 * found["flops_per_token"]


def test_an_unknown_parameter_is_refused():
    with pytest.raises(ValueError, match="gate"):
        count.parameters_by_group({"gate": {"kernel": jnp.zeros((2, 2))}})
