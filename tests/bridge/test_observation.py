"""One observation of one state, whoever holds it: MJX and C MuJoCo in training, the robot's messages in the bridge."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from scaling.bridge.clock import VirtualClock
from scaling.bridge.messages import state_message, state_of
from scaling.bridge.runtime import Runtime
from scaling.bridge.safety import State
from scaling.bridge.sim import SimRobot
from scaling.bridge.wire import LOW_STATE, decode, encode, sign
from scaling.contract.observation import STUDENT_TERMS, TERMS
from scaling.robot.model import CONVERGED, build_model
from scaling.tracking.env import TrackingEnv
from scaling.tracking.episode import EnvState
from scaling.tracking.physics import CPhysics, PhysicsState
from scaling.tracking.reference import make_store
from tests.bridge.conftest import OBS, PaperRobot, ZeroPolicy
from tests.bridge.test_runtime import QUICK

FRAMES = range(40, 124, 12)


@pytest.fixture(scope="module")
def moving(squats):
    """`{frame: MjData}` of a robot that turns, tilts and swings near that frame of the clip, some steps into it."""
    model, rng = build_model(CONVERGED), np.random.default_rng(0)
    held = {}
    for frame in FRAMES:
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = squats.qpos[frame], squats.qvel[frame]
        data.qvel[:6] += rng.normal(size=6)
        data.ctrl[:] = squats.qpos[frame, 7:] + 0.2 * rng.normal(size=29)
        for _ in range(20 + frame % 7):
            mujoco.mj_step(model, data)
        held[frame] = data
    return model, held


class Steady(ZeroPolicy):
    def act(self, obs, first):
        super().act(obs, first)
        return np.full(29, 0.01 * len(self.seen))


def shown_by_messages(squats, held, reading_of):
    """What the bridge shows the policy at each frame, where the robot's states come off the wire."""
    clock = VirtualClock()

    def spoil(robot, state):
        data = held.get(runtime.frame) if runtime.machine.state is State.TRACK else None
        if data is not None:
            state = reading_of(data, state)
        message = state_message(state, np.zeros(35), np.zeros(29), round(1e3 * clock.now()))
        sign(message)
        return state_of(decode(encode(message), LOW_STATE), state.stamp)

    robot, policy = PaperRobot(squats, clock, spoil), Steady()
    runtime = Runtime(policy, squats, robot, clock, QUICK, may_leave=lambda state: True)
    runtime.run()
    return np.stack([policy.seen[frame] for frame in held])


def shown_in_training(squats, states):
    """What the environment of training shows, from arrays of its own float32."""
    env = TrackingEnv(CPhysics(CONVERGED))
    store = make_store(squats.qpos, np.array([0]), np.array([squats.frames]))
    count, frames = len(states), jnp.array(list(FRAMES))
    zero = jnp.zeros(count, jnp.int32)
    last = jnp.tile(0.01 * frames[:, None], (1, 29))
    qpos, qvel = (jnp.stack([jnp.asarray(state[n], jnp.float32) for state in states]) for n in (0, 1))
    state = EnvState(PhysicsState(qpos, qvel), zero, frames, zero, last, zero)
    return np.asarray(env.observe(state, store))[:, :OBS]


def by_hand(data, state):
    return state._replace(quat=data.qpos[3:7], gyro=data.qvel[3:6], joint_pos=data.qpos[7:], joint_vel=data.qvel[6:])


def test_training_in_either_physics_the_twin_and_the_messages_show_the_same(squats, standing, moving):
    model, held = moving
    twin = SimRobot(standing, VirtualClock())

    def of_the_twin(data, state):
        twin._data.qpos[:], twin._data.qvel[:] = data.qpos, data.qvel
        return twin.read()._replace(stamp=state.stamp)

    shown = shown_by_messages(squats, held, by_hand)
    np.testing.assert_array_equal(shown, shown_by_messages(squats, held, of_the_twin))
    in_c = shown_in_training(squats, [(data.qpos, data.qvel) for data in held.values()])
    device = [mjx.put_data(model, data) for data in held.values()]
    in_mjx = shown_in_training(squats, [(data.qpos, data.qvel) for data in device])
    np.testing.assert_array_equal(in_mjx, in_c)
    # The wire is float32, and so is training; a joint's velocity reaches tens of rad/s.
    np.testing.assert_allclose(shown, in_c, atol=5e-6, rtol=2e-6)
    names = np.repeat(STUDENT_TERMS, [TERMS[name].dim for name in STUDENT_TERMS])
    for name in STUDENT_TERMS:
        assert np.ptp(shown[:, names == name], axis=0).max() > 1e-3, f"{name} is tested by nothing that moves"


def test_gravity_and_gyro_are_those_of_mujocos_own_body_frame(squats, moving):
    """By MuJoCo's matrices and not by the layout of `qvel`, which could be misread on all sides alike."""
    model, held = moving
    shown = shown_by_messages(squats, held, by_hand)
    pelvis = 1
    for row, data in zip(shown, held.values(), strict=True):
        mujoco.mj_forward(model, data)
        velocity = np.zeros(6)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, pelvis, velocity, 1)
        np.testing.assert_allclose(row[:3], data.xmat[pelvis].reshape(3, 3).T @ [0, 0, -1], atol=1e-6)
        np.testing.assert_allclose(row[3:6], velocity[:3], atol=1e-5)
