"""Evaluation: fakes that track perfectly, late, or until they fall give figures known by hand; real physics repeats."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.motion.synthetic import generate
from scaling.robot.g1 import KEYPOINTS, standing_qpos
from scaling.robot.model import build_model
from scaling.tracking.errors import tracking_errors
from scaling.tracking.evaluate import OPEN_LOOP, Policy, aggregate, make_player, random_starts, scores, whole_clips
from scaling.tracking.physics import CPhysics, PhysicsState
from scaling.tracking.randomise import Randomisation
from scaling.tracking.reference import frame_at, pack
from scaling.tracking.scores import ERRORS, judged

FRAMES = 60
ELBOW = 7 + 18  # left elbow in qpos
FALLS = 31  # frame at which the fakes fall or diverge
SHOULDER = 7 + 15  # left shoulder's pitch in qpos
PERFECT, LATE, FALLING, DIVERGING, REACHING = range(5)
FREE = jnp.zeros(())


@pytest.fixture(scope="module")
def store():
    """Sliding off at .5 m/s with an elbow turning at .5 rad/s, and a turn on the spot; no two poses are alike."""
    steady = np.tile(standing_qpos(), (FRAMES, 1))
    steady[:, 0] += 0.01 * np.arange(FRAMES)
    steady[:, ELBOW] += 0.01 * np.arange(FRAMES)
    turn = generate("turn", 4.0, 2).qpos.copy()
    turn[:, 7 + 28] = 0.5 + 2e-3 * np.arange(len(turn))
    return pack([steady, turn])


class Fake:
    """Physics that knows the clips: `variant` says whether it follows perfectly, one frame late, or up to `FALLS`.

    Who is reaching lifts an arm at `FALLS`, which only one protocol minds, and falls ten frames later.
    """

    name, variants = "fake", 5

    def __init__(self, store, ground=None):
        self.store, self.ground = store, ground
        self.clip = jnp.repeat(jnp.arange(2), np.asarray(store.length))
        self.frame = jnp.arange(len(store.qpos)) - store.start[self.clip]

    def step(self, state, ctrl, force, assist, variant):
        index = jnp.argmin(jnp.abs(self.store.qpos[:, 7:] - state.qpos[:, None, 7:]).sum(-1), axis=-1)
        # Who is late does not start at once; the last joint's velocity remembers that it has.
        waits = (variant == LATE) & (state.qvel[:, 34] < 4.0)
        frame = self.frame[index] + jnp.where(waits, 0, 1)
        qpos, qvel = frame_at(self.store, self.clip[index], frame)
        qpos = qpos.at[:, :3].add(state.qpos[:, :3] - self.store.qpos[index, :3])  # where its ground has put it
        qvel = qvel.at[:, 34].add(jnp.where(variant == LATE, 5.0, 0.0))
        reaches = (variant == REACHING) & (frame >= FALLS)
        qpos = qpos.at[:, SHOULDER].add(jnp.where(reaches, -2.0, 0.0))
        down = ((frame == FALLS) & (variant == FALLING)) | ((frame == FALLS + 10) & (variant == REACHING))
        qpos = qpos.at[:, 2].add(jnp.where(down, -0.3, 0.0))
        gone = (frame == FALLS) & (variant == DIVERGING)
        return PhysicsState(jnp.where(gone[:, None], jnp.nan, qpos), qvel)


@pytest.fixture(scope="module")
def players(store):
    """By protocol, the fake under a policy that does nothing; each compiled once."""
    return {protocol: make_player(Fake(store), OPEN_LOOP, protocol) for protocol in ("sonic", "humanoid-gpt")}


@pytest.mark.parametrize(("protocol", "success"), [("sonic", "success_sonic"), ("humanoid-gpt", "success_hgpt")])
def test_perfect_tracking_is_perfect_in_every_figure(players, store, protocol, success):
    starts = whole_clips(store, np.arange(2))
    result = scores(players[protocol](FREE, store, starts, FREE, int(starts.steps.max())))
    assert result.success.all()
    assert result.seconds == pytest.approx(0.02 * (np.asarray(store.length) - 1))
    figures = aggregate(result, protocol)
    assert figures[success] == 1.0
    assert figures[f"{success}_interval"] == pytest.approx([0.342, 1.0], abs=1e-3), "two clips are weak evidence"
    for name in ERRORS:
        assert figures[name] == pytest.approx(0.0, abs=2e-3 if name.endswith("_mm") else 1e-6), name


@pytest.fixture(scope="module")
def imperfect(players, store):
    """Scores of one episode of each kind on the first clip, up to the frame before its last."""
    steps = FRAMES - 2
    starts = whole_clips(store, np.zeros(4, int))._replace(steps=jnp.full(4, steps))
    return scores(players["sonic"](FREE, store, starts, FREE, steps, None, np.arange(4)))


def test_one_play_is_judged_by_each_protocol_as_by_itself(players, store):
    steps, kinds = FRAMES - 2, np.arange(5)
    starts = whole_clips(store, np.zeros(5, int))._replace(steps=jnp.full(5, steps))
    both = make_player(Fake(store), OPEN_LOOP, "sonic", also=("humanoid-gpt",))(
        FREE, store, starts, FREE, steps, None, kinds
    )
    for number, protocol in enumerate(("sonic", "humanoid-gpt")):
        alone = players[protocol](FREE, store, starts, FREE, steps, None, kinds)
        mine = judged(both, number)
        np.testing.assert_array_equal(mine.failed, alone.failed)
        found, wanted = scores(mine), scores(alone)
        for name in ("seconds", "wanted", "success", *ERRORS):
            if "whole" in name:
                assert np.isnan(getattr(found, name)).all(), name
            else:
                np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
        assert found.seconds[REACHING] == pytest.approx(0.02 * (FALLS - 1 + 10 * number))
    with pytest.raises(ValueError, match="nobody's"):
        make_player(Fake(store), OPEN_LOOP, "sonic", also=("nobody's",))


def keypoints(qpos):
    """World positions [T, 14, 3] by MuJoCo."""
    model = build_model()
    data = mujoco.MjData(model)
    found = []
    for row in np.asarray(qpos, np.float64):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        found.append([data.body(name).xpos.copy() for name in KEYPOINTS])
    return np.array(found)


def test_one_frame_late_is_an_error_of_one_frame(imperfect, store):
    assert imperfect.mpjpe_rad[PERFECT] == 0.0
    assert imperfect.mpjpe_rad[LATE] == pytest.approx(0.01 / 29, rel=1e-4)
    assert imperfect.mpjve_rad_s[LATE] == pytest.approx(5.0 / 29, rel=1e-4)
    assert imperfect.root_vel_err[LATE] == pytest.approx(0.0, abs=1e-6)
    body = keypoints(store.qpos[: FRAMES - 1]) - np.asarray(store.qpos[: FRAMES - 1, None, :3])
    lag = np.diff(body, axis=0)
    assert imperfect.mpjpe_l_mm[LATE] == pytest.approx(1000 * np.linalg.norm(lag, axis=-1).mean(), abs=2e-3)
    assert imperfect.mpkpe_hgpt_mm[LATE] == pytest.approx(1000 * np.abs(lag).mean(), abs=2e-3)


def test_a_fallen_robot_waits_where_it_fell(imperfect):
    steps, late = FRAMES - 2, FRAMES - 2 - FALLS  # steps played, and those after the fall
    assert imperfect.success.tolist() == [True, True, False, False]
    assert imperfect.wanted == pytest.approx(0.02 * steps)
    assert imperfect.seconds[[FALLING, DIVERGING]] == pytest.approx(0.02 * (FALLS - 1))
    for name in ("mpjpe_l_mm", "mpkpe_hgpt_mm", "mpjpe_rad", "mpjve_rad_s", "root_vel_err"):
        assert getattr(imperfect, name)[[FALLING, DIVERGING]] == pytest.approx(0.0, abs=2e-3), name
    ramp = 0.01 * np.arange(late + 1)
    assert imperfect.mpjpe_whole_rad[FALLING] == pytest.approx(ramp.sum() / 29 / steps, rel=1e-4)
    # Who is no longer finite waits at the frame before.
    assert imperfect.mpjpe_whole_rad[DIVERGING] == pytest.approx((ramp + 0.01).sum() / 29 / steps, rel=1e-4)
    assert imperfect.mpjve_whole_rad_s[FALLING] == pytest.approx(0.5 / 29 * late / steps, rel=1e-3)
    assert imperfect.root_vel_err_whole[FALLING] == pytest.approx(0.5 / 3 * late / steps, rel=1e-3)
    assert np.isfinite([getattr(imperfect, name) for name in ERRORS]).all()
    assert imperfect.mpkpe_hgpt_whole_mm[FALLING] > 300 / 3 / steps * 0.9, "it lies .3 m too low at one height"


class Raised:
    """Ground that reaches .3 m above its robots' soles, and ends a metre from its middle."""

    def __call__(self, variant, xy):
        return jnp.zeros(xy.shape[:-1])

    def clearance(self, variant, qpos):
        return jnp.full(variant.shape, -0.3)

    def near_edge(self, xy):
        return xy[..., 0] > 1.0


