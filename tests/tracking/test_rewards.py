"""Every term of every preset and every termination against figures worked out from C MuJoCo, NumPy and SciPy."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scaling.robot.figures import CAPSULES
from scaling.robot.g1 import BODY_NAMES, KEYPOINTS, RANGE_HIGH, RANGE_LOW, standing_qpos
from scaling.robot.model import build_model
from scaling.tracking import rewards, terminations
from scaling.tracking.collisions import FIRST, LINK_PAIR, SECOND
from scaling.tracking.errors import tracking_errors

TORSO = BODY_NAMES.index("torso_link")
KEYS = [BODY_NAMES.index(name) for name in KEYPOINTS]
ENDS = [BODY_NAMES.index(f"{side}_{name}_link") for name in ("ankle_roll", "wrist_yaw") for side in ("left", "right")]


def case(seed, spread):
    """A robot, its reference, their velocities, an action and the one before; `spread` scales how far they differ."""
    rng = np.random.default_rng(seed)
    reference = standing_qpos()
    reference[:3] += rng.normal(size=3)
    reference[3:7] = Rotation.from_rotvec([0.0, 0.0, rng.normal()]).as_quat(scalar_first=True)
    reference[7:] = np.clip(reference[7:] + 0.3 * rng.normal(size=29), RANGE_LOW, RANGE_HIGH)
    robot = reference.copy()
    robot[:3] += spread * np.array([0.2, -0.3, 0.1]) * rng.normal(size=3)
    turn = Rotation.from_rotvec(0.3 * spread * rng.normal(size=3)) * turn_of(reference[3:7])
    robot[3:7] = turn.as_quat(scalar_first=True)
    robot[7:] += 0.2 * spread * rng.normal(size=29)
    velocities = rng.normal(size=(2, 35))
    return robot, spread * velocities[0], reference, velocities[1], rng.normal(size=29), rng.normal(size=29)


def folded():
    """A robot whose hands are in its belly and whose knees are beyond their range, well tracked."""
    robot, qvel, reference, reference_qvel, action, last = case(7, 0.05)
    for side, sign in (("left", 1), ("right", -1)):
        for name, angle in (("shoulder_pitch", 0.2), ("shoulder_yaw", -1.3 * sign), ("elbow", 0.1)):
            robot[6 + BODY_NAMES.index(f"{side}_{name}_link")] = angle
        robot[6 + BODY_NAMES.index(f"{side}_knee_link")] = -0.3
    return robot, qvel, reference, reference_qvel, action, last


def turn_of(wxyz):
    return Rotation.from_quat(wxyz, scalar_first=True)


def heading(turn):
    forward = turn.apply([1.0, 0.0, 0.0])
    return Rotation.from_rotvec([0.0, 0.0, np.arctan2(forward[1], forward[0])])


CASES = {"near": case(1, 0.1), "far": case(2, 1.0), "folded": folded()}


def bodies(model, qpos, qvel):
    """Position, orientation, linear and angular velocity of every body by C MuJoCo, and its data."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    six = np.zeros((30, 6))
    for body in range(30):
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body + 1, six[body], 0)
    return data.xpos[1:].copy(), turn_of(data.xquat[1:]), six[:, 3:], six[:, :3], data


@pytest.fixture(scope="module")
def model():
    return build_model()


