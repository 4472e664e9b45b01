"""Do more, narrower experts make a better student? The number of clusters varies, data and students do not.

scaling sweep work cluster_count --workers 2  (tiny, K = 2, 4, 8, 16: about 25 minutes on two cores, 16 rows)
scaling sweep plan cluster_count-paper        (K = 128, 384, 1024, one total of steps for all)
"""

from dataclasses import replace

from scaling.study.sweep import Sweep, grid
from scaling.study.sweep_base import paper_study, priced, tiny_study


def tiny() -> Sweep:
    """Four clusterings, each with its own bank, at the full arm, two seeds and two families; the dearest bank first."""
    base = replace(tiny_study("cluster_count"), clusters=(2,), arms=(1.0,), sizes=("0.2M",))
    return priced("cluster_count-tiny", grid(base, {"clusters": [(16,), (8,), (4,), (2,)]}))


def paper() -> Sweep:
    """The published clusterings beside half and twice as many; each bank costs the same steps in all."""
    base = replace(paper_study("cluster_count", clusters=384), arms=(1.0,), sizes=("B",))
    banks = [((128,), 256), ((384,), 84), ((1024,), 32)]  # clusters, environments per expert: about 32,500 in all
    runs = [run for clusters, envs in banks for run in grid(base, {"clusters": [clusters], "experts.envs": [envs]})]
    return priced("cluster_count-paper", grid(runs, {"families": [("mlp",), ("transformer",)]}), paper=True)


VERSIONS = {"tiny": tiny, "paper": paper}
