"""A learned simulator on disk, and the refusal of one that belongs to another robot or other gains."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from scaling.contract.manifest import robot_hash
from scaling.contract.normaliser import Normaliser
from scaling.dynamics.card import Card
from scaling.dynamics.model import Dream, ModelConfig, Scales
from scaling.errors import InputError
from scaling.record.files import write_json
from scaling.record.hashing import content_hash
from scaling.robot.g1 import EFFORT_LIMIT, KD, KP
from scaling.robot.model import CONTROL_DT, PhysicsOptions

FOLDER = "simulator"
"""Where a bank keeps the simulator in which its experts were trained."""

_SCHEMA = 1
_ARRAYS = "dream.npz"
_META = "dream.json"


@dataclass(frozen=True)
class Saved:
    """A model read back: its config, itself, the physics it learned, and its card if it was measured."""

    config: ModelConfig
    dream: Dream
    physics: PhysicsOptions
    card: Card | None


def dynamics_hash(kp: Any = KP, kd: Any = KD, effort: Any = EFFORT_LIMIT) -> str:
    """16 hex digits for what makes motion what it is: the robot's figures, servo gains, efforts and control step."""
    gains = {name: np.asarray(value, np.float64) for name, value in (("kp", kp), ("kd", kd), ("effort", effort))}
    return content_hash({"robot": robot_hash(), "control_dt": CONTROL_DT, **gains})


def save(path: Path, config: ModelConfig, dream: Dream, physics: PhysicsOptions, card: Card | None = None) -> None:
    """Writes `dream.npz` and, last, `dream.json` below `path`.

    Raises InputError for parameters that are not finite.
    """
    arrays = {name: np.asarray(value) for name, value in _flat(dream).items()}
    if bad := next((name for name, value in arrays.items() if not np.isfinite(value).all()), None):
        raise InputError(f"{path}: {bad} of the model is not finite: nothing was saved; train it again")
    path.mkdir(parents=True, exist_ok=True)
    np.savez(path / _ARRAYS, **arrays)  # type: ignore[arg-type]
    meta = {
        "schema": _SCHEMA,
        "dynamics_hash": dynamics_hash(),
        "model": asdict(config),
        "physics": asdict(physics),
        "card": asdict(card) if card else None,
    }
    write_json(path / _META, meta)


def load(path: Path) -> Saved:
    """The model saved at `path`.

    Raises InputError where there is none, where it is damaged, or where it is of another robot or other gains.
    """
    if not (path / _META).is_file() or not (path / _ARRAYS).is_file():
        raise InputError(f"{path}: no learned simulator here; name a folder that one was saved to")
    try:
        meta = json.loads((path / _META).read_text(encoding="utf-8"))
        with (path / _ARRAYS).open("rb") as raw, np.load(raw) as file:
            arrays = {name: file[name] for name in file.files}
        found, schema = meta["dynamics_hash"], meta["schema"]
        config, physics = ModelConfig(**meta["model"]), PhysicsOptions(**meta["physics"])
        card = Card(**meta["card"]) if meta["card"] else None
        dream = _whole(arrays)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise InputError(f"{path}: the learned simulator cannot be read ({error}): train it again") from None
    if schema != _SCHEMA:
        raise InputError(f"{path}: schema {schema} and this version reads {_SCHEMA}: train the model again")
    if found != dynamics_hash():
        raise InputError(
            f"{path}: this simulator was learned from another robot or other gains ({found}, here {dynamics_hash()}): "
            "train one for this robot"
        )
    return Saved(config, dream, physics, card)


def _flat(dream: Dream) -> dict[str, jax.Array]:
    scales = dream.scales._asdict() | {"inputs": dream.scales.inputs._asdict()}
    return flax.traverse_util.flatten_dict({"params": dream.params, "scales": scales}, sep="/")


def _whole(arrays: dict[str, np.ndarray]) -> Dream:
    tree = flax.traverse_util.unflatten_dict({name: jnp.asarray(value) for name, value in arrays.items()}, sep="/")
    scales = dict(tree["scales"])
    return Dream(tree["params"], Scales(**(scales | {"inputs": Normaliser(**scales["inputs"])})))
