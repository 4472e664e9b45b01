"""How far the simulator that a bank dreamed in departs from the true one, where the bank's experts go."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Key

from scaling.dynamics import artifact
from scaling.dynamics.card import Card, measure
from scaling.dynamics.data import CollectConfig, Transitions, collect, join, window_starts
from scaling.errors import InputError
from scaling.experts.bank import BANK_POLICY, Bank
from scaling.experts.loop import pad_clusters
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.physics import Physics
from scaling.tracking.reference import ClipStore

HORIZONS = (1, 8, 32, 100)
PLAY = CollectConfig(envs=16, steps=150)
_ENV = EnvConfig(start_noise=0.5)


def card_simulator(
    key: Key[jax.Array, ""],
    folder: Path,
    bank: Bank,
    store: ClipStore,
    clusters: Sequence[Int[np.ndarray, "m"]],
    physics: Physics,
    config: CollectConfig = PLAY,
) -> Card | None:
    """The error card of the simulator in `folder` on the noisy play of each expert along its own of these clips.

    Horizons that no episode lasts are left out. None where no expert has a clip.
    """
    saved = artifact.load(folder)
    env = TrackingEnv(physics, _ENV)
    clips, weights = pad_clusters(
        [cluster if len(cluster) else np.zeros(1, np.int32) for cluster in clusters], np.asarray(store.length)
    )
    played: list[Transitions] = []
    for k in (k for k, cluster in enumerate(clusters) if len(cluster)):
        one = jax.tree.map(lambda x, k=k: x[k], bank)
        task = Task(store, clips[k], weights[k], jnp.zeros(()))
        title = f"simulator against {physics.name}, expert {k}"
        played.append(collect(jax.random.fold_in(key, k), env, task, config, BANK_POLICY, one, title))
    if not played:
        return None
    data = join(played)
    return measure(saved.config, saved.dream, data, store, tuple(width for width in HORIZONS if _lasts(data, width)))


def keep_card(folder: Path, card: Card) -> None:
    """The card beside the simulator that it is of."""
    saved = artifact.load(folder)
    artifact.save(folder, saved.config, saved.dream, saved.physics, card)


def _lasts(data: Transitions, width: int) -> bool:
    try:
        return len(window_starts(data, width)) > 0
    except InputError:
        return False
