"""Fidelity: what is measured is MuJoCo's own stepping, its figures are right by hand, and finer settings are better."""

from dataclasses import replace

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.motion.synthetic import generate
from scaling.robot.g1 import GROUPS, standing_qpos
from scaling.robot.model import CONVERGED, FULL, STANDARD, build_model
from scaling.tracking.fidelity import Setting, compare, converged, fine, play, speed
from scaling.tracking.physics import CPhysics, PhysicsState
from scaling.tracking.probe import HORIZON, KINDS, HostState, Probe, make_probe

EACH = 6
JOINTS = "joint positions"


@pytest.fixture(scope="module")
def probe():
    clips = {"standing": [generate("squat", 4.0, 0)], "stepping": [generate("step_in_place", 4.0, 0)]}
    return make_probe(clips, build_model(replace(CONVERGED, contacts="full")), EACH, threads=2)


@pytest.fixture(scope="module")
def truth(probe):
    return play(fine(), probe, threads=2)


def test_the_probe_stands_steps_and_falls(probe):
    assert probe.ctrl.shape == (3 * EACH, HORIZON, 29)
    assert np.bincount(probe.kind).tolist() == [EACH] * len(KINDS)
    quat, height = probe.start.qpos[:, 3:7], probe.start.qpos[:, 2]
    upright = 1 - 2 * (quat[:, 1] ** 2 + quat[:, 2] ** 2)  # vertical component of the pelvis' z axis
    falling = probe.kind == KINDS.index("falling")
    assert (upright[~falling] > 0.85).all()
    assert upright[falling].mean() < upright[~falling].mean() - 0.05
    assert (height > 0.4).all()


def test_a_probe_needs_enough_states():
    clips = {kind: [generate("squat", 4.0, 0)] for kind in ("standing", "stepping")}
    model = build_model(STANDARD)
    model.geom_contype[:], model.opt.gravity[2] = 0, -1000.0  # through the floor before a state is taken
    with pytest.raises(ValueError, match="0 states standing, 4 wanted"):
        make_probe(clips, model, 4)


@pytest.mark.parametrize("options", [STANDARD, FULL])
def test_a_presets_setting_is_its_model(options):
    mine, wanted = Setting.of(options).model(), build_model(options)
    for name in ("timestep", "iterations", "ls_iterations", "integrator"):
        assert getattr(mine.opt, name) == getattr(wanted.opt, name)
    assert (mine.geom_contype == wanted.geom_contype).all()
    assert Setting.of(options).substeps == options.substeps


def test_it_plays_what_mujoco_steps(probe):
    """Two control steps by `mj_step`, the solver cold at each, for a setting that `PhysicsOptions` refuses."""
    setting = Setting("mujoco", "euler", 0.01, 2, 5)
    model, row = setting.model(), 2 * EACH
    data = mujoco.MjData(model)
    data.qpos, data.qvel = probe.start.qpos[row], probe.start.qvel[row]
    played = play(setting, probe)
    for step in range(2):
        data.ctrl, data.qacc_warmstart = probe.ctrl[row, step], 0.0
        for _ in range(2):
            mujoco.mj_step(model, data)
        assert played.qpos[row, step] == pytest.approx(data.qpos, abs=1e-12)
        assert played.qvel[row, step] == pytest.approx(data.qvel, abs=1e-10)


def test_it_plays_what_the_environment_steps(probe):
    count = len(probe.kind)
    start = PhysicsState(*(jnp.asarray(x, jnp.float32) for x in probe.start))
    nothing = jnp.zeros((count, 35)), jnp.zeros(count), jnp.zeros(count, jnp.int32)
    after = CPhysics().step(start, jnp.asarray(probe.ctrl[:, 0], jnp.float32), *nothing)
    mine = play(Setting.of(STANDARD), probe)
    assert np.asarray(after.qpos) == pytest.approx(mine.qpos[:, 0], abs=1e-5)


def test_finer_is_better_and_the_reference_is_itself(probe, truth):
    same = compare(truth, truth, probe)
    assert same.states == 3 * EACH and same.diverged == 0.0
    assert set(same.r2) == {*GROUPS, JOINTS} and set(same.r2.values()) == {1.0}
    assert same.qpos_drift == same.qvel_drift == (0.0, 0.0)
    assert same.close == dict.fromkeys(KINDS, 1.0)
    standard, coarse = (
        compare(play(setting, probe, 2), truth, probe)
        for setting in (Setting.of(STANDARD), Setting("mujoco", "implicitfast", 0.01, 2, 5))
    )
    assert min(standard.r2.values()) > 0.9 > min(coarse.r2.values())
    assert standard.qpos_drift[0] < 0.5 * coarse.qpos_drift[0]


def test_ten_iterations_are_converged_with_self_collision(probe):
    setting = Setting.of(FULL)
    found = compare(play(setting, probe, 2), play(converged(setting), probe, 2), probe)
    assert found.qpos_drift[1] < 1e-3
    assert play(setting, probe).qpos[-1] != pytest.approx(play(Setting.of(STANDARD), probe).qpos[-1], abs=1e-6)


def test_figures_by_hand():
    """Three states whose first velocity changes by 0, 1 and 2; the guess says 1 for all and one that is not finite."""
    start = HostState(np.tile(standing_qpos(), (4, 1)), np.zeros((4, 35)))
    shape = (4, HORIZON)
    true_qvel, true_qpos = np.zeros((*shape, 35)), np.tile(standing_qpos(), (*shape, 1))
    true_qvel[:, :, 0] = np.array([0.0, 1.0, 2.0, 5.0])[:, None]
    qvel, qpos = true_qvel.copy(), true_qpos.copy()
    qvel[:, 0, 0] = 1.0
    qpos[0, -1, 9], qpos[1, -1, 9] = true_qpos[0, -1, 9] + 0.1, true_qpos[1, -1, 9] - 5e-4
    qpos[3, -1, 0] = np.nan
    probe = Probe(start, np.zeros((*shape, 29)), np.array([0, 1, 1, 2]))
    found = compare(HostState(qpos, qvel), HostState(true_qpos, true_qvel), probe)
    assert found.states == 4 and found.diverged == 0.25
    assert found.r2["root linear"] == pytest.approx(0.0)  # no better than the mean
    assert found.r2["legs"] is None and found.r2[JOINTS] is None  # nothing to explain
    assert found.qpos_drift[0] == pytest.approx(5e-4)
    assert found.close == {"standing": 0.0, "stepping": 1.0}


def test_speed_counts_control_steps(probe):
    slow, fast = (speed(Setting("mujoco", "euler", dt, 4, 8), probe, repeats=3) for dt in (0.0005, 0.01))
    assert 0 < slow < fast
