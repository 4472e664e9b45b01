"""Uneven ground: heights as MuJoCo sees them, episodes that stand on it, and a reference measured from it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.robot.model import build_model
from scaling.tracking.env import EnvConfig, TrackingEnv
from scaling.tracking.physics import CPhysics, MjxPhysics, PhysicsState
from scaling.tracking.randomise import Randomisation, draw_models
from scaling.tracking.reference import frame_at
from scaling.tracking.terrain import HALF_SIZE, SPACING, Terrain, draw_floor, ground_of

HILLS = Terrain(roughness_m=0.02, slope_deg=4.0, patches=5)
COUNT = 16


@pytest.fixture(scope="module")
def pool():
    return draw_models(Randomisation(variants=2, terrain=HILLS))


@pytest.fixture(scope="module")
def hills(pool):
    return TrackingEnv(
        CPhysics(models=pool), EnvConfig(start_noise=0.0, randomisation=Randomisation(variants=2, terrain=HILLS))
    )


@pytest.fixture(scope="module")
def begun(hills, make_task):
    return jax.jit(hills.start, static_argnums=2)(jax.random.key(0), make_task(), COUNT)


def cast(model, xy):
    """Height of the first ground that a ray from above meets."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    only_ground, hit = np.array([1, 0, 0, 0, 0, 0], np.uint8), np.zeros(1, np.int32)
    down = np.array([0.0, 0.0, -1.0])
    rays = [mujoco.mj_ray(model, data, np.array([*p, 9.0]), down, only_ground, 1, -1, hit) for p in xy]
    return 9.0 - np.array(rays)


def test_heights_equal_rays_cast_on_each_model(pool):
    ground = ground_of(pool)
    xy = np.random.default_rng(0).uniform(-5.9, 5.9, size=(1500, 2))
    heights = [np.asarray(ground(jnp.full(1500, variant), jnp.asarray(xy, jnp.float32))) for variant in (0, 1)]
    for variant, model in enumerate(pool):
        apart = np.abs(heights[variant] - cast(model, xy))
        # The side of a tilted rug is the one thing above which the two may differ.
        assert np.quantile(apart, 0.995) < 2e-6 and apart.max() < 6e-3
    assert np.abs(heights[0] - heights[1]).mean() > 0.05


def test_rugs_alone_lie_on_the_plane():
    model = build_model(floor=draw_floor(Terrain(patches=6), np.random.default_rng(3)))
    assert model.nhfield == 0 and model.geom("floor").type[0] == mujoco.mjtGeom.mjGEOM_PLANE
    xy = np.random.default_rng(1).uniform(-3, 3, size=(800, 2))
    ground = ground_of([model])
    heights = np.asarray(ground(jnp.zeros(800, jnp.int32), jnp.asarray(xy, jnp.float32)))
    assert heights == pytest.approx(cast(model, xy), abs=1e-6)
    assert set(np.round(heights, 5)) == {0.0, np.float32(0.004)}
    friction = [model.geom(f"rug_{rug}").friction[0] for rug in range(6)]
    assert 0.3 <= min(friction) < max(friction) <= 1.2 and not bool(ground.near_edge(jnp.array([9.0, 0.0])))


def test_bumps_and_slopes_are_as_large_as_they_say():
    rough = draw_floor(Terrain(roughness_m=0.03), np.random.default_rng(0))
    assert np.abs(rough.heights).max() == pytest.approx(0.03)
    steep = draw_floor(Terrain(slope_deg=10.0), np.random.default_rng(0)).heights
    rise = np.gradient(steep, SPACING)
    assert np.hypot(*rise) == pytest.approx(np.tan(np.radians(10.0)))
    # Wrinkles: somewhere the ground rises by most of its amplitude within 15 cm.
    assert np.abs(rough.heights[:, 3:] - rough.heights[:, :-3]).max() > 0.02
    assert draw_floor(Terrain(), np.random.default_rng(0)) is None
    assert ground_of([build_model()]) is None


