"""Planted truth without noise: every form gives its own parameters back."""

import numpy as np
import pytest

from scaling.laws.catalogue import make
from scaling.laws.fit import fit_form, refusal


def mesh(*axes):
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)


SIZES, DATAS = np.geomspace(1e6, 1e9, 5), np.geomspace(1e5, 1e9, 6)
TEACHERS = np.array([0.3, 0.5, 0.8, 1.2, 1.8])


def repeated_points():
    """Unique data and epochs crossed with size."""
    x = mesh(np.geomspace(1e6, 1e9, 6), np.geomspace(1, 300, 6), np.geomspace(1e6, 1e9, 4))
    return np.stack([x[:, 0], x[:, 1] * x[:, 2], x[:, 2]], axis=1)


def taught_alone():
    """Teachers crossed with students whose own loss is known."""
    x = mesh(np.geomspace(1e6, 1e9, 6), np.geomspace(1e6, 1e10, 6), TEACHERS)
    own = 0.25 + 30.0 * x[:, 0] ** -0.3 + 60.0 * x[:, 1] ** -0.28
    return np.column_stack([x, own])


CASES = {
    "log": (("data",), DATAS[:, None], [0.5, 0.02]),
    "power": (("data",), DATAS[:, None], [0.02, 3.0, 0.4]),
    "straight": (("size",), SIZES[:, None], [3.0, 0.12]),
    "broken": (("data",), np.geomspace(1e3, 1e9, 40)[:, None], [0.05, 0.8, 0.1, 0.6, 2e6, 0.7]),
    "chinchilla": (("size", "data"), mesh(SIZES, DATAS), [1.8, 480.0, 2000.0, 0.35, 0.37]),
    "overtraining": (("size", "data"), mesh(SIZES, DATAS), [1.8, 140.0, 190.0, 0.18]),
    "repeated": (("size", "data", "unique_data"), repeated_points(), [1.8, 480.0, 1500.0, 0.35, 0.37, 15.0, 5.0]),
    "clusters": (
        ("size", "data", "clusters"),
        mesh(SIZES, DATAS, np.array([16.0, 64, 128, 384, 1024])),
        [1.8, 480.0, 2000.0, 1.5, 0.35, 0.37, 0.5],
    ),
    "distillation": (
        ("size", "data", "teacher"),
        mesh(np.geomspace(1e6, 1e9, 6), np.geomspace(1e6, 1e10, 6), TEACHERS),
        [90.0, 200.0, 0.3, 0.28, 0.9, 0.4, 1.2, 0.7, 0.2],
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_noise_free_truth_is_recovered(name):
    variables, x, truth = CASES[name]
    form = make(name, variables)
    truth = np.array(truth)
    loss = form.predict(truth, x)
    assert (
        refusal(
            form,
            x,
        )
        is None
    )
    fit = fit_form(form, x, loss, np.arange(len(x)))
    np.testing.assert_allclose(fit.params, truth, rtol=1e-6)
    assert fit.status == "converged", fit.notes


def test_distillation_with_the_students_own_loss():
    form, x = make("distillation", ("size", "data", "teacher", "alone")), taught_alone()
    truth = np.array([90.0, 200.0, 0.3, 0.28, 0.9, 0.4, 1.2, 0.8, 0.2])
    fit = fit_form(form, x, form.predict(truth, x), np.arange(len(x)))
    np.testing.assert_allclose(fit.params, truth, rtol=1e-6)
