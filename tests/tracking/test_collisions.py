"""Self-collision by geometry equals C MuJoCo's distances and contacts."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.robot.figures import CAPSULES
from scaling.robot.g1 import RANGE_HIGH, RANGE_LOW, standing_qpos
from scaling.robot.model import FULL, build_model
from scaling.tracking.collisions import FIRST, LINK_PAIR, LINK_PAIRS, SECOND, pair_gaps, segment_distance
from scaling.tracking.collisions import self_collisions as collisions

POSES = 60


@pytest.fixture(scope="module")
def poses():
    """[N, 36] joints anywhere within their range, the robot turned anyhow; the first stands."""
    rng = np.random.default_rng(0)
    qpos = np.tile(standing_qpos(), (POSES, 1))
    qpos[1:, 7:] = rng.uniform(RANGE_LOW, RANGE_HIGH, size=(POSES - 1, 29))
    qpos[1:, 3:7] = rng.normal(size=(POSES - 1, 4))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    qpos[:, 2] += 5.0
    return qpos


def test_gaps_and_contacts_equal_c_mujoco(poses):
    model = build_model(FULL)
    data = mujoco.MjData(model)
    ids = np.array([model.geom(capsule.name).id for capsule in CAPSULES])
    pair_of = {
        frozenset((ids[a].item(), ids[b].item())): pair
        for a, b, pair in zip(FIRST, SECOND, LINK_PAIR.tolist(), strict=True)
    }
    gaps, counts = (np.asarray(f(jnp.asarray(poses, jnp.float32))) for f in map(jax.jit, (pair_gaps, collisions)))
    touching = 0
    for row, qpos in enumerate(poses):
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        wanted = [
            mujoco.mj_geomDistance(model, data, ids[a], ids[b], 10.0, None) for a, b in zip(FIRST, SECOND, strict=True)
        ]
        assert gaps[row] == pytest.approx(wanted, abs=5e-6)
        # The full model's contacts know no feet, which collide with the floor alone.
        found = {pair_of.get(frozenset((c.geom1, c.geom2))) for c in data.contact if c.dist < -1e-5} - {None}
        legless = {
            pair for pair, gap, a, b in zip(LINK_PAIR.tolist(), gaps[row], FIRST, SECOND, strict=True)
            if gap < -1e-5 and "_foot" not in CAPSULES[a].name + CAPSULES[b].name
        }  # fmt: skip
        assert found == legless
        assert counts[row] == len({pair for pair, gap in zip(LINK_PAIR, gaps[row], strict=True) if gap < 0})
        touching += len(found)
    assert counts[0] == 0 and touching > 20


def test_pairs_are_of_links_that_are_no_neighbours():
    assert LINK_PAIRS == len(set(LINK_PAIR.tolist())) == 2 * 3 * 6 + 3 * 3 + 3 * 3
    assert len({frozenset(pair) for pair in zip(FIRST.tolist(), SECOND.tolist(), strict=True)}) == len(FIRST)
    names = [{CAPSULES[a].body, CAPSULES[b].body} for a, b in zip(FIRST, SECOND, strict=True)]
    assert all(len(pair) == 2 for pair in names)


def test_the_motions_of_the_generator_hardly_ever_collide(clips):
    qpos = jnp.asarray(np.concatenate([clip.qpos[::5] for clip in clips]), jnp.float32)
    assert float(jnp.mean(jax.jit(collisions)(qpos))) < 0.02


@pytest.mark.parametrize(
    ("a", "half_a", "b", "half_b", "wanted"),
    [
        ([0, 0, 0], [1, 0, 0], [0, 0, 2], [0, 1, 0], 2.0),  # crossing
        ([0, 0, 0], [1, 0, 0], [3, 0, 0], [1, 0, 0], 1.0),  # in line
        ([0, 0, 0], [1, 0, 0], [0.5, 3, 0], [1, 0, 0], 3.0),  # parallel, overlapping
        ([0, 0, 0], [1, 0, 0], [4, 4, 0], [0, 0, 0], 5.0),  # a point
        ([0, 0, 0], [0, 0, 0], [0, 0, 7], [0, 0, 0], 7.0),  # two points
        ([0, 0, 0], [1, 0, 0], [2, 3, 0], [0, 1, 0], np.sqrt(5.0)),  # end to end
    ],
)
def test_segment_distance_by_hand(a, half_a, b, half_b, wanted):
    arrays = [jnp.asarray(x, jnp.float32) for x in (a, half_a, b, half_b)]
    assert float(segment_distance(*arrays)) == pytest.approx(wanted, abs=1e-5)
    assert float(segment_distance(*arrays[2:], *arrays[:2])) == pytest.approx(wanted, abs=1e-5)
