"""For a given compute, which size of student? Each size is trained for the updates that its budget of FLOPs pays for.

scaling sweep work isoflop --workers 2        (tiny: about 25 minutes on two cores, 12 rows)
scaling sweep plan isoflop-paper
"""

from dataclasses import replace

from scaling.study.config import StudyConfig
from scaling.study.sweep import Runs, Sweep, chain, grid
from scaling.study.sweep_base import paper_study, priced, tiny_study, updates_for

LEAST = 50  # updates under which a student has not begun to learn


def isoflop(base: StudyConfig, budgets: tuple[float, ...], sizes: tuple[str, ...]) -> Runs:
    """Every size at every budget of training FLOPs that pays for `LEAST` updates of it."""
    points = [(size, updates_for(base, size, budget)) for budget in budgets for size in sizes]
    kept = [grid(base, {"sizes": [(size,)], "dagger.updates": [count]}) for size, count in points if count >= LEAST]
    return chain(*kept)


def tiny() -> Sweep:
    """Three sizes at two budgets, two seeds."""
    base = replace(tiny_study("isoflop"), clusters=(4,), arms=(1.0,), families=("transformer",))
    return priced("isoflop-tiny", isoflop(base, (4e10, 1.6e11), ("0.05M", "0.2M", "1M")))


def paper() -> Sweep:
    """Five sizes at four budgets, three seeds."""
    base = replace(paper_study("isoflop", clusters=128), arms=(1.0,), families=("transformer",))
    return priced(
        "isoflop-paper", isoflop(base, (1e16, 4e16, 1.6e17, 6.4e17), ("0.2M", "1M", "S", "B", "L")), paper=True
    )


VERSIONS = {"tiny": tiny, "paper": paper}
