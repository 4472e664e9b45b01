"""The perturbation suite: its table, its programs, and that each level changes what it says and nothing else."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.synthetic import generate
from scaling.robot.model import STANDARD
from scaling.tracking.evaluate import OPEN_LOOP, make_player, random_starts, scores
from scaling.tracking.perturb import NOMINAL, SUITE, choose, grouped, played
from scaling.tracking.physics import CPhysics
from scaling.tracking.reference import make_store


def level(name, value):
    return next(one for one in SUITE if (one.name, one.level) == (name, value))


def test_the_suite_and_its_names():
    strengths = {}
    for one in SUITE:
        strengths.setdefault(one.name, []).append(one.level)
    assert strengths == {
        "push": [0.25, 0.5, 1.0],
        "friction": [0.4, 0.7, 1.5],
        "mass": [0.8, 1.2],
        "latency": [1, 2, 3],
        "encoder_bias": [0.01, 0.03],
        "sensor_noise": [1.0],
        "roughness": [0.01, 0.02],
        "slope": [3.0, 6.0],
        "rugs": [8.0],
    }
    assert choose("all") == SUITE
    assert [one.name for one in choose("terrain")] == ["roughness"] * 2 + ["slope"] * 2 + ["rugs"]
    assert [one.name for one in choose("mass, push")] == ["push"] * 3 + ["mass"] * 2
    with pytest.raises(InputError, match="'frction' is unknown; did you mean 'friction'"):
        choose("push,frction")


def test_levels_of_one_program_differ_in_their_models_alone():
    groups = grouped((NOMINAL, *SUITE), "mujoco", STANDARD)
    flat, *others = groups
    assert [one.name for one in flat.levels] == ["nominal"] + ["friction"] * 3 + ["mass"] * 2
    assert len(groups) == 1 + 3 + 3 + 2 + 1 + 2, "pushes, latencies, biases, noise; height fields and rugs"
    nominal = flat.models[0]
    for one, variants in flat.levels.items():
        (model,) = (flat.models[index] for index in variants)
        friction = model.geom_friction[:, 0] / nominal.geom_friction[:, 0]
        mass = model.body_mass[1:] / nominal.body_mass[1:]
        assert friction == pytest.approx(one.level if one.name == "friction" else 1.0)
        assert mass == pytest.approx(one.level if one.name == "mass" else 1.0)
    fields = next(group for group in others if group.models[0].nhfield)
    assert {len(variants) for variants in fields.levels.values()} == {4}
    assert sorted(np.concatenate(list(fields.levels.values()))) == list(range(16)), "every ground belongs to one level"
    assert len(grouped(choose("terrain"), "mjx", STANDARD)) == 5, "MJX varies heights, not extents"


@pytest.fixture(scope="module")
def store():
    clip = generate("squat", 4.0, 1)
    return make_store(clip.qpos, np.zeros(1, int), np.array([clip.frames]))


@pytest.mark.slow
def test_levels_are_played_from_the_same_starts(store):
    starts = random_starts(store, np.arange(1), 4, 40, seed=0)
    levels = (NOMINAL, level("mass", 1.2), level("slope", 6.0))
    heard = []
    found = {
        one.name: (assist, who, result)
        for one, assist, who, result in played(
            levels,
            {"open_loop": (OPEN_LOOP, jnp.zeros(()))},
            store,
            starts,
            [0.0],
            protocol="humanoid-gpt",
            physics="mujoco",
            options=STANDARD,
            told=lambda level, who, steps: heard.append((level.name, who, steps)),
        )
    }
    assert heard == [(name, "open_loop", steps) for name in ("nominal", "mass", "slope") for steps in (25, 40)]
    play = make_player(CPhysics(), OPEN_LOOP, "humanoid-gpt")
    alone = scores(play(jnp.zeros(()), store, starts, jnp.zeros(()), 40))
    assist, who, nominal = found["nominal"]
    assert (assist, who) == (0.0, "open_loop")
    assert np.array_equal(nominal.mpjpe_rad, alone.mpjpe_rad), "the nominal level is what is played without any"
    heavy, steep = found["mass"][2], found["slope"][2]
    assert heavy.mpjpe_rad.mean() > 1.1 * nominal.mpjpe_rad.mean(), "the servos sag more under a heavier robot"
    assert np.abs(steep.mpjpe_rad - nominal.mpjpe_rad).max() > 1e-4
    assert (steep.seconds > 0.2).all(), "put down on the slope, it has not failed at once"
    for result in (heavy, steep):
        assert result.wanted.tolist() == nominal.wanted.tolist()
