"""Label conflict: planted on two experts who share states, absent where they share none or agree."""

import jax
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.distill.conflict import Conflict, label_conflict
from scaling.distill.valset import ValSet, load_conflict
from scaling.experts import bank as experts
from tests.distill.samples import ALL, SEEN, linear_bank
from tests.distill.test_loss import huber

PLAIN = Normaliser(np.zeros(SEEN, np.float32), np.ones(SEEN, np.float32))
SCALE = np.full(29, 0.5, np.float32)


def states(centres, spread=0.1, frames=20):
    """One sequence about each centre (a constant for all terms)."""
    noise = np.random.default_rng(0).normal(size=(len(centres), frames, ALL)) * spread
    return (np.array(centres)[:, None, None] + noise).astype(np.float32)


def by_hand(bank, expert, obs):
    """Actions of each sequence's expert."""
    out = experts.act(bank, np.stack([obs.reshape(-1, ALL)] * bank.experts))
    return np.stack([np.asarray(out[k]).reshape(*obs.shape[:2], 29)[row] for row, k in enumerate(expert)])


def test_planted_conflict_is_found_where_states_are_shared_and_nowhere_else():
    # Sequences 0 and 1 lead through one place under two experts; 2 and 3 are another place of expert 0 alone.
    bank, expert = linear_bank(2, 0, 1.0), np.array([0, 1, 0, 0])
    obs = states([0.0, 0.0, 3.0, 3.0])
    found = label_conflict(bank, expert, np.arange(4), obs, by_hand(bank, expert, obs), PLAIN, SCALE)
    assert found.share == pytest.approx(0.5)
    shared, other = obs[:2], 1 - expert[:2]
    apart = (by_hand(bank, expert[:2], shared) - by_hand(bank, other, shared)) / SCALE
    assert found.loss == pytest.approx(huber(apart).mean(), rel=1e-4)
    assert found.loss > 0.05


def test_experts_that_agree_have_none_and_a_bank_of_one_has_no_conflict():
    bank = linear_bank(1, 0, 1.0)
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), bank)
    expert, obs = np.array([0, 1]), states([0.0, 0.0])
    label = by_hand(twice, expert, obs)
    assert label_conflict(twice, expert, expert, obs, label, PLAIN, SCALE) == (pytest.approx(0.0, abs=1e-8), 1.0)
    assert label_conflict(bank, 0 * expert, expert, obs, label, PLAIN, SCALE) is None


def test_experts_far_apart_share_no_state():
    bank, expert = linear_bank(2, 0, 1.0), np.array([0, 0, 1, 1])
    obs = states([0.0, 0.0, 5.0, 5.0])
    found = label_conflict(bank, expert, np.arange(4), obs, by_hand(bank, expert, obs), PLAIN, SCALE)
    assert found == Conflict(None, 0.0)


def test_it_is_kept_with_the_validation_set(teachers, tmp_path):
    for number, teacher in enumerate(teachers):
        teacher.valset.save(tmp_path / str(number))
        assert load_conflict(tmp_path / str(number)) == teacher.valset.conflict
        assert ValSet.load(tmp_path / str(number)).conflict == teacher.valset.conflict
    two, one = (teacher.valset.conflict for teacher in teachers)
    assert one is None
    assert 0 <= two.share <= 1
