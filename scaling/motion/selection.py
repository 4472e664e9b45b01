"""Which segments a smaller arm takes first: an order whose every prefix is a choice, so that arms are nested."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from scaling.errors import InputError
from scaling.motion.arms import stratified_order

Selection = Literal["stratified", "random", "farthest", "complex"]
SELECTIONS: tuple[str, ...] = get_args(Selection)


def random_order(count: int, seed: int) -> Int[np.ndarray, "n"]:
    """Any order is as likely as any other."""
    return np.random.default_rng([seed, 7]).permutation(count)


def farthest_order(features: Float[np.ndarray, "n F"], seed: int) -> Int[np.ndarray, "n"]:
    """A random one first, then always the one farthest from all taken (Gonzalez 1985): coverage without copies."""
    count = len(features)
    order = np.empty(count, int)
    order[0] = np.random.default_rng([seed, 8]).integers(count)
    distance = np.full(count, np.inf)
    for place in range(1, count):
        last = order[place - 1]
        distance = np.minimum(distance, np.sum((features - features[last]) ** 2, axis=1))
        distance[last] = -1.0  # taken, and so are those before it
        order[place] = int(np.argmax(distance))
    return order


def complex_order(complexity: Float[np.ndarray, "n"], seed: int) -> Int[np.ndarray, "n"]:
    """Drawn without replacement, each with a chance in proportion to its complexity (Efraimidis and Spirakis 2006).

    What has none comes last. Raises `InputError` for figures that are negative or not finite.
    """
    if not (np.isfinite(complexity).all() and (complexity >= 0).all()):
        raise InputError("complexities must be finite and not negative; leave the clips out whose frames are broken")
    waits = np.random.default_rng([seed, 9]).exponential(size=len(complexity))
    with np.errstate(divide="ignore"):
        return np.argsort(waits / complexity, kind="stable")


def selection_order(
    selection: str,
    labels: Int[np.ndarray, "n"],
    features: Float[np.ndarray, "n F"] | None,
    complexity: Float[np.ndarray, "n"],
    seed: int,
) -> Int[np.ndarray, "n"]:
    """The order by one of `SELECTIONS`; "farthest" needs the features of the study's clustering, or `InputError`."""
    if selection == "stratified":
        return stratified_order(labels, seed)
    if selection == "random":
        return random_order(len(labels), seed)
    if selection == "complex":
        return complex_order(complexity, seed)
    if selection == "farthest" and features is not None:
        return farthest_order(features, seed)
    if selection == "farthest":
        raise InputError("a kept clustering has no features to choose the farthest by; choose another selection")
    raise InputError(f"selection {selection!r} is unknown; choose one of {', '.join(SELECTIONS)}.")
