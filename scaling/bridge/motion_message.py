"""The message by which motion is sent to a running bridge, the same over UDP, WebSocket and ZeroMQ (see README.md).

Binary, little endian, 32 bytes and then the frames: `magic` b"G1MO", `version` u16 (1), `count` u16, `sequence` u32,
`rate` f32 (Hz), `time` f64 and `sent` f64 (s by the sender's own clock: of the first frame, and of the sending), and
`count` frames of 36 float32: root x y z (m), root quaternion w x y z, 29 joints (rad, motor order). Or the same as a
JSON object `{"version", "sequence", "rate", "time", "sent", "qpos"}`, whose first byte is an opening brace.
"""

import json
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scaling.motion.clip import NORM_TOLERANCE
from scaling.robot.g1 import JOINT_NAMES, NQ, RANGE_HIGH, RANGE_LOW

MAGIC, VERSION = b"G1MO", 1
HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("version", "<u2"),
        ("count", "<u2"),
        ("sequence", "<u4"),
        ("rate", "<f4"),
        ("time", "<f8"),
        ("sent", "<f8"),
    ]
)
FRAME_BYTES = 4 * NQ
MOST_FRAMES = 450  # what one UDP datagram holds: 9 s at 50 Hz
_BEYOND = 0.5  # rad outside a joint's range that a retargeted motion may ask for; degrees are far beyond it
_SLOWEST, _FASTEST = 0.1, 1000.0  # Hz
_APART = 60.0  # s between a message's sending and its first frame; two clocks that were mixed up are further apart
_LATEST = 1e10  # s: where a clock's numbers still tell microseconds; one that counts in ns is beyond
_KEYS = {"version", "sequence", "rate", "time", "sent", "qpos"}


class MessageError(ValueError):
    """Bytes that are no motion for this robot; the reason is the text."""


class MotionMessage(NamedTuple):
    """Frames `qpos` at `rate` (Hz) from `time` on, sent at `sent` (s, the sender's clock)."""

    sequence: int
    rate: float
    time: float
    sent: float
    qpos: Float[np.ndarray, "T 36"]


def pack_message(message: MotionMessage) -> bytes:
    """The binary form."""
    header = np.zeros(1, HEADER)
    header["magic"], header["version"], header["count"] = MAGIC, VERSION, len(message.qpos)
    header["sequence"], header["rate"] = message.sequence & 0xFFFFFFFF, message.rate
    header["time"], header["sent"] = message.time, message.sent
    return header.tobytes() + message.qpos.astype("<f4").tobytes()


def unpack_message(data: bytes | str) -> MotionMessage:
    """The message in either form, quaternions of unit length. Raises MessageError that says what is wrong with it."""
    if isinstance(data, str) or data[:1] == b"{":
        return _checked(*_from_json(data))
    if len(data) < HEADER.itemsize or data[:4] != MAGIC:
        raise MessageError(f"{len(data)} bytes that do not begin with {MAGIC.decode()}")
    header = np.frombuffer(data, HEADER, 1)[0]
    wanted = HEADER.itemsize + FRAME_BYTES * int(header["count"])
    if len(data) != wanted:
        raise MessageError(f"{len(data)} bytes where {int(header['count'])} frames take {wanted}")
    qpos = np.frombuffer(data, "<f4", offset=HEADER.itemsize).reshape(-1, NQ).astype(float)
    rate, time, sent = (float(header[name]) for name in ("rate", "time", "sent"))
    return _checked(int(header["version"]), MotionMessage(int(header["sequence"]), rate, time, sent, qpos))


def _from_json(text: bytes | str) -> tuple[int, MotionMessage]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"no JSON ({error})") from None
    if not isinstance(raw, dict) or raw.keys() != _KEYS:
        raise MessageError(f"a JSON object of {', '.join(sorted(_KEYS))} belongs here")
    try:
        qpos = np.asarray(raw["qpos"], float)
        rate, time, sent = (float(raw[name]) for name in ("rate", "time", "sent"))
        return int(raw["version"]), MotionMessage(int(raw["sequence"]) & 0xFFFFFFFF, rate, time, sent, qpos)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"what stands where numbers belong is none ({error})") from None


def _checked(version: int, message: MotionMessage) -> MotionMessage:
    qpos = message.qpos
    if version != VERSION:
        raise MessageError(f"version {version} where this bridge reads {VERSION}")
    if qpos.ndim != 2 or qpos.shape[1] != NQ or not 1 <= len(qpos) <= MOST_FRAMES:
        raise MessageError(f"qpos of shape {qpos.shape} where 1 to {MOST_FRAMES} frames of {NQ} numbers belong")
    if not _SLOWEST <= message.rate <= _FASTEST or not np.abs([message.time, message.sent]).max() <= _LATEST:
        raise MessageError(f"rate {message.rate} Hz, time {message.time} s, sent {message.sent} s")
    if abs(message.time - message.sent) > _APART:
        raise MessageError(f"time {message.time} s and sent {message.sent} s: give both by one clock")
    if not np.isfinite(qpos).all():
        raise MessageError("a frame is not finite")
    norms = np.linalg.norm(qpos[:, 3:7], axis=1)
    if np.abs(norms - 1.0).max() > NORM_TOLERANCE:
        raise MessageError(f"a root quaternion of norm {norms[np.abs(norms - 1).argmax()]:.3f}")
    beyond = np.maximum(RANGE_LOW - qpos[:, 7:], qpos[:, 7:] - RANGE_HIGH).max(axis=0)
    worst = int(beyond.argmax())
    if beyond[worst] > _BEYOND:
        raise MessageError(f"{JOINT_NAMES[worst]} is {beyond[worst]:.2f} rad out of its range: give radians")
    whole = qpos.copy()
    whole[:, 3:7] /= norms[:, None]
    whole[:, 7:] = np.clip(qpos[:, 7:], RANGE_LOW, RANGE_HIGH)
    return message._replace(qpos=whole)
