"""The loss and its means are what the design says, computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from scaling.distill.loss import by_family, over_families, smooth_l1
from scaling.students import model


def huber(x):
    return np.where(np.abs(x) < 1, 0.5 * x * x, np.abs(x) - 0.5)


def test_smooth_l1_by_hand():
    prediction, target = jnp.array([[0.5, -3.0], [0.0, 1.0]]), jnp.array([[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(smooth_l1(prediction, target), [(0.125 + 3.5) / 2, 0.25], rtol=1e-6)


def test_a_segment_counts_once_and_a_family_counts_once_however_long():
    loss = jnp.array([[1.0, 1.0, 1.0], [4.0, 2.0, 8.0]])
    segment = jnp.array([[0, 0, 0], [0, 1, 2]])  # segment 3 is never visited
    family = jnp.array([0, 0, 2, 2])  # family 1 has no segment
    means = by_family(loss, segment, family, 3)
    np.testing.assert_allclose(means, [((3 + 4) / 4 + 2) / 2, np.nan, 8.0])
    np.testing.assert_allclose(over_families(means), (1.875 + 8.0) / 2)


def test_a_groups_val_loss_by_hand(group, fresh, corpus, teachers):
    found = group.val_loss(fresh)
    assert group.families == ("arm_wave", "squat")
    for number, run in enumerate(group.runs):
        held = teachers[run.teacher].valset
        params = jax.tree.map(lambda x, number=number: x[number], fresh)
        by_segment = {}
        for row, segment in enumerate(held.segment):
            normal = np.clip((held.obs[row] - held.normaliser.mean) / held.normaliser.std, -10, 10)
            out = model.forward(group.student, params, jnp.asarray(normal[None]), jnp.asarray(held.start[row][None]))
            error = np.asarray(out)[0] - held.label[row] / held.action_scale
            by_segment.setdefault(int(segment), []).append(huber(error))
        assert set(by_segment) == set(corpus.indices("val"))
        means = {segment: np.mean(values) for segment, values in by_segment.items()}
        for place, family in enumerate(group.families):
            mine = [value for segment, value in means.items() if corpus.families[segment] == family]
            np.testing.assert_allclose(found[number, place], np.mean(mine), rtol=1e-4)
    assert abs(found[0] - found[1]).min() > 1e-3  # two banks, two sets