def test_episodes_start_on_the_ground_near_its_middle(hills, begun, make_task):
    store, ground = make_task().store, hills.physics.ground
    reference, _ = frame_at(store, begun.clip, begun.frame)
    place = np.asarray(begun.anchor + reference[:, :2])
    assert np.linalg.norm(place, axis=1).max() <= 1.0 and place.std() > 0.3
    assert np.asarray(begun.physics.qpos[:, :2]) == pytest.approx(place, abs=1e-6)
    clearance = np.asarray(jax.jit(ground.clearance)(begun.variant, begun.physics.qpos))
    assert clearance.min() > -1e-5
    # Measured from the ground below it, the robot is where its clip is, but for the lift that frees its soles.
    seen = np.asarray(hills.in_clip(begun, reference))
    assert seen[:, :2] == pytest.approx(np.asarray(reference[:, :2]), abs=1e-5)
    lift = seen[:, 2] - np.asarray(reference[:, 2])
    assert lift.min() > -1e-5 and lift.max() < 0.06
    below = np.array([cast(hills.physics._models[v], p[None])[0] for v, p in zip(begun.variant, place, strict=True)])
    assert np.asarray(begun.physics.qpos[:, 2]) - below - lift == pytest.approx(np.asarray(reference[:, 2]), abs=1e-4)
    errors = jax.jit(hills.errors)(store, begun)
    assert np.asarray(errors.pelvis_height) == pytest.approx(lift, abs=1e-5)
    assert float(errors.local_position.max()) < 1e-4


def test_the_reference_follows_the_ground_and_so_do_errors_and_observation(hills, begun, make_task):
    store = make_task().store
    # The same robot in the clip's own world, ten centimetres too high: what a plane's environment says of it.
    reference, velocity = frame_at(store, begun.clip, begun.frame)
    high = reference.at[:, 2].add(0.1)
    plane = TrackingEnv(CPhysics(), EnvConfig())
    flat = begun._replace(physics=PhysicsState(high, velocity), anchor=None)
    offset = np.asarray(begun.physics.qpos[:, :3] - hills.in_clip(begun, reference)[:, :3])
    moved = begun._replace(physics=PhysicsState(high.at[:, :3].add(offset), velocity))
    wanted, got = jax.jit(plane.errors)(store, flat), jax.jit(hills.errors)(store, moved)
    assert float(got.torso_height[0]) == pytest.approx(0.1, abs=1e-5)
    for name in wanted._fields:
        assert np.asarray(getattr(got, name)) == pytest.approx(np.asarray(getattr(wanted, name)), abs=2e-4), name
    seen, flat_seen = jax.jit(hills.observe)(moved, store), jax.jit(plane.observe)(flat, store)
    assert np.asarray(seen) == pytest.approx(np.asarray(flat_seen), abs=1e-5)


def test_a_harnessed_robot_walks_its_hills_and_an_episode_ends_at_their_edge(hills, begun, make_task):
    task, step = make_task(1.0), jax.jit(hills.step)
    state, ages = begun, []
    for number in range(25):
        state, out = step(jax.random.key(number), task, state, jnp.zeros((COUNT, 29)))
        ages.append(np.asarray(state.age))
        assert not bool(out.failed.any())
    assert np.median(ages[-1]) == 25
    clearance = np.asarray(jax.jit(hills.physics.ground.clearance)(state.variant, state.physics.qpos))
    assert clearance.min() > -5e-3
    far = state.physics.qpos.at[:4, 0].set(HALF_SIZE - 0.3)
    going = state.frame < task.store.length[state.clip] - 3
    _, out = step(
        jax.random.key(99), task, state._replace(physics=state.physics._replace(qpos=far)), jnp.zeros((16, 29))
    )
    assert bool(out.done[:4].all()) and not bool((out.done & going)[4:].any())


def test_terrain_that_makes_no_sense_is_refused():
    for changes, word in (
        ({"roughness_m": -0.1}, "roughness_m"),
        ({"slope_deg": 60.0}, "slope_deg"),
        ({"patches": -1}, "patches"),
        ({"patch_friction": (1.0, 0.5)}, "patch_friction"),
    ):
        with pytest.raises(ValueError, match=word):
            Terrain(**changes)


def test_a_plane_is_no_terrain(echo):
    with pytest.raises(InputError, match="stands on a plane"):
        TrackingEnv(echo, EnvConfig(randomisation=Randomisation(terrain=HILLS)))


@pytest.mark.slow
def test_mjx_stands_on_the_same_hills(pool, hills, begun, make_task):
    task = make_task(0.5)
    theirs = TrackingEnv(MjxPhysics(models=pool), hills.config)
    action = 0.3 * jax.random.normal(jax.random.key(6), (COUNT, 29))
    ours, other = hills.advance(task, begun, action), jax.jit(theirs.advance)(task, begun, action)
    change, residual = np.asarray(ours.qvel - begun.physics.qvel), np.asarray(other.qvel - ours.qvel)
    assert 1 - (residual**2).sum() / ((change - change.mean(0)) ** 2).sum() > 0.99
    assert np.abs(np.asarray(other.qpos - ours.qpos)).max() < 5e-3
