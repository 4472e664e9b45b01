"""Who is seated where: each slot of each run belongs to one expert of the bank and to a list of that expert's clips."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scaling.experts import bank as experts
from scaling.experts.bank import Bank


class Seat(NamedTuple):
    """One slot on the host: its expert, and the clips its environments draw from by weight."""

    expert: int
    clips: Int[np.ndarray, "m"]
    weights: Float[np.ndarray, "m"]


class Seats(NamedTuple):
    """Where the bank finds its slots: `rows[k]` are the flat (run, slot) numbers of expert k, padded with 0, and
    `back[r, s]` is where slot (r, s) stands in the flattened rows. The bank is read once, however many runs share it.
    """

    rows: Int[Array, "K C"]
    back: Int[Array, "R S"]


class Slots(NamedTuple):
    """All slots on the device: clips with their weights (0 pads), and the experts' seats."""

    clips: Int[Array, "R S M"]
    weights: Float[Array, "R S M"]
    seats: Seats


def seat_clusters(
    clips: Int[np.ndarray, "n"], experts_of: Int[np.ndarray, "n"], lengths: Int[np.ndarray, "n"], slots: int
) -> list[Seat]:
    """The clusters present in turn over the slots, each slot with all clips of its cluster, frames equally likely.

    Raises ValueError where a cluster would be left without a slot.
    """
    present = np.unique(experts_of)
    if len(present) > slots:
        raise ValueError(f"slots {slots}: at least one for each of {len(present)} clusters")
    seats = []
    for slot in range(slots):
        mine = experts_of == present[slot % len(present)]
        seats.append(Seat(int(present[slot % len(present)]), clips[mine], lengths[mine] / lengths[mine].sum()))
    return seats


def seat_segments(clips: Int[np.ndarray, "n"], experts_of: Int[np.ndarray, "n"], slots: int) -> list[Seat]:
    """The clips in turn over the slots, a slot's clips all of one cluster and equally likely, every clip seated.

    Raises ValueError where a cluster would be left without a slot.
    """
    present, counts = np.unique(experts_of, return_counts=True)
    if len(present) > slots:
        raise ValueError(f"slots {slots}: at least one for each of {len(present)} clusters")
    share = np.ones(len(present), int)
    for _ in range(slots - len(present)):
        share[np.argmax(counts / share)] += 1
    seats = []
    for expert, wide in zip(present, share, strict=True):
        mine = clips[experts_of == expert]
        for place in range(wide):
            own = mine[place::wide] if place < len(mine) else mine[place % len(mine)][None]
            seats.append(Seat(int(expert), own, np.full(len(own), 1 / len(own))))
    return seats


def lay_out(runs: Sequence[Sequence[Seat]], count: int, least: tuple[int, int] = (0, 0)) -> Slots:
    """Slots of `runs` (equally many each) over `count` experts; `least` (clips a slot, seats an expert) pads."""
    seats = [seat for run in runs for seat in run]
    width = max(least[0], *(len(seat.clips) for seat in seats))
    clips = np.zeros((len(seats), width), np.int32)
    weights = np.zeros((len(seats), width), np.float32)
    held: list[list[int]] = [[] for _ in range(count)]
    for index, seat in enumerate(seats):
        clips[index, : len(seat.clips)], weights[index, : len(seat.clips)] = seat.clips, seat.weights
        held[seat.expert].append(index)
    deep = max(least[1], *(len(indices) for indices in held))
    rows = np.zeros((count, deep), np.int32)
    back = np.zeros(len(seats), np.int32)
    for expert, indices in enumerate(held):
        rows[expert, : len(indices)] = indices
        back[indices] = expert * deep + np.arange(len(indices))
    shape = (len(runs), len(runs[0]))
    return Slots(
        jnp.asarray(clips.reshape(*shape, width)),
        jnp.asarray(weights.reshape(*shape, width)),
        Seats(jnp.asarray(rows), jnp.asarray(back.reshape(shape))),
    )


def alike(first: Sequence[Sequence[Seat]], second: Sequence[Sequence[Seat]], count: int) -> tuple[Slots, Slots]:
    """Both layouts, padded to the same shapes: one compiled program serves the two."""
    one, two = lay_out(first, count), lay_out(second, count)
    least = (max(one.clips.shape[2], two.clips.shape[2]), max(one.seats.rows.shape[1], two.seats.rows.shape[1]))
    return lay_out(first, count, least), lay_out(second, count, least)


def label(bank: Bank, seats: Seats, obs: Float[Array, "R S E obs"]) -> Float[Array, "R S E 29"]:
    """What each slot's expert would do, by one batched forward over the stacked bank."""
    count, deep = seats.rows.shape
    envs, width = obs.shape[2:]
    seen = obs.reshape(-1, envs, width)[seats.rows].reshape(count, deep * envs, width)
    actions = experts.act(bank, seen)
    return actions.reshape(count * deep, envs, -1)[seats.back]


def stack_banks(banks: Sequence[Bank]) -> Bank:
    """The experts of several banks one after the other.

    Raises ValueError where their networks differ in shape.
    """
    shapes = [[kernel.shape[1:] for kernel in bank.kernels] for bank in banks]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"banks of different networks {shapes} cannot teach in one group")

    def join(leaves: Sequence[Array]) -> Array:
        return jnp.concatenate(leaves) if len(leaves) > 1 else leaves[0]

    return Bank(
        tuple(join(layers) for layers in zip(*(bank.kernels for bank in banks), strict=True)),
        tuple(join(layers) for layers in zip(*(bank.biases for bank in banks), strict=True)),
        type(banks[0].normaliser)(*(join(parts) for parts in zip(*(bank.normaliser for bank in banks), strict=True))),
    )
