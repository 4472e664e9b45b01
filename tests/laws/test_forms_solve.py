"""Derivatives of the forms, and optima against an independent optimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize
from tables import falling, grid, planted

from scaling.errors import InputError
from scaling.laws.catalogue import chinchilla, make
from scaling.laws.fit import optimum, scaled
from scaling.laws.forms import nonnegative
from scaling.laws.solve import objective, solve

THETA = {
    "constant": [0.3],
    "log": [5.0, 0.4],
    "power": [0.1, -0.5, 0.4],
    "straight": [0.1, 0.4],
    "broken": [0.1, -0.5, 0.3, 0.9, 0.2, -0.7],
    "chinchilla": [0.1, -0.5, 0.2, 0.4, 0.7],
    "overtraining": [0.1, -0.5, 0.2, 0.4],
    "repeated": [0.1, -0.5, -0.4, 0.4, 0.7, 1.0, 0.5],
    "clusters": [0.1, -0.5, 0.2, -0.3, 0.4, 0.7, 0.6],
    "distillation": [-0.5, -0.2, 0.4, 0.7, 0.8, 0.3, 1.5, 0.1, -0.6],
}
VARIABLES = {"clusters": ("size", "data", "clusters"), "distillation": ("size", "data", "teacher", "alone")}


@pytest.mark.parametrize("name", list(THETA))
def test_jacobian_and_curvature_are_the_derivatives(name):
    form = make(name, VARIABLES.get(name, ("data",)))
    rng = np.random.default_rng(0)
    u = rng.normal(size=(7, len(form.variables)))
    theta = np.array([THETA[name]])
    psi = rng.normal(size=(1, 7))
    _, jacobian, aux = form.evaluate(theta, u)
    step = 1e-5
    for i in range(theta.shape[1]):
        shift = np.zeros_like(theta)
        shift[0, i] = step
        up, down = form.evaluate(theta + shift, u), form.evaluate(theta - shift, u)
        np.testing.assert_allclose((up[0] - down[0]) / (2 * step), jacobian[..., i], atol=1e-8)
        second = np.einsum("bn,bnp->bp", psi, (up[1] - down[1]) / (2 * step))
        np.testing.assert_allclose(second, form.curvature(aux, jacobian, psi, u)[:, i], atol=1e-7)


@pytest.mark.parametrize("name", list(THETA))
def test_unscaled_parameters_predict_what_the_solver_saw(name):
    form = make(name, VARIABLES.get(name, ("data",)))
    rng = np.random.default_rng(1)
    x = np.exp(rng.normal(12.0, 1.0, size=(9, len(form.variables))))
    log_x = form.centre(x, np.full(9, 2.5))[0]
    theta = np.array([THETA[name]])
    f = form.evaluate(theta, np.log(x) - log_x)[0]
    params = form.unscale(form.natural(theta), log_x, 2.5)
    np.testing.assert_allclose(form.predict(params, x), 2.5 * np.exp(f), rtol=1e-10)


def test_unknown_form_is_refused():
    with pytest.raises(InputError, match="unknown form 'cubic'"):
        make("cubic")


def test_nonnegative_least_squares_matches_scipy():
    from scipy.optimize import nnls

    rng = np.random.default_rng(2)
    for _ in range(20):
        a, b = rng.normal(size=(12, 3)), rng.normal(size=12)
        found, _ = nonnegative((a.T @ a)[None], (a.T @ b)[None])
        np.testing.assert_allclose(found[0], nnls(a, b)[0], atol=1e-6)


def test_optimum_is_not_beaten_by_scipy_on_the_same_objective():
    """A quasi-Newton polish from our optimum finds nothing better, and one from elsewhere does not end lower."""
    table = grid(0.01, seed=3)
    x, loss = np.stack([table["n"], table["d"]], axis=1), table["loss"]
    form = chinchilla()
    u, y, _, _ = scaled(form, x, loss)
    ones = np.ones((1, len(y)))
    theta, value, converged = optimum(form, u, y, ones, 1e-3)
    assert converged[0]

    def cost(t):
        return 1e6 * objective(form, t[None], u, np.log(y), ones, 1e-3)[0]

    for start in (theta[0], np.array([0.0, -1.0, -1.0, 0.5, 0.5])):
        other = minimize(cost, start, method="BFGS", options={"gtol": 1e-8, "maxiter": 3000})
        assert value[0] <= other.fun / 1e6 * (1 + 1e-9)


def test_weights_mean_repeated_rows():
    """Weight two on a row is the row twice: what the bootstrap relies on."""
    table = planted(falling, 0.02, seed=4)
    form = make("power")
    u, y, _, _ = scaled(form, np.array(table["frames"])[:, None], table["val_loss"])
    count = np.array([2, 0, 1, 1, 3, 1, 0, 1, 2, 1])
    rows = np.repeat(np.arange(10), count)
    start = np.array([[-0.5, -0.5, 0.5]])
    weighted = solve(form, u, np.log(y), count[None].astype(float), start, top=5.0)
    plain = solve(form, u[rows], np.log(y)[rows], np.ones((1, len(rows))), start, top=5.0)
    assert weighted.converged[0]
    assert plain.converged[0]
    np.testing.assert_allclose(weighted.theta, plain.theta, atol=1e-5)
