"""The loss and its means are what the design says, computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from scaling.contract.normaliser import Normaliser
from scaling.distill.auxiliary import objective
from scaling.distill.loss import by_family, imitation_loss, over_families, smooth_l1
from scaling.distill.rollout import STUDENT_OBS, Frozen
from scaling.students import model
from scaling.students.config import StudentConfig
from scaling.study.config import StudyConfig


def huber(x):
    return np.where(np.abs(x) < 1, 0.5 * x * x, np.abs(x) - 0.5)


def test_smooth_l1_by_hand():
    prediction, target = jnp.array([[0.5, -3.0], [0.0, 1.0]]), jnp.array([[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(smooth_l1(prediction, target), [(0.125 + 3.5) / 2, 0.25], rtol=1e-6)


def test_every_position_is_supervised_those_past_the_windows_end_too():
    """A memory longer than the window: the last label's loss reaches frames that have left the last position's band."""
    student = StudentConfig("transformer", STUDENT_OBS, width=8, depth=2, heads=2, context=4)
    params = model.init(student, jax.random.key(0))
    params = {**params, "head": {**params["head"], "kernel": 100 * params["head"]["kernel"]}}
    obs, label = jax.random.normal(jax.random.key(1), (1, 12, STUDENT_OBS)), jnp.ones((1, 12, 29))
    frozen = Frozen(Normaliser(jnp.zeros(STUDENT_OBS), jnp.ones(STUDENT_OBS)), jnp.ones(29))

    def loss(obs, label, counted):
        start = jnp.zeros((1, 12), bool)
        each = imitation_loss(student, params, frozen.normaliser, frozen.action_scale, obs, start, label)
        return jnp.sum(each * counted), objective(student, params, frozen, obs, start, label)[0]

    everywhere = jax.grad(lambda label: loss(obs, label, 0.0)[1])(label)
    assert float(jnp.abs(everywhere).max(axis=(0, 2)).min()) > 0
    last = jax.grad(lambda obs: loss(obs, label, jnp.arange(12) == 11)[0])(obs)
    reached = np.flatnonzero(np.abs(last).max(axis=(0, 2)))
    assert reached[0] == 12 - student.receptive_field == 5 < 12 - student.context
    study = StudyConfig()
    assert study.dagger.steps >= 2 * study.context and study.dagger.own_steps > study.context


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
