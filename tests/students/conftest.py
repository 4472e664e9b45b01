"""Small students of all families, with a head loud enough for a comparison to mean something."""

import jax
import pytest

from scaling.students import model
from scaling.students.config import StudentConfig

TRANSFORMER = StudentConfig("transformer", obs_dim=7, width=16, depth=2, heads=2, context=4, action_dim=3)
MLP = StudentConfig("mlp", obs_dim=7, width=16, depth=2, history=3, action_dim=3)
TCN = StudentConfig("tcn", obs_dim=7, width=16, depth=3, context=4, action_dim=3)
GRU = StudentConfig("gru", obs_dim=7, width=16, depth=2, context=4, action_dim=3)
TINY = {config.family: config for config in (TRANSFORMER, MLP, TCN, GRU)}


@pytest.fixture(scope="session")
def loud():
    """(config, key) -> parameters with the head a hundredfold: actions of order 1, where 1e-5 is a strict tolerance."""

    def make(config, key):
        params = model.init(config, key)
        return {**params, "head": {**params["head"], "kernel": 100 * params["head"]["kernel"]}}

    return make


@pytest.fixture(scope="session")
def transformer(loud):
    """(config, loud parameters)."""
    return TRANSFORMER, loud(TRANSFORMER, jax.random.key(0))


@pytest.fixture(scope="session", params=TINY.values(), ids=TINY)
def tiny(request, loud):
    """(config, loud parameters) of each family."""
    return request.param, loud(request.param, jax.random.key(0))
