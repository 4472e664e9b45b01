"""The perturbation suite: named levels of pushes, other robots, worse sensors and uneven ground, played as the nominal.

Every level is played from the same starts with the same key by every contestant.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Int

from scaling.errors import InputError
from scaling.robot.model import PhysicsOptions
from scaling.tracking.evaluate import Policy, Starts, make_player
from scaling.tracking.physics import Physics, backend_name, make_physics
from scaling.tracking.randomise import Randomisation, draw_models
from scaling.tracking.reference import ClipStore
from scaling.tracking.scores import Scores, scores
from scaling.tracking.terrain import Terrain

_GROUNDS = 4  # of each kind of uneven ground, for the starts in turn
_RUGS = 8


@dataclass(frozen=True)
class Level:
    """One strength of one perturbation; `level` (in `unit`) is None for the nominal robot."""

    name: str
    level: float | None
    unit: str
    randomisation: Randomisation


NOMINAL = Level("nominal", None, "", Randomisation())
SUITE = (
    *(Level("push", v, "m/s", Randomisation(push_seconds=(1.0, 3.0), push_speed=(v, v))) for v in (0.25, 0.5, 1.0)),
    *(Level("friction", f, "x nominal", Randomisation(variants=2, friction=(f, f))) for f in (0.4, 0.7, 1.5)),
    *(Level("mass", m, "x nominal", Randomisation(variants=2, mass=(m, m))) for m in (0.8, 1.2)),
    *(Level("latency", n, "control steps", Randomisation(latency=(n, n))) for n in (1, 2, 3)),
    *(Level("encoder_bias", b, "rad, at most", Randomisation(encoder_bias=b)) for b in (0.01, 0.03)),
    Level("sensor_noise", 1.0, "x the contract's", Randomisation(observation_noise=1.0)),
    *(
        Level("roughness", h, "m", Randomisation(variants=_GROUNDS, terrain=Terrain(roughness_m=h)))
        for h in (0.01, 0.02)
    ),
    *(Level("slope", a, "degrees", Randomisation(variants=_GROUNDS, terrain=Terrain(slope_deg=a))) for a in (3.0, 6.0)),
    Level("rugs", float(_RUGS), "rugs", Randomisation(variants=_GROUNDS, terrain=Terrain(patches=_RUGS))),
)
TOGETHER = {"all": tuple(dict.fromkeys(level.name for level in SUITE)), "terrain": ("roughness", "slope", "rugs")}


def choose(names: str) -> tuple[Level, ...]:
    """The levels of "all" or of names with commas, in the suite's order; an unknown name raises InputError."""
    wanted: set[str] = set()
    known = (*TOGETHER["all"], *TOGETHER)
    for name in (part.strip() for part in names.split(",")):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InputError(f"perturbation {name!r} is unknown; did you mean {near!r}, of {', '.join(known)}?")
        wanted |= set(TOGETHER.get(name, (name,)))
    return tuple(level for level in SUITE if level.name in wanted)


@dataclass(frozen=True)
class Group:
    """Levels that one program plays: its chances in an episode, a pool of models, and the part of it of each level."""

    randomisation: Randomisation
    models: list[mujoco.MjModel]
    levels: dict[Level, Int[np.ndarray, "n"]]


def grouped(levels: Sequence[Level], physics: str, options: PhysicsOptions, seed: int = 0) -> list[Group]:
    """The levels in groups that differ in their models alone."""
    groups: dict[Any, Group] = {}
    for level in levels:
        models = draw_models(level.randomisation, options, seed)
        if level.randomisation.terrain.flat:
            models = models[-1:]  # the nominal robot stands first in every pool
        rest = replace(level.randomisation, variants=1, friction=(1.0, 1.0), mass=(1.0, 1.0), terrain=Terrain())
        # MJX cannot vary the extent of a height field within a pool.
        extent = () if physics == "mujoco" else tuple(models[0].hfield_size.ravel())
        group = groups.setdefault((rest, models[0].nhfield, models[0].ngeom, extent), Group(rest, [], {}))
        group.levels[level] = len(group.models) + np.arange(len(models))
        group.models.extend(models)
    return list(groups.values())


def played(
    levels: Sequence[Level],
    contestants: Mapping[str, tuple[Policy, Any]],
    store: ClipStore,
    starts: Starts,
    assists: Sequence[float],
    *,
    protocol: str,
    physics: str | Physics,
    options: PhysicsOptions,
    seed: int = 0,
    told: Callable[[Level, str, int], None] = lambda level, who, steps: None,
) -> Iterator[tuple[Level, float, str, Scores]]:
    """(level, assist, contestant, scores), programs in turn; `told` hears level, contestant and steps as they play.

    `physics` is the name of a backend, or a backend itself, which has robots of its own and plays nominal levels alone.
    """
    count, horizon = starts.clip.shape[0], int(starts.steps.max())
    key, name = jax.random.key(seed), backend_name(physics) if isinstance(physics, str) else physics.name
    for group in grouped(levels, name, options, seed):
        backend = make_physics(name, options, group.models) if isinstance(physics, str) else physics
        for who, (policy, params) in contestants.items():
            play = make_player(backend, policy, protocol, randomisation=group.randomisation)
            for level, variants in group.levels.items():
                for assist in assists:
                    strength = jnp.asarray(assist, jnp.float32)
                    robots = np.resize(variants, count)

                    def tell(steps: int, level: Level = level, who: str = who) -> None:
                        told(level, who, steps)

                    trace = play(params, store, starts, strength, horizon, key, robots, tell)
                    yield level, assist, who, scores(trace)
