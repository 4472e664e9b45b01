"""Designs: beside a plain grid on planted truth, what is shared is paid once, and nothing is said past a law's end."""

import numpy as np
import pytest

from experiments.suggest_planted import TARGET, Trial, reached
from scaling.errors import InputError
from scaling.laws.catalogue import chinchilla, make
from scaling.laws.design import Candidate, design, relative_jacobian
from scaling.laws.fit import Curve

PARAMS = np.array([0.1, 6.0, 30.0, 0.35, 0.4])
X = np.array([(n, d) for n in (1e5, 1e6, 1e7) for d in (1e4, 1e5, 1e6)])
FAR = np.array([1e8, 1e7])


def curve_of(name, params, variables):
    """A law known exactly: all its resamples agree."""
    return Curve(make(name, variables), params, np.tile(params, (3, 1)), np.zeros(3), 20, 0.95, {})


def chosen(candidates, budget, prices=None, have=X):
    prices = prices or {part: 1.0 for one in candidates for part in one.parts}
    return design(curve_of("chinchilla", PARAMS, ("size", "data")), have, FAR, candidates, prices, budget, 0.02)


def test_the_jacobian_is_that_of_the_form():
    e, a, b, alpha, beta = PARAMS
    n, d = X.T
    loss = e + a * n**-alpha + b * d**-beta
    by_hand = [
        np.full(9, e),
        a * n**-alpha,
        b * d**-beta,
        -alpha * np.log(n) * a * n**-alpha,
        -beta * np.log(d) * b * d**-beta,
    ]
    found = relative_jacobian(chinchilla(), PARAMS[None], X)[0]
    np.testing.assert_allclose(found, np.stack(by_hand, axis=1) / loss[:, None], rtol=1e-6)


def test_what_is_left_of_the_interval_is_that_of_the_information_matrix():
    new = np.array([[1e7, 1e6], [3e7, 3e6]])
    [pick] = chosen([Candidate(new, {"both"})], 5.0)
    form, ridge = chinchilla(), (0.02 / 3.0) ** 2 * np.eye(5)
    goal = relative_jacobian(form, PARAMS[None], FAR[None])[0, 0]

    def variance(x):
        rows = relative_jacobian(form, PARAMS[None], x)[0]
        return 1 + goal @ np.linalg.solve(rows.T @ rows + ridge, goal)

    assert pick.left == pytest.approx(np.sqrt(variance(np.vstack([X, new])) / variance(X)))


def test_an_expensive_run_waits_and_a_shared_part_is_paid_once():
    near, far = np.array([[1e7, 1e6]]), np.array([[5e7, 5e6]])
    [first, *_] = chosen([Candidate(near, {"a"}), Candidate(far, {"b"})], 10.0)
    assert first.index == 1
    [first, *_] = chosen([Candidate(near, {"a"}), Candidate(far, {"b"})], 200.0, {"a": 1.0, "b": 100.0})
    assert first.index == 0
    both = [Candidate(far, {"bank", "a"}), Candidate(far, {"bank", "b"})]
    picks = chosen(both, 12.0, {"bank": 10.0, "a": 1.0, "b": 1.0})
    assert [pick.cost for pick in picks] == [11.0, 1.0]
    assert len(chosen(both, 11.5, {"bank": 10.0, "a": 1.0, "b": 1.0})) == 1
    assert chosen(both, 5.0, {"bank": 10.0, "a": 1.0, "b": 1.0}) == []


def test_past_the_end_of_a_law_nothing_is_proposed():
    fallen = curve_of("log", np.array([1.0, 0.1]), ("data",))
    with pytest.raises(InputError, match="says nothing there"):
        design(fallen, np.array([[10.0], [100.0]]), np.array([1e6]), [], {}, 1.0, 0.02)


@pytest.mark.slow
def test_a_design_reaches_the_grids_interval_for_at_most_half_of_its_compute():
    ratios = []
    for seed in range(3):
        trial = Trial(seed, 1 / 600)
        cost, width, _ = trial.measured(list(range(25)))  # one pass over the plain grid
        ratios.append(reached(trial.designed(0.5), width) / cost)
    assert np.median(ratios) <= 0.5 and min(ratios) > 0
    assert TARGET[0] > X[:, 0].min()
