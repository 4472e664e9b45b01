"""Does attention over the past beat an MLP of as many parameters? Matched sizes, one bank, one data.

scaling sweep work architecture --workers 2   (tiny: about 12 minutes on two cores, 8 rows)
scaling sweep plan architecture-paper
"""

from dataclasses import replace

from scaling.study.sweep import Sweep, grid
from scaling.study.sweep_base import paper_study, priced, tiny_study

FAMILIES = [("mlp",), ("transformer",)]


def tiny() -> Sweep:
    """Two matched pairs, two seeds."""
    base = replace(tiny_study("architecture"), clusters=(4,), arms=(1.0,))
    return priced("architecture-tiny", grid(base, {"sizes": [("0.05M",), ("0.2M",)], "families": FAMILIES}))


def paper() -> Sweep:
    """Three matched pairs, three seeds."""
    base = replace(paper_study("architecture", clusters=128), arms=(1.0,))
    axes = {"sizes": [("S",), ("B",), ("L",)], "families": FAMILIES}
    return priced("architecture-paper", grid(base, axes), paper=True)


VERSIONS = {"tiny": tiny, "paper": paper}
