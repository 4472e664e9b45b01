"""The last layer, which both families share."""

import flax.linen as nn
from flax.linen.initializers import variance_scaling

from scaling.students.config import StudentConfig

HEAD_SCALE = 0.01  # initial actions stay near zero: the student starts on the reference, not away from it


def action_head(config: StudentConfig) -> nn.Dense:
    """Linear map to the action, float32, initialised at HEAD_SCALE of the usual spread."""
    return nn.Dense(config.action_dim, kernel_init=variance_scaling(HEAD_SCALE**2, "fan_in", "truncated_normal"))
