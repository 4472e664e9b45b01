"""Randomisation: figures within their ranges, and noise, bias, delay and pushes that do what their names say."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from scaling.contract.action import decode_action
from scaling.contract.observation import EXPERT_TERMS, TERMS, noise_scale
from scaling.robot.g1 import BODY_NAMES
from scaling.robot.model import build_model
from scaling.tracking import randomise
from scaling.tracking.env import EnvConfig, TrackingEnv
from scaling.tracking.physics import PhysicsState
from scaling.tracking.randomise import PRESETS, Randomisation, draw_models
from scaling.tracking.reference import frame_at

COUNT = 64


def test_presets_are_the_published_figures():
    assert PRESETS["none"] == Randomisation()
    assert replace(PRESETS["beyondmimic"], variants=1) == Randomisation(
        friction=(0.3, 1.2), torso_com=(0.025, 0.05, 0.05), observation_noise=1.0, encoder_bias=0.01,
        push_seconds=(1.0, 3.0), push_axes=0.5,
    )  # fmt: skip
    assert replace(PRESETS["humanoid-gpt"], variants=1) == Randomisation(
        friction=(0.4, 1.5), frictionloss=(0.75, 1.25), mass=(0.75, 1.25), gains=(0.75, 1.25), armature=(1.0, 1.05),
        torso_com=(0.15, 0.15, 0.15), push_seconds=(5.0, 10.0), push_speed=(0.1, 1.0),
    )  # fmt: skip
    assert PRESETS["beyondmimic"].variants == PRESETS["humanoid-gpt"].variants == 32


def test_every_figure_of_a_robot_is_drawn_within_its_range(monkeypatch):
    def with_dry_friction(*arguments):
        model = build_model(*arguments)
        model.dof_frictionloss[6:] = 0.1
        return model

    monkeypatch.setattr(randomise, "build_model", with_dry_friction)
    nominal, *varied = draw_models(replace(PRESETS["humanoid-gpt"], variants=9))
    reference = with_dry_friction()
    for name in ("geom_friction", "body_mass", "dof_armature", "body_ipos"):
        assert np.array_equal(getattr(nominal, name), getattr(reference, name)), name
    torso = 1 + BODY_NAMES.index("torso_link")
    joints, bodies = slice(6, None), slice(1, None)
    for name, index, low, high in (
        ("geom_friction", np.index_exp[:, 0], 0.4, 1.5),
        ("body_mass", np.index_exp[bodies], 0.75, 1.25),
        ("actuator_gainprm", np.index_exp[:, 0], 0.75, 1.25),
        ("actuator_biasprm", np.index_exp[:, 1], 0.75, 1.25),
        ("actuator_biasprm", np.index_exp[:, 2], 0.75, 1.25),
        ("dof_armature", np.index_exp[joints], 1.0, 1.05),
        ("dof_frictionloss", np.index_exp[joints], 0.75, 1.25),
    ):
        ratio = np.stack([getattr(model, name)[index] / getattr(nominal, name)[index] for model in varied])
        assert ratio.min() >= low and ratio.max() <= high, name
        assert ratio.max() - ratio.min() > 0.5 * (high - low), name
        assert len(np.unique(ratio.mean(axis=1))) == len(varied), name
    offsets = np.stack([model.body_ipos[torso] - nominal.body_ipos[torso] for model in varied])
    assert 0.05 < np.abs(offsets).max() <= 0.15
    # The proportional gain and its bias stay one figure, and the derived figures follow.
    for model in varied:
        assert model.actuator_gainprm[:, 0] == pytest.approx(-model.actuator_biasprm[:, 1])
        data = mujoco.MjData(model)
        assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
        mujoco.mj_forward(model, data)
        assert np.isfinite(data.qacc).all()


def test_what_is_off_is_not_there(store, echo, make_task):
    env, state = begun(echo, make_task)
    extra = {name: getattr(state, name) for name in state._fields if getattr(state, name) is None}
    assert set(extra) == {"push_in", "encoder_bias", "latency", "pending", "anchor", "failures"}
    observe = jax.jit(env.observe)
    assert np.array_equal(observe(state, store, jax.random.key(0)), observe(state, store))


def begun(echo, make_task, start_noise=0.0, **changes):
    """An environment and a start in it that leaves the clips room to go on."""
    env = TrackingEnv(echo, EnvConfig(start_noise=start_noise, randomisation=Randomisation(**changes)))
    state = jax.jit(env.start, static_argnums=2)(jax.random.key(0), make_task(), COUNT)
    frame = jnp.minimum(state.frame, 100)
    return env, state._replace(frame=frame, physics=PhysicsState(*frame_at(make_task().store, state.clip, frame)))


def actions(step):
    return 0.1 * jax.random.normal(jax.random.fold_in(jax.random.key(1), step), (COUNT, 29))


def one_step(env, make_task, state):
    return jax.jit(env.step)(jax.random.key(2), make_task(), state, actions(0))


def played(env, make_task, state, steps):
    """The state and those that follow it, nobody starting again."""
    run, states = jax.jit(env.control_step), [state]
    for step in range(steps):
        states.append(run(jax.random.fold_in(jax.random.key(2), step), make_task(), states[-1], actions(step)))
    return states


@pytest.fixture(scope="module")
def clean(echo, make_task):
    """One step without any randomisation: the start, what follows, and what was seen."""
    env, state = begun(echo, make_task)
    return state, *one_step(env, make_task, state)


def test_noise_is_in_what_is_observed_and_nowhere_else(echo, make_task, clean):
    env, state = begun(echo, make_task, observation_noise=2.0)
    after, noisy = one_step(env, make_task, state)
    start, clean_after, seen = clean
    assert jax.tree.all(jax.tree.map(np.array_equal, (state, after), (start, clean_after)))
    for name in ("reward", "failed", "truncated", "joint_error", "body_error"):
        assert np.array_equal(getattr(seen, name), getattr(noisy, name)), name
    apart, width = np.asarray(noisy.obs - seen.obs), 2.0 * noise_scale(EXPERT_TERMS)
    assert (np.abs(apart) <= width + 1e-6).all()
    assert apart[:, width > 0].std(axis=0) == pytest.approx(width[width > 0] / np.sqrt(3), rel=0.4)
    # Another step, another draw; and none where the observation is asked for without a key.
    observe = jax.jit(env.observe)
    first, second = (np.asarray(observe(after, make_task().store, jax.random.key(seed))) for seed in (8, 9))
    assert np.array_equal(first[:, width == 0], second[:, width == 0]) and (width == 0).any()
    assert (first[:, width > 0] != second[:, width > 0]).mean() > 0.99
    assert np.asarray(observe(after, make_task().store)) == pytest.approx(np.asarray(seen.obs), abs=1e-5)


def block(obs, name):
    start = sum(TERMS[term].dim for term in EXPERT_TERMS[: EXPERT_TERMS.index(name)])
    return np.asarray(obs)[:, start : start + TERMS[name].dim]


def test_an_encoders_bias_is_measured_and_held_by_the_servo_for_the_episode(echo, make_task, clean):
    env, state = begun(echo, make_task, encoder_bias=0.01)
    after, out = one_step(env, make_task, state)
    _, _, straight = clean
    bias = np.asarray(state.encoder_bias)
    assert 0.009 < np.abs(bias).max() <= 0.01 and bias.std() == pytest.approx(0.01 / np.sqrt(3), rel=0.05)
    going = ~np.asarray(out.done)
    assert going.all() and np.array_equal(after.encoder_bias, bias)
    # The joints of this physics are where the servo holds them: off by the bias, which the encoder hides again.
    assert np.abs(np.asarray(out.joint_error - straight.joint_error)).max() > 1e-4
    assert block(out.obs, "joint_error") == pytest.approx(block(straight.obs, "joint_error"), abs=1e-6)


@pytest.mark.parametrize("latency", [(0, 0), (2, 2), (0, 3)])
def test_the_action_at_work_is_so_many_steps_old(echo, make_task, latency):
    store, steps = make_task().store, 5
    env, state = begun(echo, make_task, latency=latency)
    states = played(env, make_task, state, steps)
    delay = np.zeros(COUNT, int) if state.latency is None else np.asarray(state.latency)
    assert set(delay) == set(range(latency[0], latency[1] + 1))
    for step in range(steps):
        then = step - delay
        chosen = jnp.stack([actions(t)[row] if t >= 0 else jnp.zeros(29) for row, t in enumerate(then.tolist())])
        wanted = decode_action(chosen, *frame_at(store, state.clip, state.frame + then))
        assert np.asarray(states[step + 1].physics.qpos[:, 7:]) == pytest.approx(np.asarray(wanted), abs=1e-5)
        assert np.asarray(states[step + 1].last_action) == pytest.approx(np.asarray(actions(step)))


@pytest.mark.parametrize("mechanism", [{"push_speed": (0.2, 0.6)}, {"push_axes": 0.5}])
def test_pushes_change_the_velocity_when_they_are_due(echo, make_task, mechanism):
    env, state = begun(echo, make_task, push_seconds=(0.06, 0.1), **mechanism)
    kicks, waits = [], []
    for before, after in pairwise(played(env, make_task, state, 12)):
        kick = np.asarray(after.physics.qvel - before.physics.qvel)
        due, wait = np.asarray(before.push_in) <= 1, np.asarray(after.push_in)
        assert (kick[~due] == 0).all() and (kick[:, 2:] == 0).all()
        assert (wait[~due] == np.asarray(before.push_in)[~due] - 1).all()
        kicks.append(kick[due][:, :2])
        waits.append(wait[due])
    kicks, waits = np.concatenate(kicks), np.concatenate(waits)
    assert len(kicks) > 50 and set(waits) == {3, 4, 5}
    speed, axes = np.linalg.norm(kicks, axis=1), np.abs(kicks).max(axis=0)
    if "push_speed" in mechanism:
        assert 0.2 - 1e-6 <= speed.min() < 0.25 and 0.55 < speed.max() <= 0.6 + 1e-6
        assert np.abs((kicks / speed[:, None]).mean(axis=0)).max() < 0.25  # any direction
    else:
        assert (axes > 0.45).all() and (axes <= 0.5).all() and speed.max() > 0.5


def test_everything_is_drawn_again_in_a_new_episode(echo, make_task):
    env, before = begun(echo, make_task, 1.0, encoder_bias=0.01, latency=(0, 3), push_seconds=(1.0, 3.0), push_axes=0.5)
    after, out = one_step(env, make_task, before._replace(age=before.age + 10_000))
    assert bool(out.done.all())
    for name in ("clip", "frame", "variant", "latency", "push_in", "encoder_bias"):
        old, new = np.asarray(getattr(before, name)), np.asarray(getattr(after, name))
        assert (old != new).mean() > 0.1, name
    assert not np.asarray(after.pending).any() and not np.asarray(after.last_action).any()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"latency": (0, 4)}, "latency"),
        ({"encoder_bias": -0.1}, "encoder_bias -0.1"),
        ({"observation_noise": float("nan")}, "observation_noise"),
        ({"push_speed": (1.0, 0.1)}, "push_speed"),
        ({"frictionloss": (0.0, 1.0)}, "frictionloss"),
        ({"push_seconds": (3.0, 1.0)}, "push_seconds"),
        ({"variants": 0}, "variants 0"),
    ],
)
def test_bad_ranges_are_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        Randomisation(**changes)
