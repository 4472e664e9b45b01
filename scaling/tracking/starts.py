"""How an episode starts: off the reference by noise, and at a phase that is uniform or favours past failures.

Adaptive phases are BeyondMimic's. Each clip of a task has a fixed number of phase bins. Failures are counted into the
bin they happened in, as a moving average per control step; a bin's share of its clip's starts is that average plus a
uniform floor.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.robot.rotations import from_rotation_vector, normalise, quat_mul
from scaling.tracking.physics import PhysicsState

MODES = ("uniform", "adaptive")

# BeyondMimic's figures (whole_body_tracking, mjlab).
KERNEL_SIZE = 1  # bins
KERNEL_DECAY = 0.8
FLOOR = 0.1  # failures per control step, spread over the bins of a clip
RATE = 0.001  # of the moving average
_SHORTEST_RUN = 10  # frames that must be left of a clip where an episode starts

# BeyondMimic's start noise: root position (m), root tilt and heading (rad), joints (rad).
_POSITION_NOISE = np.array([0.05, 0.05, 0.01], np.float32)
_TURN_NOISE = np.array([0.1, 0.1, 0.2], np.float32)
_JOINT_NOISE = 0.1
_LINEAR_NOISE = np.array([0.5, 0.5, 0.2], np.float32)
_ANGULAR_NOISE = np.array([0.52, 0.52, 0.78], np.float32)


def span(length: Int[Array, "*b"]) -> Int[Array, "*b"]:
    """Frames of a clip at which an episode may start."""
    return jnp.maximum(length - _SHORTEST_RUN, 1)


def shares(
    failures: Float[Array, "*b B"], size: int = KERNEL_SIZE, decay: float = KERNEL_DECAY
) -> Float[Array, "*b B"]:
    """Each bin's share of its clip's starts; 1/B everywhere where nothing failed.

    The kernel decay^i (i < size) looks ahead: a failure raises the bins before its own, the last bin stands for
    those after it. A size of 1 leaves each bin its own failures.
    """
    bins = failures.shape[-1]
    raised = failures + FLOOR / bins
    padded = jnp.concatenate([raised, jnp.repeat(raised[..., -1:], size - 1, axis=-1)], axis=-1)
    smooth = sum(decay**i * padded[..., i : i + bins] for i in range(size))
    return jnp.asarray(smooth / jnp.sum(smooth, axis=-1, keepdims=True))


def phases(key: Key[Array, ""], row: Int[Array, "E"], failures: Float[Array, "M B"] | None) -> Float[Array, "E"]:
    """Phases in [0, 1) of the clips at `row`, by their bins' shares; without failures the uniform draw itself."""
    phase = jax.random.uniform(key, row.shape)
    if failures is None:
        return phase
    share = shares(failures)[row]
    bins = share.shape[-1]
    upper = jnp.cumsum(share, axis=-1)
    bin_ = jnp.minimum(jnp.sum(phase[:, None] >= upper, axis=-1), bins - 1)
    own = jnp.take_along_axis(share, bin_[:, None], axis=-1)[:, 0]
    inside = (phase - (jnp.take_along_axis(upper, bin_[:, None], axis=-1)[:, 0] - own)) / own
    return (bin_ + jnp.clip(inside, 0.0, 1.0 - 1e-6)) / bins


def count(
    failures: Float[Array, "M B"],
    clips: Int[Array, "M"],
    weights: Float[Array, "M"],
    clip: Int[Array, "E"],
    frame: Int[Array, "E"],
    length: Int[Array, "E"],
    failed: Bool[Array, "E"],
) -> Float[Array, "M B"]:
    """The moving average after a control step in which the episodes `failed` broke off at `frame` of `clip`."""
    bins = failures.shape[-1]
    row = jnp.argmax((clips == clip[:, None]) & (weights > 0), axis=-1)
    bin_ = jnp.clip(frame * bins // span(length), 0, bins - 1)
    now = jnp.zeros_like(failures).at[row, bin_].add(failed.astype(failures.dtype))
    return RATE * now + (1.0 - RATE) * failures


def no_failures(clips: int, bins: int) -> Float[np.ndarray, "M B"]:
    """What a training starts from."""
    return np.zeros((clips, bins), np.float32)


def noisy(key: Key[Array, ""], scale: float, qpos: Float[Array, "E 36"], qvel: Float[Array, "E 35"]) -> PhysicsState:
    """Robots near these states, by `scale` times BeyondMimic's noise."""
    keys = jax.random.split(key, 5)
    count = qpos.shape[0]

    def noise(index: int, size: int) -> Array:
        return scale * jax.random.uniform(keys[index], (count, size), minval=-1.0, maxval=1.0)

    turn = from_rotation_vector(_TURN_NOISE * noise(1, 3))
    position = qpos[:, :3] + _POSITION_NOISE * noise(0, 3)
    joints = qpos[:, 7:] + _JOINT_NOISE * noise(2, 29)
    linear = qvel[:, :3] + _LINEAR_NOISE * noise(3, 3)
    angular = qvel[:, 3:6] + _ANGULAR_NOISE * noise(4, 3)
    return PhysicsState(
        jnp.concatenate([position, normalise(quat_mul(turn, qpos[:, 3:7])), joints], axis=-1),
        jnp.concatenate([linear, angular, qvel[:, 6:]], axis=-1),
    )
