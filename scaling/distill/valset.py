"""The frozen validation set of a bank: labelled states of noisy experts, and the statistics that students share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS
from scaling.distill.config import ValConfig
from scaling.distill.conflict import Conflict, label_conflict
from scaling.distill.rollout import Actors, Noise, Stage, make_rollout, make_world
from scaling.distill.slots import Seat, lay_out
from scaling.errors import InputError
from scaling.experts.bank import Bank
from scaling.motion.corpus import Corpus
from scaling.record.files import write_json
from scaling.tracking.env import Task
from scaling.tracking.physics import Physics
from scaling.tracking.reference import make_store

_ARRAYS, _CARD = "valset.npz", "valset.json"
MIN_STD = 0.05  # an entry that the experts hardly vary must not be blown up when a student does


@dataclass(frozen=True)
class ValSet:
    """Sequences of noisy experts on `val` segments, clean observations and the experts' actions, each on one segment.

    Normaliser and action scale (standard deviation of the experts' actions) are from `train` segments, likewise rolled
    out; `segment` holds corpus indices, `families` the family of each sequence. `conflict` is that of the experts'
    labels on the `train` sequences (None for a bank of one, and where it was not measured).
    """

    obs: Float[np.ndarray, "N T obs"]
    start: Bool[np.ndarray, "N T"]
    label: Float[np.ndarray, "N T 29"]
    segment: Int[np.ndarray, "N"]
    families: tuple[str, ...]
    normaliser: Normaliser
    action_scale: Float[np.ndarray, "29"]
    conflict: Conflict | None = None

    def save(self, folder: Path) -> None:
        """`valset.npz` and, last, `valset.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in ("obs", "start", "label", "segment", "action_scale")}
        np.savez(folder / _ARRAYS, **arrays, mean=self.normaliser.mean, std=self.normaliser.std)
        card = {"terms": STUDENT_TERMS, "families": self.families, "sequences": len(self.segment)}
        write_json(folder / _CARD, card | {"conflict": self.conflict})

    @classmethod
    def load(cls, folder: Path) -> "ValSet":
        """The set in a folder; InputError where there is none or one of other observations."""
        try:
            card = json.loads((folder / _CARD).read_text())
            with np.load(folder / _ARRAYS, allow_pickle=False) as data:
                arrays = dict(data)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: no readable validation set here ({error}); make it again") from None
        if tuple(card["terms"]) != STUDENT_TERMS:
            raise InputError(f"{folder}: its observations are not those of this version; make it again")
        normaliser = Normaliser(arrays.pop("mean"), arrays.pop("std"))
        return cls(**arrays, families=tuple(card["families"]), normaliser=normaliser, conflict=_conflict(card))


def make_valset(
    bank: Bank, labels: Int[np.ndarray, "S"], corpus: Corpus, physics: Physics, config: ValConfig
) -> ValSet:
    """Roll out the experts, with noise, on `val` and on `train` segments at once; `labels` are experts of segments.

    Raises InputError without segments in either split, or where the experts' actions are not finite.
    """
    val, train = corpus.indices("val"), corpus.indices("train")
    for name, indices in (("val", val), ("train", train)):
        if len(indices) == 0:
            raise InputError(f"the corpus has no {name} segments; give more recordings or change the held-out shares")
    count = len(val) * max(1, config.sequences // len(val))
    store = make_store(corpus.qpos, corpus.start, corpus.length)
    seated = (np.resize(val, count), train[np.arange(count) * len(train) // count])
    slots = lay_out([[_alone(index, labels) for index in chosen] for chosen in seated], bank.experts)
    keys = jax.random.split(jax.random.key(config.seed), 4)
    task = Task(store, slots.clips, slots.weights, np.float32(config.assist))  # type: ignore[arg-type]
    episodes = make_world(physics, config.env).begin(keys[:2], task, 1)
    rollout = make_rollout(physics, config.env, None)
    teacher = np.ones((2, count, 1), bool)
    noise = Noise(np.float32(config.expert_noise), np.float32(0.0))
    _, frames = rollout(keys[2:], Stage(task, slots.seats), Actors(bank), teacher, noise, episodes, config.steps)
    obs, start, label = frames.obs, frames.start, frames.label
    if not (np.isfinite(obs).all() and np.isfinite(label).all()):
        raise InputError("the expert bank gives actions that are not finite; train it again")
    experts = np.asarray(labels)[seated[1]]
    normaliser = Normaliser(obs[1].mean(axis=(0, 1), dtype=np.float64).astype(np.float32), _spread(obs[1]))
    scale, whole = _spread(label[1]), np.concatenate([obs[1], frames.hidden[1]], axis=-1)
    return ValSet(
        obs=obs[0],
        start=start[0],
        label=label[0],
        segment=seated[0].astype(np.int32),
        families=tuple(corpus.families[index] for index in seated[0]),
        normaliser=normaliser,
        action_scale=scale,
        conflict=label_conflict(bank, experts, seated[1], whole, label[1], normaliser, scale),
    )


def load_conflict(folder: Path) -> Conflict | None:
    """The conflict of the bank whose validation set is in a folder; None where it has none or it was not measured."""
    return _conflict(json.loads((folder / _CARD).read_text()))


def _conflict(card: dict[str, Any]) -> Conflict | None:
    held = card.get("conflict")  # sets of earlier versions have none
    return None if held is None else Conflict(*held)


def numbered(families: Sequence[str]) -> tuple[tuple[str, ...], Int[np.ndarray, "n"]]:
    """The distinct families in order, and each entry's number among them."""
    names = tuple(sorted(set(families)))
    return names, np.array([names.index(family) for family in families], np.int32)


def _alone(segment: int, labels: Int[np.ndarray, "S"]) -> Seat:
    return Seat(int(labels[segment]), np.array([segment], np.int32), np.ones(1, np.float32))


def _spread(values: Float[np.ndarray, "N T d"]) -> Float[np.ndarray, "d"]:
    return np.maximum(values.std(axis=(0, 1), dtype=np.float64), MIN_STD).astype(np.float32)
