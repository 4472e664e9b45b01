"""Which axes act together? Nested arms x size x family x clusters x seed, every combination.

scaling sweep work full_factorial --workers 2 (tiny: about 40 minutes on two cores, 48 rows)
scaling sweep plan full_factorial-paper
"""

from dataclasses import replace

from scaling.study.sweep import Sweep, grid
from scaling.study.sweep_base import paper_study, priced, tiny_study

FAMILIES = [("mlp",), ("transformer",)]


def tiny() -> Sweep:
    """Three arms, two sizes, two families, two clusterings, two seeds."""
    base = replace(tiny_study("full_factorial"), clusters=(2,), arms=(0.25, 0.5, 1.0))
    axes = {"clusters": [(2,), (4,)], "sizes": [("0.05M",), ("0.2M",)], "families": FAMILIES}
    return priced("full_factorial-tiny", grid(base, axes))


def paper() -> Sweep:
    """Five arms, four sizes, two families, two clusterings, three seeds: 240 rows."""
    base = paper_study("full_factorial", clusters=128)
    sizes = [(size,) for size in ("1M", "S", "B", "L")]
    axes = {"clusters": [(128,), (384,)], "sizes": sizes, "families": FAMILIES}
    return priced("full_factorial-paper", grid(base, axes), paper=True)


VERSIONS = {"tiny": tiny, "paper": paper}
