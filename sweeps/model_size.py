"""Does a larger student track better on the same data and bank? Transformers up the ladder, everything else fixed.

scaling sweep work model_size --workers 2     (tiny: about 20 minutes on two cores, 6 rows)
scaling sweep plan model_size-paper
"""

from dataclasses import replace

from scaling.study.sweep import Sweep, grid
from scaling.study.sweep_base import paper_study, priced, tiny_study


def tiny() -> Sweep:
    """Three sizes, two seeds."""
    base = replace(tiny_study("model_size"), clusters=(4,), arms=(1.0,), families=("transformer",))
    return priced("model_size-tiny", grid(base, {"sizes": [("0.05M",), ("0.2M",), ("1M",)]}))


def paper() -> Sweep:
    """The whole ladder, three seeds."""
    base = replace(paper_study("model_size", clusters=128), arms=(1.0,), families=("transformer",))
    sizes = [(size,) for size in ("0.2M", "1M", "S", "B", "L")]
    return priced("model_size-paper", grid(base, {"sizes": sizes}), paper=True)


VERSIONS = {"tiny": tiny, "paper": paper}
