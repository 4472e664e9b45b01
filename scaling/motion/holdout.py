"""Whole families of motion that nobody sees, not even the experts: the split `test_family`, for zero-shot claims."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from scaling.errors import InputError
from scaling.motion.cluster import kmeans
from scaling.motion.corpus import Corpus, CorpusConfig
from scaling.motion.deal import split_groups
from scaling.motion.embed import embed_corpus
from scaling.motion.segment import TEST_FAMILY


@dataclass(frozen=True)
class UnseenConfig:
    """Families that nobody sees: those of these names, and `clusters` of a K-means into `of` clusters."""

    names: tuple[str, ...] = ()
    clusters: int = 0
    of: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.clusters < self.of:
            raise ValueError(f"clusters {self.clusters}: from 0 to fewer than all {self.of}")


def hold_out(corpus: Corpus, unseen: UnseenConfig, config: CorpusConfig) -> Corpus:
    """The corpus with the unseen families in `test_family`, and the other recordings dealt anew by `config`.

    A recording is held out as a whole: by name where any of its takes is of the family, by cluster where more than half
    of its frames are. What other recordings hold of a family is left out and listed in `refused`. Raises `InputError`
    for a name that no clip has, and where nothing would be left to train on.
    """
    if not unseen.names and not unseen.clusters:
        return corpus
    if not corpus.unique.all():
        raise InputError("the corpus holds augmented segments; hold families out before you augment it")
    named = _named(corpus, unseen.names)
    clustered = _clustered(corpus, unseen, config.seed)
    held = _groups(corpus, named, least=0.0) | _groups(corpus, clustered, least=0.5)
    others = [index for index, group in enumerate(corpus.groups) if group not in held]
    strays = [index for index in others if clustered[index]]
    if len({corpus.groups[index] for index in set(others) - set(strays)}) < 2:
        raise InputError(
            f"held-out families {', '.join(unseen.names) or f'in {unseen.clusters} of {unseen.of} clusters'} leave "
            "fewer than two recordings to train on; hold out fewer"
        )
    dealt = split_groups(
        [corpus.groups[index] for index in others],
        [corpus.families[index] for index in others],
        [corpus.length[index] for index in others],
        val=config.val,
        test=config.test,
        seed=config.seed,
    )
    whole = replace(corpus, splits=tuple(dealt.get(group, TEST_FAMILY) for group in corpus.groups))
    reason = "moves like a family that is held out, in a recording that is not"
    left_out = {corpus.names[index]: f"{corpus.names[index]}: it {reason}" for index in strays}
    kept = np.setdiff1d(np.arange(len(corpus)), strays)
    settings = corpus.config | {"unseen": asdict(unseen)}
    return replace(whole.select(kept), refused=corpus.refused | left_out, config=settings)


def _named(corpus: Corpus, names: tuple[str, ...]) -> Bool[np.ndarray, "S"]:
    """Segments of the named families; a recording's own name stands for itself."""
    known = set(corpus.families) | set(corpus.groups)
    for name in names:
        if name not in known:
            families = ", ".join(sorted(set(corpus.families) - {""})) or "none that has a name"
            raise InputError(f"no clip is of the family or recording {name!r}; the corpus has the families {families}")
    return np.isin(corpus.families, names) | np.isin(corpus.groups, names)


def _clustered(corpus: Corpus, unseen: UnseenConfig, seed: int) -> Bool[np.ndarray, "S"]:
    """Segments of so many clusters, drawn by the seed from those that are most of some recording."""
    if not unseen.clusters:
        return np.zeros(len(corpus), bool)
    labels = kmeans(embed_corpus(corpus), unseen.of, seed, fit=corpus.indices("train")).labels
    able = [label for label in range(unseen.of) if _groups(corpus, labels == label, least=0.5)]
    if len(able) < unseen.clusters:
        raise InputError(
            f"{len(able)} of {unseen.of} clusters are most of a recording, but {unseen.clusters} are to be held out; "
            "hold out fewer or make fewer clusters"
        )
    drawn = np.random.default_rng([seed, 6]).choice(able, unseen.clusters, replace=False)
    return np.isin(labels, drawn)


def _groups(corpus: Corpus, chosen: Bool[np.ndarray, "S"], least: float) -> set[str]:
    """Recordings of which more than this share of frames is chosen."""
    return {group for group in set(corpus.groups) if _share(corpus, chosen, _of(corpus, group)) > least}


def _of(corpus: Corpus, group: str) -> Int[np.ndarray, "n"]:
    return np.flatnonzero(np.array(corpus.groups) == group)


def _share(corpus: Corpus, chosen: Bool[np.ndarray, "S"], members: Int[np.ndarray, "n"]) -> float:
    return float((corpus.length * chosen)[members].sum() / corpus.length[members].sum())
