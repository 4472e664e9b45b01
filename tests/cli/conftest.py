"""Clips, a student and its policy, tiny, and the command called as a person would, without a new process."""

import json
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from scaling.cli import main
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.distill.student import Student, save_student
from scaling.motion.clip import Motion
from scaling.motion.native import write_npz
from scaling.motion.synthetic import generate
from scaling.policy.export import export_policy
from scaling.robot.g1 import standing_qpos
from scaling.students import model
from scaling.students.config import StudentConfig

OBS = observation_dim(STUDENT_TERMS)


class Called(NamedTuple):
    """How a call ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which has to be strict JSON and nothing else."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture
def call(capsys):
    """`call("robot", "check")`: exit code, standard output and standard error of one verb."""

    def run(*arguments) -> Called:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Called(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(call):
    """`refused(...)`: the one sentence of a call that has to end in exit code 2, saying nothing else."""

    def run(*arguments) -> str:
        called = call(*arguments)
        assert called.code == 2, called
        assert called.out == ""
        assert "Traceback" not in called.err
        told = [line for line in called.err.splitlines() if line.startswith("scaling")]
        assert told == called.err.splitlines()[-1:], called.err
        return told[0]

    return run


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder of three short generated clips; read only."""
    folder = tmp_path_factory.mktemp("clips")
    for family, seed in (("squat", 1), ("turn", 2), ("reach", 3)):
        write_npz(generate(family, 4.0, seed), folder / f"{family}.npz")
    return folder


@pytest.fixture(scope="session")
def standing(tmp_path_factory):
    """A file with a second of standing still."""
    motion = Motion(np.tile(standing_qpos(), (50, 1)), 50.0, "standing", family="still")
    return write_npz(motion, tmp_path_factory.mktemp("standing") / "standing.npz")


@pytest.fixture(scope="session")
def student() -> Student:
    """A fresh Transformer that hardly acts, so that the servos play the clip."""
    config = StudentConfig("transformer", OBS, width=16, depth=1, heads=2)
    params = model.init(config, jax.random.key(0))
    normaliser = Normaliser(np.zeros(OBS, np.float32), np.ones(OBS, np.float32))
    return Student(config, params, normaliser, np.full(29, 0.1, np.float32), {"run": "tiny", "assist": 0.5})


@pytest.fixture(scope="session")
def student_folder(student, tmp_path_factory):
    """The student as a run leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_student(folder, student)
    return folder


@pytest.fixture(scope="session")
def policy_folder(student, tmp_path_factory):
    """The student as a policy artifact; read only."""
    out = tmp_path_factory.mktemp("policies") / "policy"
    return export_policy(student.config, student.params, student.normaliser, student.action_scale, {"run": "tiny"}, out)
