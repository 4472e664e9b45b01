"""Does validation loss fall with unique motion? Nested arms from a sixteenth to all of it, students of two sizes.

scaling sweep work data_size --workers 2      (tiny: about 15 minutes on two cores, 40 rows)
scaling sweep plan data_size-paper            (cost of the large one; --set motions.path=FOLDER for recorded motion)
"""

from dataclasses import replace

from scaling.study.sweep import Sweep, grid
from scaling.study.sweep_base import paper_study, priced, tiny_study

SIZES = ("0.05M", "0.2M")


def tiny() -> Sweep:
    """Five arms, two seeds, two sizes of both families, one clustering."""
    base = replace(tiny_study("data_size"), clusters=(4,))
    return priced(
        "data_size-tiny", grid(base, {"families": [("mlp",), ("transformer",)], "sizes": [(s,) for s in SIZES]})
    )


def paper() -> Sweep:
    """The same with the published sizes, three seeds and a bank of 128."""
    base = paper_study("data_size", clusters=128)
    axes = {"families": [("mlp",), ("transformer",)], "sizes": [(size,) for size in ("S", "B", "L")]}
    return priced("data_size-paper", grid(base, axes), paper=True)


VERSIONS = {"tiny": tiny, "paper": paper}
