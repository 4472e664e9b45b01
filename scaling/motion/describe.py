"""What a set of segments is worth: how diverse it is, how complex each of them, and a name that a person can read."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.motion.clip import velocities
from scaling.motion.cluster import Clustering
from scaling.motion.corpus import Corpus
from scaling.robot.g1 import VELOCITY_LIMIT
from scaling.robot.rotations import rotate_inverse

_AXES = 16  # principal axes in which diversity is measured, or as many as there are
_SHARE = 0.6  # of a cluster's frames that one family must have to give it its name
_ROOT_SPEED = 2.0  # m/s and rad/s: a fast human's; what root speeds are counted in


@dataclass(frozen=True)
class Diversity:
    """How much of the space of motions a set fills, along axes that do not depend on the set.

    `geometric_std` is the geometric mean of the standard deviations along the axes; `log_volume` half the log
    determinant of the covariance, which sees correlations too: 0 and -inf where a set is flat along an axis. NaN where
    there is no axis, the whole being one segment or copies of one.
    """

    axes: int
    geometric_std: float
    log_volume: float


class Yardstick:
    """The principal axes of some segments (the training set of a corpus), by which any set is measured."""

    def __init__(self, features: Float[np.ndarray, "n F"], axes: int = _AXES) -> None:
        self._mean = features.mean(axis=0)
        _, values, vectors = np.linalg.svd(features - self._mean, full_matrices=False)
        count = min(axes, int((values > 1e-9 * values[0]).sum()))
        self._vectors = vectors[:count]

    def measure(self, features: Float[np.ndarray, "m F"]) -> Diversity:
        """The diversity of a set; one of no more segments than axes is flat."""
        if not len(self._vectors):
            return Diversity(0, float("nan"), float("nan"))
        seen = (features - self._mean) @ self._vectors.T
        covariance = np.atleast_2d(np.cov(seen, rowvar=False)) if len(seen) > 1 else np.zeros((seen.shape[1],) * 2)
        spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        sign, logarithm = np.linalg.slogdet(covariance)
        full = sign > 0 and len(seen) > seen.shape[1]
        with np.errstate(divide="ignore"):
            return Diversity(
                seen.shape[1], float(np.exp(np.log(spread).mean())), float(0.5 * logarithm) if full else float("-inf")
            )


def complexity(qpos: Float[np.ndarray, "T 36"], rate_hz: float) -> float:
    """How much a clip asks of a robot: the root mean square of speeds, of joints over their motors' limits and of the
    root over 2 m/s and 2 rad/s, times how many of these 35 move independently (the participation ratio).

    A stand has 0.
    """
    qvel = velocities(np.asarray(qpos, np.float64), rate_hz)
    linear = rotate_inverse(qpos[:, 3:7].astype(np.float64), qvel[:, :3])
    speeds = np.concatenate([linear / _ROOT_SPEED, qvel[:, 3:6] / _ROOT_SPEED, qvel[:, 6:] / VELOCITY_LIMIT], axis=1)
    power = np.linalg.eigvalsh(speeds.T @ speeds / len(speeds))
    total = power.sum()
    if total <= 0:
        return 0.0
    independent = total**2 / np.square(power).sum()
    return float(np.sqrt(total) * independent)


def complexities(corpus: Corpus) -> Float[np.ndarray, "S"]:
    """`complexity` of every segment."""
    return np.array([complexity(corpus.segment(index), corpus.rate_hz) for index in range(len(corpus))])


def cluster_names(corpus: Corpus, features: Float[np.ndarray, "S F"], found: Clustering) -> list[str]:
    """A name for each cluster: the family that most of its frames are of, if one is, and its most typical takes.

    `dance: dance1_subject2, dance2_subject4` or `walk1_subject1, run2_subject1`: nearest to the centre first.
    """
    names = []
    for k, centre in enumerate(found.centres):
        members = np.flatnonzero(found.labels == k)
        frames: Counter[str] = Counter()
        for index in members:
            frames[corpus.families[index]] += int(corpus.length[index])
        family, most = frames.most_common(1)[0]
        typical = ", ".join(_typical(corpus, features, members, centre))
        shown = family and most >= _SHARE * frames.total()
        names.append(f"{family}: {typical}" if shown else typical)
    return names


def _typical(
    corpus: Corpus, features: Float[np.ndarray, "S F"], members: Int[np.ndarray, "n"], centre: Float[np.ndarray, "F"]
) -> list[str]:
    """The two takes nearest to a cluster's centre, each once."""
    near = members[np.argsort(np.sum((features[members] - centre) ** 2, axis=1), kind="stable")]
    return list(dict.fromkeys(corpus.takes[index] for index in near))[:2]