def test_humanoid_gpt_removes_the_first_frames_offset_and_ground_may_end(store):
    starts = random_starts(store, np.zeros(1, int), 16, FRAMES - 1, seed=0)
    play = make_player(Fake(store, Raised()), OPEN_LOOP, "humanoid-gpt")
    trace = play(FREE, store, starts, FREE, FRAMES - 1)
    reference = np.asarray(store.qpos[1:FRAMES])
    assert trace.qpos[0, :, 2] == pytest.approx(reference[0, 2] + 0.3, abs=1e-5), "above its reference all along"
    result = scores(trace)
    assert result.success.all()
    assert result.seconds.tolist() == result.wanted.tolist()
    short = result.wanted < 0.02 * (FRAMES - 1)
    assert 0 < short.sum() < 16, "whoever slides over the edge has played, not failed"


def test_errors_mean_what_the_protocols_say():
    rng = np.random.default_rng(0)
    qpos = np.tile(standing_qpos(), (2, 1))
    qpos[:, :3] += rng.normal(scale=0.2, size=(2, 3))
    qpos[:, 3:7] += rng.normal(scale=0.2, size=(2, 4))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    qpos[:, 7:] += rng.normal(scale=0.1, size=(2, 29))
    qvel = rng.normal(size=(2, 35))
    robot, reference = ((jnp.asarray(qpos[i : i + 1]), jnp.asarray(qvel[i : i + 1])) for i in range(2))
    errors = jax.jit(tracking_errors)(*robot, *reference)
    points, own, local = keypoints(qpos), [], []
    for place, root in zip(points, qpos, strict=True):
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, root[3:7])
        turn = turn.reshape(3, 3)
        heading = np.arctan2(turn[1, 0], turn[0, 0])
        level = np.array([[np.cos(heading), -np.sin(heading), 0], [np.sin(heading), np.cos(heading), 0], [0, 0, 1]])
        own.append((place - root[:3] * [1, 1, 0]) @ level)
        local.append((place - root[:3]) @ turn)
    assert float(errors.own_frame_axes.mean()) == pytest.approx(np.abs(own[0] - own[1]).mean(), rel=1e-4)
    assert float(errors.local_position.mean()) == pytest.approx(
        np.linalg.norm(local[0] - local[1], axis=-1).mean(), rel=1e-4
    )
    assert float(errors.root_velocity[0]) == pytest.approx(np.abs(qvel[0, :3] - qvel[1, :3]).mean(), rel=1e-5)


