"""A toy world without contact, banks of linear experts, and the small figures that the tests of this room share."""

import jax.numpy as jnp
import numpy as np

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, STUDENT_TERMS, observation_dim
from scaling.distill.config import DaggerConfig, ValConfig
from scaling.distill.group import RunSpec, Teacher
from scaling.distill.valset import make_valset
from scaling.experts.bank import Bank
from scaling.motion.corpus import CorpusConfig, build_corpus
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import corpus_motions
from scaling.robot.model import STANDARD
from scaling.students.config import StudentConfig
from scaling.tracking.env import EnvConfig
from scaling.tracking.physics import PhysicsState

ALL, SEEN = observation_dim(EXPERT_TERMS), observation_dim(STUDENT_TERMS)
STUDENT = StudentConfig("mlp", SEEN, width=32, depth=2, history=2)
CONFIG = DaggerConfig(
    rounds=3,
    slots=3,
    envs=2,
    steps=12,
    own_steps=8,
    updates=9,
    batch=4,
    val_every=2,
    warmup=0.0,
    learning_rate=3e-3,
    rate_rule="fixed",
    env=EnvConfig(episode_seconds=0.6),
)


class ToyPhysics:
    """Joints go half the way to their targets, the root stays: no contact, no callback, quick to compile."""

    name = "toy"
    variants = 1
    ground = None
    options = STANDARD

    def step(self, state, ctrl, force, assist, variant):
        velocity = (ctrl - state.qpos[..., 7:]) / 0.04
        joints = state.qpos[..., 7:] + 0.02 * velocity
        return PhysicsState(
            jnp.concatenate([state.qpos[..., :7], joints], axis=-1),
            jnp.concatenate([jnp.zeros_like(state.qvel[..., :6]), velocity], axis=-1),
        )


def linear_bank(experts, seed, privileged=0.0):
    """Actions a fixed linear map of the (normalised) observation, another one for each expert."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(experts, ALL, 29)) / np.sqrt(ALL)
    kernel[:, SEEN:] *= privileged
    bias = rng.normal(size=(experts, 29)) * 0.1
    wide = np.ones((experts, ALL))
    return Bank(
        (jnp.asarray(kernel, jnp.float32),),
        (jnp.asarray(bias, jnp.float32),),
        Normaliser(jnp.asarray(0 * wide, jnp.float32), jnp.asarray(wide, jnp.float32)),
    )


def make_corpus():
    """Two families, twelve short takes; both families have `val` segments."""
    motions = corpus_motions(48.0, 0, families=("squat", "arm_wave"), take_seconds=4.0)
    made = build_corpus(motions, CorpusConfig(segments=SegmentConfig(4.0, 4.0, 8.0), val=0.34, test=0.16))
    assert {made.families[index] for index in made.indices("val")} == {"squat", "arm_wave"}
    return made


def make_teachers(corpus, physics):
    """A bank of two experts (one a family) and a bank of one, each with its validation set."""
    family = np.array([name == "squat" for name in corpus.families], np.int32)
    config = ValConfig(sequences=8, steps=12)
    made = []
    for bank, labels in ((linear_bank(2, 0, 0.3), family), (linear_bank(1, 1), 0 * family)):
        made.append(Teacher(bank, labels, make_valset(bank, labels, corpus, physics, config)))
    return made


def make_runs(corpus):
    """A run on one segment taught by the first bank, and one on all of `train` taught by the second."""
    train = corpus.indices("train")
    return [RunSpec("small", train[:1], 5), RunSpec("whole", train, 6, teacher=1)]
