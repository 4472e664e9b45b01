"""The loss against a reference bank: the students' own where it is their teacher, by hand where it is not."""

import jax
import numpy as np
import pytest

from scaling.contract.normaliser import Normaliser
from scaling.distill.reference import reference_losses
from scaling.distill.student import Student


def test_on_their_own_bank_it_is_val_loss_and_on_another_it_is_not(group, fresh, teachers):
    students = []
    for number in range(2):
        one = group.teachers[0].valset  # both as if the first bank had taught them
        params = jax.tree.map(lambda x, number=number: np.asarray(x[number]), fresh)
        students.append(Student(group.student, params, Normaliser(*one.normaliser), one.action_scale))
    own = np.nanmean(group.val_loss(fresh), axis=1)
    assert reference_losses(students, teachers[0].valset)[0] == pytest.approx(own[0], rel=1e-4)
    other = reference_losses(students, teachers[1].valset)
    assert abs(other[0] - own[0]) > 1e-3


def test_it_compares_actions_whatever_their_units(group, fresh, teachers):
    held = teachers[0].valset
    params = jax.tree.map(lambda x: np.asarray(x[0]), fresh)
    plain = Student(group.student, params, Normaliser(*held.normaliser), held.action_scale)
    head = params["head"] | {name: values / 2 for name, values in params["head"].items()}
    halved = Student(group.student, {**params, "head": head}, plain.normaliser, 2 * held.action_scale)
    np.testing.assert_allclose(*(reference_losses([one], held) for one in (plain, halved)), rtol=1e-5)
