"""Label conflict: how far apart two experts are on states that both of their motions lead through.

A student cannot tell such states apart, so what its teachers disagree about there is a loss that no training removes.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from scaling.contract.normaliser import Normaliser
from scaling.distill.loss import smooth_l1
from scaling.experts import bank as experts
from scaling.experts.bank import Bank

_MOST = 4096  # states; their distances to each other are what takes time
_ROWS = 64  # states of one call of an expert, so that one program serves all


class Conflict(NamedTuple):
    """`loss` is SmoothL1 between the two experts' normalised actions, mean over shared states (None without any);
    `share` is that of the states that are shared.
    """

    loss: float | None
    share: float


def label_conflict(
    bank: Bank,
    expert: Int[np.ndarray, "N"],
    clip: Int[np.ndarray, "N"],
    obs: Float[np.ndarray, "N T obs"],
    label: Float[np.ndarray, "N T 29"],
    normaliser: Normaliser,
    action_scale: Float[np.ndarray, "29"],
) -> Conflict | None:
    """Conflict on N sequences of clean observations (all terms), each of a clip, played and labelled by its `expert`.

    A state is shared where, of all states of other clips, the nearest one in what a student sees (normalised) is
    another expert's; that expert is then asked what it would do. None where the bank has one expert.
    """
    if bank.experts < 2:
        return None
    every = max(1, -(-obs.shape[0] * obs.shape[1] // _MOST))
    some = obs[:, ::every]
    sequence = np.repeat(np.arange(len(some)), some.shape[1])
    states = some.reshape(-1, some.shape[-1])
    width = len(normaliser.mean)
    seen = np.asarray(normaliser(states[:, :width]), np.float32)
    neighbour = expert[sequence[_nearest(seen, clip[sequence])]]
    shared = np.flatnonzero(neighbour != expert[sequence])
    if len(shared) == 0:
        return Conflict(None, 0.0)
    own = label[:, ::every].reshape(len(states), -1)[shared]
    other = _asked(bank, neighbour[shared], states[shared])
    loss = np.asarray(smooth_l1(other / action_scale, own / action_scale))
    return Conflict(float(loss.mean()), len(shared) / len(states))


def _nearest(seen: Float[np.ndarray, "n d"], clip: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The nearest state of another clip, for each state."""
    squares = np.square(seen).sum(axis=1)
    found = np.zeros(len(seen), int)
    for first in range(0, len(seen), 512):
        rows = slice(first, first + 512)
        distance = squares[None] - 2 * seen[rows] @ seen.T
        distance[clip[rows][:, None] == clip[None]] = np.inf
        found[rows] = distance.argmin(axis=1)
    return found


def _asked(bank: Bank, expert: Int[np.ndarray, "n"], obs: Float[np.ndarray, "n obs"]) -> Float[np.ndarray, "n 29"]:
    """What each state's expert would do there."""
    found = np.zeros((len(obs), bank.biases[-1].shape[-1]), np.float32)
    for one in np.unique(expert):
        mine = np.flatnonzero(expert == one)
        for first in range(0, len(mine), _ROWS):
            rows = mine[first : first + _ROWS]
            found[rows] = np.asarray(_ask(bank, one, obs[np.resize(rows, _ROWS)]))[: len(rows)]
    return found


@jax.jit
def _ask(bank: Bank, expert: Int[Array, ""], obs: Float[Array, "n obs"]) -> Float[Array, "n 29"]:
    one = jax.tree.map(lambda x: x[expert][None], bank)
    return experts.act(one, obs[None])[0]