def quantities(model, robot, qvel, reference, reference_qvel, action, last):
    """What the presets are made of, in words of the sources."""
    pos, rot, lin, ang, data = bodies(model, robot, qvel)
    ref_pos, ref_rot, ref_lin, ref_ang, _ = bodies(model, reference, reference_qvel)
    turn = heading(rot[TORSO] * ref_rot[TORSO].inv())
    anchor = np.array([*pos[TORSO, :2], ref_pos[TORSO, 2]])
    carried = anchor + turn.apply(ref_pos - ref_pos[TORSO])
    rotation = (rot.inv() * (turn * ref_rot)).as_rotvec()
    middle, half = 0.5 * (RANGE_LOW + RANGE_HIGH), 0.475 * (RANGE_HIGH - RANGE_LOW)
    ids = [model.geom(capsule.name).id for capsule in CAPSULES]
    gaps = [mujoco.mj_geomDistance(model, data, ids[a], ids[b], 10.0, None) for a, b in zip(FIRST, SECOND, strict=True)]
    return {
        "torso_position": np.linalg.norm(pos[TORSO] - ref_pos[TORSO]),
        "torso_angle": (rot[TORSO].inv() * ref_rot[TORSO]).magnitude(),
        "torso_height": abs(pos[TORSO, 2] - ref_pos[TORSO, 2]),
        "torso_gravity": abs(rot[TORSO].inv().apply([0, 0, -1])[2] - ref_rot[TORSO].inv().apply([0, 0, -1])[2]),
        "pelvis_height": abs(pos[0, 2] - ref_pos[0, 2]),
        "pelvis_angle": (rot[0].inv() * ref_rot[0]).magnitude(),
        "ends": np.abs(pos[ENDS, 2] - ref_pos[ENDS, 2]),
        "position": (pos - carried)[KEYS],
        "rotation": rotation[KEYS],
        "linear": (lin - ref_lin)[KEYS],
        "angular": (ang - ref_ang)[KEYS],
        "action_rate": np.sum((action - last) ** 2),
        "excess": np.sum(np.maximum(np.abs(robot[7:] - middle) - half, 0.0)),
        "collisions": len({pair for pair, gap in zip(LINK_PAIR.tolist(), gaps, strict=True) if gap < 0}),
        "joints": robot[7:] - reference[7:],
    }


def expected(q):
    """Value of every term by preset."""

    def near(error, sigma):
        return np.exp(-np.mean(np.sum(error**2, axis=1)) / sigma**2)

    lower = np.array([any(part in name for part in ("pelvis", "hip", "knee", "ankle")) for name in KEYPOINTS])
    weight = np.where(lower, 1.5, 0.75) / 14

    def links(error, sharpness):
        return np.sum(weight * np.exp(-sharpness * np.abs(error).sum(axis=1)))

    shared = {
        "torso_position": (0.5, np.exp(-(q["torso_position"] ** 2) / 0.09)),
        "torso_orientation": (0.5, np.exp(-(q["torso_angle"] ** 2) / 0.16)),
        "body_position": (1.0, near(q["position"], 0.3)),
        "body_orientation": (1.0, near(q["rotation"], 0.4)),
        "body_linear_velocity": (1.0, near(q["linear"], 1.0)),
        "body_angular_velocity": (1.0, near(q["angular"], 3.14)),
        "action_rate": (-0.1, q["action_rate"]),
        "joint_limits": (-10.0, q["excess"]),
    }
    collision = {"self_collision": (-10.0, q["collisions"])}

    def away(error, scale):
        return -np.mean(np.linalg.norm(error, axis=1)) / scale

    absolute = {
        "torso_position": (0.5, -q["torso_position"] / 0.3),
        "torso_orientation": (0.5, -q["torso_angle"] / 0.4),
        "body_position": (1.0, away(q["position"], 0.3)),
        "body_orientation": (1.0, away(q["rotation"], 0.4)),
        "body_linear_velocity": (1.0, away(q["linear"], 1.0)),
        "body_angular_velocity": (1.0, away(q["angular"], 3.14)),
        "joint_position": (2.0, -np.mean(np.abs(q["joints"])) / 0.15),
    }
    return {
        "absolute": absolute | {name: shared[name] for name in ("action_rate", "joint_limits")},
        "beyondmimic": shared | collision,
        "tracking": shared | {"joint_position": (2.0, np.exp(-np.mean(q["joints"] ** 2) / 0.15**2))},
        "humanoid-gpt": {
            "link_position": (1.0, links(q["position"], 1.0)),
            "link_rotation": (1.0, links(q["rotation"], 2.0)),
            "link_velocity": (1.0, links(q["linear"], 0.03)),
            "action_rate": (-0.1, q["action_rate"]),
        }
        | collision,
    }


def measured(robot, qvel, reference, reference_qvel, action, last):
    robot, qvel, reference, reference_qvel, action, last = (
        jnp.asarray(x, jnp.float32)[None] for x in (robot, qvel, reference, reference_qvel, action, last)
    )
    errors = tracking_errors(robot, qvel, reference, reference_qvel)
    return errors, rewards.RewardInputs(errors, robot, action, last)


