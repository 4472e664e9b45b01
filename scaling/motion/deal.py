"""Recording groups dealt to train, val and test so that their frames come as near to the wanted shares as they can."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

_NEAR = 0.005  # of all frames: a split that is so near to its share is left as it is
_NOTHING = -1  # the group of no frames: what a group is exchanged for that is only moved


def split_groups(
    groups: Sequence[str], families: Sequence[str], frames: Sequence[int], *, val: float, test: float, seed: int
) -> dict[str, str]:
    """Split of each recording group, by the frames of the clips that these columns run over.

    Groups are first dealt by number, spread evenly over families: at least one group each from three groups on; each
    family keeps one for training as long as the others suffice; one group is all train, two are train and val. Then
    groups change sides, within their families as far as that goes, while a split comes nearer to its share of frames.
    """
    family_of: dict[str, str] = {}
    size: dict[str, int] = {}
    for group, family, count in zip(groups, families, frames, strict=True):
        family_of.setdefault(group, family)
        size[group] = size.get(group, 0) + int(count)
    wanted = {"val": val, "test": test}
    split, dealt = _by_number(family_of, wanted, seed)
    _by_frames(split, dealt, family_of, size, wanted)
    return split


def _by_number(family_of: dict[str, str], wanted: dict[str, float], seed: int) -> tuple[dict[str, str], list[str]]:
    """The first deal, and the groups that may change sides.

    Groups are shuffled within their family, families laid end to end, and every n-th group is held out.
    """
    rng = np.random.default_rng([seed, 1])
    order: list[str] = []
    kept: list[str] = []
    for family in sorted(set(family_of.values())):
        members = sorted(group for group, its in family_of.items() if its == family)
        shuffled = [members[index] for index in rng.permutation(len(members))]
        kept.append(shuffled[0])
        order += shuffled[1:]
    split = dict.fromkeys(family_of, "train")
    count = len(family_of)
    number = {name: max(1, round(share * count)) if share > 0 else 0 for name, share in wanted.items()}
    if count < 3:
        number = {"val": min(number["val"], count - 1), "test": 0}
    elif sum(number.values()) > count - 1:
        number = {name: min(most, 1) for name, most in number.items()}
    if sum(number.values()) > len(order):
        order += [kept[index] for index in rng.permutation(len(kept))]
    for shift, (name, most) in zip((0.0, 0.5), number.items(), strict=True):
        for index in range(most):
            place = int((index + shift + 0.25) * len(order) / most)
            while split[order[place % len(order)]] != "train":
                place += 1
            split[order[place % len(order)]] = name
    return split, order


def _by_frames(
    split: dict[str, str], dealt: list[str], family_of: dict[str, str], size: dict[str, int], wanted: dict[str, float]
) -> None:
    """Exchange groups of `dealt` between training and a held-out split, the split that is farther off first."""
    total = sum(size.values())
    sizes = np.array([size[group] for group in dealt], dtype=np.int64)
    names = np.array([split[group] for group in dealt])
    family = np.unique([family_of[group] for group in dealt], return_inverse=True)[1] if dealt else np.zeros(0, int)
    spare = len(split) - len(dealt)  # training groups that stay

    def need(name: str) -> float:
        return wanted[name] * total - float(sizes[names == name].sum())

    used = [name for name in wanted if (names == name).any()]
    improving = True
    while improving:
        improving = False
        for name in sorted(used, key=lambda name: -abs(need(name))):
            if abs(need(name)) <= _NEAR * total:
                continue
            ours, theirs = np.flatnonzero(names == name), np.flatnonzero(names == "train")
            pair = _within(sizes, family, ours, theirs, need(name), _NEAR * total)
            pair = pair or _exchange(
                sizes,
                ours if len(theirs) + spare < 2 else np.append(ours, _NOTHING),
                theirs if len(ours) < 2 else np.append(theirs, _NOTHING),
                need(name),
                _NEAR * total,
            )
            if pair is not None:
                out, into = pair
                if out != _NOTHING:
                    names[out] = "train"
                if into != _NOTHING:
                    names[into] = name
                improving = True
                break
    split |= {group: str(name) for group, name in zip(dealt, names, strict=True)}


def _within(
    sizes: Int[np.ndarray, "n"],
    family: Int[np.ndarray, "n"],
    ours: Int[np.ndarray, "a"],
    theirs: Int[np.ndarray, "b"],
    need: float,
    least: float,
) -> tuple[int, int] | None:
    """The best exchange in which both groups are of one family."""
    found = [
        _exchange(sizes, ours[family[ours] == one], theirs[family[theirs] == one], need, least)
        for one in np.unique(family[ours])
    ]
    pairs = [pair for pair in found if pair is not None]
    return min(pairs, key=lambda pair: abs(need - sizes[pair[1]] + sizes[pair[0]]), default=None)


def _exchange(
    sizes: Int[np.ndarray, "n"], ours: Int[np.ndarray, "a"], theirs: Int[np.ndarray, "b"], need: float, least: float
) -> tuple[int, int] | None:
    """(out, in): the exchange after which the split of `ours` lacks least; None where that gains less than `least`."""
    if not len(ours) or not len(theirs):
        return None
    known = np.append(sizes, 0)  # what is numbered _NOTHING
    theirs = theirs[np.argsort(known[theirs], kind="stable")]
    asked = need + known[ours]
    above = np.searchsorted(known[theirs], asked)
    near = np.stack([np.clip(above - 1, 0, len(theirs) - 1), np.clip(above, 0, len(theirs) - 1)])
    left = np.abs(asked - known[theirs[near]])
    side, place = np.unravel_index(int(left.argmin()), left.shape)
    if abs(need) - left[side, place] < least:
        return None
    return int(ours[place]), int(theirs[near[side, place]])