class Watched(CPhysics):
    """C MuJoCo that counts the robots it steps."""

    def __init__(self):
        super().__init__()
        self.stepped = 0
        rollout = self._pool.rollout

        def counting(models, *more, **named):
            self.stepped += len(models)
            return rollout(models, *more, **named)

        self._pool.rollout = counting


class Everybody(Watched):
    """The same for the same program, but who is to be left out is stepped all the same, from where he was last."""

    _number = 1  # of what is computed: no other's

    def __init__(self):
        super().__init__()
        self._known = None

    def _host(self, qpos, qvel, ctrl, force, *more):
        given = np.concatenate([qpos, qvel], axis=-1)
        resting = ~np.isfinite(given).all(axis=-1, keepdims=True)
        whole = np.where(resting, self._known, given) if resting.any() else given
        ctrl, force = np.nan_to_num(ctrl), np.nan_to_num(force)
        after = super()._host(whole[..., :36], whole[..., 36:], ctrl, force, *more)
        self._known = np.concatenate(after, axis=-1)
        return after


def test_who_has_fallen_is_not_simulated_and_no_figure_changes(store):
    starts = random_starts(store, np.array([1]), 8, 150, seed=0)
    lazy, tireless = Watched(), Everybody()
    with_rest = make_player(lazy, OPEN_LOOP)(FREE, store, starts, FREE, 150)
    all_along = make_player(tireless, OPEN_LOOP)(FREE, store, starts, FREE, 150)
    assert bool(np.asarray(with_rest.failed[-1]).all())
    for name, mine, theirs in zip(with_rest._fields, with_rest, all_along, strict=True):
        assert mine.shape[0] == 150
        assert np.array_equal(mine, theirs), name
    alive = with_rest.valid & ~with_rest.failed
    assert lazy.stepped == alive.sum() + 8, "every step that was survived, and the one of each fall"
    assert tireless.stepped > 1.1 * lazy.stepped


ECHO = Policy(init=lambda batch: (), act=lambda scale, state, obs, first: (scale * obs[:, :29], state))
CHANCES = Randomisation(
    observation_noise=1.0, encoder_bias=0.03, latency=(0, 2), push_seconds=(0.1, 0.1), push_speed=(0.5, 0.5)
)


@pytest.mark.slow
def test_two_runs_agree_to_the_bit_and_another_key_does_not(store):
    starts = random_starts(store, np.arange(2), 4, 40, seed=0)

    def run(seed, randomisation=CHANCES):
        play = make_player(CPhysics(), ECHO, randomisation=randomisation)
        return play(jnp.asarray(0.05), store, starts, FREE, 40, jax.random.key(seed))

    one, two = run(0), run(0)
    for name, mine, theirs in zip(one._fields, one, two, strict=True):
        assert mine.tobytes() == theirs.tobytes(), name
    play = make_player(CPhysics(), ECHO, batched_params=True, randomisation=CHANCES)
    many = jax.tree.map(lambda x: jnp.stack([x, x]), starts)
    both = play(jnp.asarray([0.0, 0.05]), store, many, FREE, 40, jax.random.key(0))
    assert np.abs(both.qpos[0] - one.qpos).max() > 1e-3, "another policy"
    assert both.qpos[1] == pytest.approx(one.qpos, abs=1e-4), "its chances are those of the policy alone"
    other = play(jnp.asarray([0.0, 0.05]), store, many, FREE, 40, jax.random.key(1))
    assert np.abs(other.qpos[1] - one.qpos).max() > 1e-3
