"""Clips on the device: packed `qpos` only, everything else derived from it frame by frame."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scaling.contract.observation import LOOK_AHEAD, Reference
from scaling.errors import InputError
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import quat_conj, quat_mul, rotation_vector


class ClipStore(NamedTuple):
    """Clips of any length end to end at 50 Hz (144 B a frame); an argument of programs, never a constant."""

    qpos: Float[Array, "N 36"]
    start: Int[Array, "S"]
    length: Int[Array, "S"]


def make_store(qpos: Float[np.ndarray, "N 36"], start: Int[np.ndarray, "S"], length: Int[np.ndarray, "S"]) -> ClipStore:
    """A store on the default device.

    Raises InputError for no clips, a clip of fewer than two frames or with a value that is not finite, and one that
    leaves the packed array.
    """
    start, length = np.asarray(start, np.int32), np.asarray(length, np.int32)
    if len(length) == 0:
        raise InputError("there are no clips; give at least one of two frames")
    if length.min() < 2:
        raise InputError(f"clip {length.argmin()} has {length.min()} frames; leave out clips of fewer than two")
    end = start + length
    if start.min() < 0 or end.max() > len(qpos):
        raise InputError(f"clip {end.argmax()} ends at frame {end.max()} of {len(qpos)}; pack whole clips")
    bad = np.flatnonzero(~np.isfinite(np.asarray(qpos)).all(axis=-1))
    if len(bad):
        clip = np.flatnonzero((start <= bad[0]) & (bad[0] < end))
        where = f"clip {clip[0]}, frame {bad[0] - start[clip[0]]}" if len(clip) else f"frame {bad[0]} of the store"
        raise InputError(f"{where} holds a value that is not finite; leave the clip out or mend it")
    return ClipStore(jnp.asarray(qpos, jnp.float32), jnp.asarray(start), jnp.asarray(length))


def pack(clips: Sequence[Float[np.ndarray, "T 36"]]) -> ClipStore:
    """A store of these clips (50 Hz) in this order; raises as `make_store`."""
    length = np.array([len(clip) for clip in clips])
    return make_store(np.concatenate([*clips, np.zeros((0, 36))]), np.cumsum(length) - length, length)


def _finite_velocity(now: Float[Array, "*b 36"], later: Float[Array, "*b 36"]) -> Float[Array, "*b 35"]:
    """MuJoCo's `qvel` between two frames 20 ms apart: world linear, body-frame angular, joints."""
    turn = rotation_vector(quat_mul(quat_conj(now[..., 3:7]), later[..., 3:7]))
    step = jnp.concatenate([later[..., :3] - now[..., :3], turn, later[..., 7:] - now[..., 7:]], axis=-1)
    return step / CONTROL_DT


def frame_at(
    store: ClipStore, clip: Int[Array, "*b"], frame: Int[Array, "*b"]
) -> tuple[Float[Array, "*b 36"], Float[Array, "*b 35"]]:
    """`qpos` and `qvel` of the reference; past its end a clip stands still on its last frame."""
    last = store.length[clip] - 1
    now = store.start[clip] + jnp.clip(frame, 0, last)
    later = store.start[clip] + jnp.clip(frame + 1, 0, last)
    qpos = store.qpos[now]
    return qpos, _finite_velocity(qpos, store.qpos[later])


def reference_at(store: ClipStore, clip: Int[Array, "*b"], frame: Int[Array, "*b"]) -> Reference:
    """What the contract shows of the motion: now and the look-ahead frames."""
    qpos, qvel = frame_at(store, clip, frame)
    ahead = frame[..., None] + jnp.asarray(LOOK_AHEAD)
    ahead_qpos, ahead_qvel = frame_at(store, jnp.broadcast_to(clip[..., None], ahead.shape), ahead)
    return Reference(qpos, qvel, ahead_qpos, ahead_qvel)