@pytest.mark.parametrize("name", CASES)
def test_every_term_of_every_preset_by_hand(model, name):
    q = quantities(model, *CASES[name])
    _, inputs = measured(*CASES[name])
    wanted = expected(q)
    assert set(wanted) == set(rewards.PRESETS)
    for preset, terms in rewards.PRESETS.items():
        values = {term.name: float(term.value(inputs)[0]) for term in terms}
        assert {term.name: term.weight for term in terms} == {
            key: weight for key, (weight, _) in wanted[preset].items()
        }
        for key, (_, value) in wanted[preset].items():
            assert values[key] == pytest.approx(value, rel=2e-3, abs=2e-5), (preset, key)
        total = 0.02 * sum(weight * value for weight, value in wanted[preset].values())
        assert float(rewards.reward(preset, inputs)[0]) == pytest.approx(total, rel=2e-3), preset


def test_the_cases_reach_every_term(model):
    q = {name: quantities(model, *values) for name, values in CASES.items()}
    assert q["folded"]["collisions"] > 0 and q["near"]["collisions"] == 0
    assert q["folded"]["excess"] > 0.1
    assert 0.01 < expected(q["far"])["beyondmimic"]["body_position"][1] < 0.9


def test_perfect_tracking_earns_the_sum_of_the_weights():
    qpos, still, zero = standing_qpos(), np.zeros(35), np.zeros(29)
    _, inputs = measured(qpos, still, qpos, still, zero, zero)
    assert float(rewards.reward("beyondmimic", inputs)[0]) == pytest.approx(0.02 * 5.0, rel=1e-3)
    assert float(rewards.reward("tracking", inputs)[0]) == pytest.approx(0.02 * 7.0, rel=1e-3)
    assert float(rewards.reward("humanoid-gpt", inputs)[0]) == pytest.approx(0.02 * 3 * 1.125, rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_every_termination_by_hand(model, name):
    q = quantities(model, *CASES[name])
    errors, inputs = measured(*CASES[name])
    for field in ("torso_height", "torso_gravity", "pelvis_height", "pelvis_angle", "torso_angle"):
        assert float(getattr(errors, field)[0]) == pytest.approx(q[field], abs=2e-4), field
    assert np.asarray(errors.end_effector_height[0]) == pytest.approx(q["ends"], abs=2e-5)
    height = max(q["pelvis_height"], q["torso_height"])
    wanted = {
        "beyondmimic": q["torso_height"] > 0.25 or q["torso_gravity"] > 0.8 or q["ends"].max() > 0.25,
        "sonic": q["pelvis_height"] > 0.25 or q["ends"].max() > 0.25 or q["pelvis_angle"] > 1.0,
        "humanoid-gpt": height > 0.25 or max(q["pelvis_angle"], q["torso_angle"]) > 1.0,
    }
    assert set(wanted) == set(terminations.FAILURES)
    for preset, fails in wanted.items():
        assert bool(terminations.failed(preset, errors, inputs.qpos)[0]) == fails


LIMITS = {
    "beyondmimic": {"torso_height": 0.25, "torso_gravity": 0.8, "end_effector_height": 0.25},
    "sonic": {"pelvis_height": 0.25, "end_effector_height": 0.25, "pelvis_angle": 1.0},
    "humanoid-gpt": {"pelvis_height": 0.25, "torso_height": 0.25, "pelvis_angle": 1.0, "torso_angle": 1.0},
}


@pytest.mark.parametrize("preset", terminations.FAILURES)
def test_terminations_at_their_limits(preset):
    qpos = jnp.asarray(standing_qpos(), jnp.float32)[None]
    good = tracking_errors(qpos, jnp.zeros((1, 35)), qpos, jnp.zeros((1, 35)))
    for field, limit in LIMITS[preset].items():
        value = getattr(good, field)
        for index in np.ndindex(value.shape[1:]):  # one of four end effectors is enough
            for size, fails in ((limit - 0.01, False), (limit + 0.01, True)):
                errors = good._replace(**{field: value.at[(0, *index)].set(size)})
                assert bool(terminations.failed(preset, errors, qpos)[0]) is fails
    # World xy drift and whatever else a preset does not name never fails.
    drift = {field: jnp.full_like(getattr(good, field), 9.0) for field in good._fields if field not in LIMITS[preset]}
    assert not bool(terminations.failed(preset, good._replace(**drift), qpos)[0])
    for bad in (jnp.nan, jnp.inf):
        assert bool(terminations.failed(preset, good, qpos.at[0, 20].set(bad))[0])
