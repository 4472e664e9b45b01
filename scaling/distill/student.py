"""A finished student: network, parameters, what its inputs and outputs are scaled by, and its row; kept and played."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS
from scaling.distill.rollout import STUDENT_OBS
from scaling.errors import InputError
from scaling.experts.bank import alone
from scaling.record.files import unjson, write_json
from scaling.students import decode
from scaling.students.config import StudentConfig
from scaling.students.model import abstract_params
from scaling.tracking.evaluate import Policy

CIRCUMSTANCES = ("seconds", "acting_s", "learning_s", "frames_per_s", "devices")
"""Columns that differ each time a student is trained, and do not change it."""

_CARD, _ARRAYS = "student.json", "params"


@dataclass(frozen=True)
class Student:
    """One run's outcome. The network maps normalised observations to actions in units of `action_scale`.

    `columns` are its part of the table's row, `curve` the losses on the way (one entry each `val_every` updates).
    """

    config: StudentConfig
    params: Any
    normaliser: Normaliser
    action_scale: Float[np.ndarray, "29"]
    columns: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)


def save_student(folder: Path, student: Student) -> None:
    """Parameters (Orbax) and, last, the card (JSON) below `folder`; of several processes only one has to call it."""
    folder.mkdir(parents=True, exist_ok=True)
    with alone("student") as checkpointer:
        checkpointer.save(folder.absolute() / _ARRAYS, _arrays(student), force=True)
    card = {
        "terms": STUDENT_TERMS,
        "config": asdict(student.config),
        "columns": student.columns,
        "curve": student.curve,
    }
    write_json(folder / _CARD, card)


def load_student(folder: Path) -> Student:
    """The student in a folder; InputError where there is none, or one of other observations."""
    try:
        card = json.loads((folder / _CARD).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: no readable student here ({error}); name a folder that a run was saved to"
        ) from None
    if tuple(card["terms"]) != STUDENT_TERMS:
        raise InputError(f"{folder}: its observations are not those of this version; train the student again")
    config = StudentConfig(**card["config"])
    wanted = {"params": abstract_params(config), **_SHAPES}
    with alone("student") as checkpointer:
        tree = checkpointer.restore(folder.absolute() / _ARRAYS, jax.tree.map(_on_default_device, wanted))
    tree = jax.tree.map(np.asarray, tree)
    columns = {name: unjson(value) for name, value in card["columns"].items()}
    return Student(config, tree["params"], Normaliser(tree["mean"], tree["std"]), tree["scale"], columns, card["curve"])


@lru_cache(maxsize=16)
def policy(config: StudentConfig) -> Policy:
    """The student for `tracking.evaluate`: it reads the head of the observation alone; parameters by `policy_params`.

    The first 234 entries, normalised; the network's cache as state; its output times the action scale.
    """

    def act(params: Any, state: Any, obs: Array, first: Array) -> tuple[Array, Any]:
        normaliser = Normaliser(params["mean"], params["std"])
        action, state = decode.act(config, params["params"], normaliser, state, obs[..., :STUDENT_OBS], first)
        return action * params["scale"], state

    return Policy(init=lambda batch: decode.init_state(config, batch), act=act)


def policy_params(students: Student | Sequence[Student]) -> Any:
    """What `policy(...).act` takes as `params`: of one student, or of several of one config stacked."""
    if isinstance(students, Student):
        return jax.tree.map(jnp.asarray, _arrays(students))
    if any(student.config != students[0].config for student in students):
        raise ValueError("students of different configs cannot be stacked")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_arrays(student) for student in students))


def _arrays(student: Student) -> dict[str, Any]:
    arrays = {
        "params": student.params,
        "mean": student.normaliser.mean,
        "std": student.normaliser.std,
        "scale": student.action_scale,
    }
    return jax.tree.map(np.asarray, arrays)


_SHAPES = {
    "mean": jax.ShapeDtypeStruct((STUDENT_OBS,), jnp.float32),
    "std": jax.ShapeDtypeStruct((STUDENT_OBS,), jnp.float32),
    "scale": jax.ShapeDtypeStruct((29,), jnp.float32),
}


def _on_default_device(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
