"""Observation normalisation that travels with the policy."""

from typing import Any, NamedTuple

from jaxtyping import Float

from scaling.robot.rotations import namespace

Array = Any

CLIP = 10.0


class Normaliser(NamedTuple):
    """Mean and standard deviation of each observation entry."""

    mean: Float[Array, "*k obs"]
    std: Float[Array, "*k obs"]

    def __call__(self, obs: Float[Array, "*b obs"]) -> Float[Array, "*b obs"]:
        """`(obs - mean) / std`, clipped to +-10 so that a sensor glitch cannot leave the trained range."""
        xp = namespace(obs)
        return xp.clip((obs - self.mean) / self.std, -CLIP, CLIP)
