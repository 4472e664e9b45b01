"""The robot equals its published figures and an independent model's kinematics."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.robot import g1
from scaling.robot.figures import JOINTS
from scaling.robot.kinematics import body_velocities, forward_kinematics, soles
from scaling.robot.model import CONVERGED, FULL, STANDARD, TWIN, PhysicsOptions, build_model


@pytest.fixture(scope="module")
def model():
    return build_model()


def test_sizes_and_mass(model):
    assert (model.nq, model.nv, model.nu) == (36, 35, 29)
    assert model.body_mass.sum() == pytest.approx(33.34, abs=0.005)


def test_joint_limits_are_radians_of_the_figures(model):
    # MjSpec takes angles as degrees unless told otherwise: once, limits 57x too tight held every joint at zero.
    for joint in JOINTS:
        assert model.joint(joint.name).range == pytest.approx([joint.low, joint.high], abs=1e-9)


def test_servos_reach_their_targets(model):
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.qpos[2] += 1.0
    start = data.qpos[7:].copy()
    data.ctrl[:] = start + 0.1
    free = build_model()
    free.opt.gravity[:] = 0.0
    for _ in range(400):
        mujoco.mj_step(free, data)
    assert data.qpos[7:] - start == pytest.approx(0.1, abs=0.02)


def test_gains_follow_from_the_armature(shared):
    rows = np.genfromtxt(shared / "robot" / "g1_joints.tsv", delimiter="\t", names=True, dtype=None, encoding=None)
    assert pytest.approx(rows["kp_Nm_rad"], rel=1e-7) == g1.KP
    assert pytest.approx(rows["kd_Nms_rad"], rel=1e-7) == g1.KD
    assert pytest.approx(rows["action_scale_rad"], rel=1e-7) == g1.ACTION_SCALE
    assert tuple(rows["joint"]) == g1.JOINT_NAMES


def test_kinematics_equal_the_independent_reference(shared):
    reference = np.load(shared / "robot" / "g1_fk_reference.npz")
    position, quat = forward_kinematics(reference["qpos"])
    assert tuple(reference["body_names"]) == g1.BODY_NAMES
    assert np.abs(position - reference["body_pos"]).max() < 1e-6
    flipped = np.minimum(np.abs(quat - reference["body_quat"]), np.abs(quat + reference["body_quat"]))
    assert flipped.max() < 1e-6


def test_velocities_equal_mujoco(model):
    rng = np.random.default_rng(0)
    data = mujoco.MjData(model)
    data.qpos[:] = g1.standing_qpos() + 0.1 * rng.normal(size=36)
    data.qvel[:] = rng.normal(size=35)
    mujoco.mj_normalizeQuat(model, data.qpos)
    mujoco.mj_forward(model, data)
    linear, angular = body_velocities(data.qvel, *forward_kinematics(data.qpos))
    for body in range(30):
        six = np.zeros(6)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body + 1, six, 0)
        assert angular[body] == pytest.approx(six[:3], abs=1e-9)
        assert linear[body] == pytest.approx(six[3:], abs=1e-9)


def test_derivatives_of_kinematics_equal_finite_differences():
    """Of positions, orientations and velocities, in every coordinate; the quaternion is not of unit length."""
    rng = np.random.default_rng(1)
    qpos, qvel = g1.standing_qpos() + 0.3 * rng.normal(size=36), rng.normal(size=35)
    weights = [rng.normal(size=shape) for shape in ((30, 3), (30, 4), (30, 3), (30, 3))]

    def total(qpos, qvel):
        position, quat = forward_kinematics(qpos)
        parts = (position, quat, *body_velocities(qvel, position, quat))
        return sum((weight * part).sum() for weight, part in zip(weights, parts, strict=True))

    found = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32))
    step = 1e-6
    for which, (given, gradient) in enumerate(zip((qpos, qvel), found, strict=True)):
        for index in range(len(given)):
            sides = []
            for sign in (1.0, -1.0):
                moved = given.copy()
                moved[index] += sign * step
                sides.append(total(*((moved, qvel) if which == 0 else (qpos, moved))))
            assert gradient[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=2e-4, rel=1e-4)


def test_standing_pose_touches_the_floor_with_both_feet():
    heights = soles(g1.standing_qpos())[..., 2]
    assert heights.min() == pytest.approx(0.0, abs=1e-9)
    assert heights.max() < 0.002


def test_a_diverged_state_is_not_reset_silently(model):
    data = mujoco.MjData(model)
    data.qvel[0] = np.nan
    mujoco.mj_step(model, data)
    assert not np.isfinite(data.qpos).all()


def test_full_contacts_leave_the_standing_robot_in_peace():
    full = build_model(FULL)
    data = mujoco.MjData(full)
    mujoco.mj_resetDataKeyframe(full, data, 0)
    mujoco.mj_forward(full, data)
    assert data.ncon > 0
    assert all(0 in full.geom_bodyid[[contact.geom1, contact.geom2]] for contact in data.contact)


def test_a_body_meets_the_floor_and_never_itself():
    lying = build_model(TWIN)
    data = mujoco.MjData(lying)
    mujoco.mj_resetDataKeyframe(lying, data, 0)
    mujoco.mj_forward(lying, data)
    standing = data.ncon
    assert standing > 0
    data.qpos[2:7] = 0.05, np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0  # on its face, with arms and legs through each other
    data.qpos[7:] = 0.5
    mujoco.mj_forward(lying, data)
    assert data.ncon > standing
    assert all(0 in lying.geom_bodyid[[contact.geom1, contact.geom2]] for contact in data.contact)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"timestep": 0.01, "substeps": 2}, "0.01"), ({"iterations": 2}, "iterations 2"), ({"substeps": 3}, "substeps 3")],
)
def test_physics_known_to_be_wrong_is_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        PhysicsOptions(**changes)


def test_presets_step_one_control_period():
    for options in (STANDARD, FULL, CONVERGED, TWIN):
        assert options.timestep * options.substeps == pytest.approx(0.02)
