"""Exported students of all families (one reads less, one has a second head), small and loud enough to be compared."""

import jax
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.policy.export import export_policy
from scaling.students import model
from scaling.students.config import StudentConfig

OBS = observation_dim(STUDENT_TERMS)
CONFIGS = {
    "transformer": StudentConfig("transformer", OBS, width=16, depth=2, heads=2, context=32),
    "mlp": StudentConfig("mlp", OBS, width=16, depth=2, history=3),
    "tcn": StudentConfig("tcn", OBS, width=16, depth=7, context=32, look_ahead=(10,)),
    "gru": StudentConfig("gru", OBS, width=16, depth=2, auxiliary=0.5),
}
ROW = {"run": "tiny", "val_loss": float("nan"), "assist": 0.5, "protocol": "sonic"}


def student(family: str):
    """(config, params, normaliser, action_scale) with actions of order one."""
    config = CONFIGS[family]
    params = model.init(config, jax.random.key(0))
    params = {**params, "head": {**params["head"], "kernel": 100 * params["head"]["kernel"]}}
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=OBS), np.exp(rng.normal(size=OBS))
    normaliser = Normaliser(mean.astype(np.float32), std.astype(np.float32))
    return config, params, normaliser, np.linspace(0.2, 0.9, 29).astype(np.float32)


@pytest.fixture(scope="session", params=["transformer", "mlp"])
def exported(request, tmp_path_factory):
    """(folder, family); read only."""
    out = tmp_path_factory.mktemp("policy") / request.param
    return export_policy(*student(request.param), ROW, out), request.param
