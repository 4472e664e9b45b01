"""Self-collision of the robot as geometry: which links' capsules overlap, from the joint angles alone."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scaling.robot.figures import CAPSULES
from scaling.robot.g1 import BODY_INDEX
from scaling.robot.kinematics import forward_kinematics
from scaling.robot.rotations import rotate

_SIDES = ("left", "right")
# The foot's outline; its other capsules lie between these.
_FOOT = ("foot1", "foot2", "foot4", "foot6", "foot7")
_LEG = (("hip",), ("thigh",), ("shin", "linkage_brace"), _FOOT)
_ARM = (("elbow_yaw",), ("wrist",), ("hand",))
_TRUNK = (("torso", "head"), ("pelvis",))


def _link_pairs() -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pairs of links that can meet: forearm and hand with trunk, hips, thighs and the other arm; leg with leg."""

    def side(names: tuple[str, ...], which: str) -> tuple[str, ...]:
        return tuple(f"{which}_{name}" for name in names)

    arms = [[side(link, which) for link in _ARM] for which in _SIDES]
    legs = [[side(link, which) for link in _LEG] for which in _SIDES]
    rest = [*_TRUNK, *(leg[part] for leg in legs for part in (0, 1))]
    pairs = [(link, other) for arm in arms for link in arm for other in rest]
    pairs += [(left, right) for left in arms[0] for right in arms[1]]
    return pairs + [(left, right) for left in legs[0][1:] for right in legs[1][1:]]


_INDEX = {capsule.name.removesuffix("_collision"): index for index, capsule in enumerate(CAPSULES)}
_CAPSULE_PAIRS = [
    (_INDEX[a], _INDEX[b], number) for number, (one, other) in enumerate(_link_pairs()) for a in one for b in other
]
FIRST, SECOND, LINK_PAIR = (np.array(column) for column in zip(*_CAPSULE_PAIRS, strict=True))
"""Indices into `CAPSULES` of each pair that is looked at, and the pair of links that it belongs to."""
LINK_PAIRS = int(LINK_PAIR[-1]) + 1

_BODY = np.array([BODY_INDEX[capsule.body] for capsule in CAPSULES])
_CENTRE = np.array([capsule.pos for capsule in CAPSULES], float)
_RADIUS = np.array([capsule.radius for capsule in CAPSULES])
_QUAT = np.array([capsule.quat for capsule in CAPSULES], float)
_QUAT /= np.linalg.norm(_QUAT, axis=1, keepdims=True)
# A capsule's axis is its frame's z: from the centre to one end, in the frame of its body.
_AXIS = rotate(_QUAT, np.array([[0.0, 0.0, 1.0]])) * np.array([[capsule.half_length] for capsule in CAPSULES])


def segment_distance(
    centre_a: Float[Array, "*b 3"],
    half_a: Float[Array, "*b 3"],
    centre_b: Float[Array, "*b 3"],
    half_b: Float[Array, "*b 3"],
) -> Float[Array, "*b"]:
    """Shortest distance between segments centre +- half (Ericson, Real-Time Collision Detection, 5.1.9).

    A half of zero is a point.
    """
    apart = centre_a - centre_b
    a, e, b = (jnp.sum(x * y, axis=-1) for x, y in ((half_a, half_a), (half_b, half_b), (half_a, half_b)))
    c, f = jnp.sum(half_a * apart, axis=-1), jnp.sum(half_b * apart, axis=-1)
    long_a, long_b = jnp.maximum(a, 1e-9), jnp.maximum(e, 1e-9)
    denominator = a * e - b * b
    crossing = denominator > 1e-6 * a * e
    s = jnp.where(crossing, (b * f - c * e) / jnp.where(crossing, denominator, 1.0), 0.0)
    s = jnp.clip(s, -1.0, 1.0)
    t = jnp.clip((b * s + f) / long_b, -1.0, 1.0)
    s = jnp.clip((b * t - c) / long_a, -1.0, 1.0)
    offset = apart + s[..., None] * half_a - t[..., None] * half_b
    return jnp.sqrt(jnp.sum(offset * offset, axis=-1))


def pair_gaps(qpos: Float[Array, "*b 36"]) -> Float[Array, "*b P"]:
    """Metres between the surfaces of each pair of capsules (`FIRST`, `SECOND`); negative where they overlap."""
    pos, quat = forward_kinematics(qpos)
    body = quat[..., _BODY, :]
    centre = pos[..., _BODY, :] + rotate(
        body, jnp.broadcast_to(jnp.asarray(_CENTRE, qpos.dtype), (*body.shape[:-1], 3))
    )
    half = rotate(body, jnp.broadcast_to(jnp.asarray(_AXIS, qpos.dtype), (*body.shape[:-1], 3)))
    distance = segment_distance(
        centre[..., FIRST, :], half[..., FIRST, :], centre[..., SECOND, :], half[..., SECOND, :]
    )
    return distance - jnp.asarray(_RADIUS[FIRST] + _RADIUS[SECOND], qpos.dtype)


def self_collisions(qpos: Float[Array, "*b 36"]) -> Float[Array, "*b"]:
    """How many pairs of links overlap."""
    gaps = pair_gaps(qpos)
    starts = np.flatnonzero(np.diff(LINK_PAIR, prepend=-1))
    ends = [*starts[1:], len(LINK_PAIR)]
    hit = [jnp.any(gaps[..., start:end] < 0, axis=-1) for start, end in zip(starts, ends, strict=True)]
    return jnp.sum(jnp.stack(hit, axis=-1), axis=-1).astype(qpos.dtype)
