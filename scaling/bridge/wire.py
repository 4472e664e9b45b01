"""The robot's messages as bytes: the C images that its CRC covers, and the CDR streams that DDS carries.

`unitree_hg` of the G1: 35 motor slots, of which 0-28 are the joints in the order of `robot.g1.JOINT_NAMES`. All
numbers are little endian; quaternions are wxyz on the wire as they are inside.
"""

import zlib

import numpy as np
from jaxtyping import UInt8

SLOTS = 35
NUM_JOINTS = 29  # slots 29 to 34 drive nothing

MOTOR_CMD = np.dtype(
    [("mode", "u1"), ("q", "f4"), ("dq", "f4"), ("tau", "f4"), ("kp", "f4"), ("kd", "f4"), ("reserve", "u4")],
    align=True,
)
LOW_CMD = np.dtype(
    [("mode_pr", "u1"), ("mode_machine", "u1"), ("motor_cmd", MOTOR_CMD, SLOTS), ("reserve", "u4", 4), ("crc", "u4")],
    align=True,
)
IMU_STATE = np.dtype(
    [
        ("quaternion", "f4", 4),
        ("gyroscope", "f4", 3),
        ("accelerometer", "f4", 3),
        ("rpy", "f4", 3),
        ("temperature", "i2"),
    ],
    align=True,
)
MOTOR_STATE = np.dtype(
    [
        ("mode", "u1"),
        ("q", "f4"),
        ("dq", "f4"),
        ("ddq", "f4"),
        ("tau_est", "f4"),
        ("temperature", "i2", 2),
        ("vol", "f4"),
        ("sensor", "u4", 2),
        ("motorstate", "u4"),
        ("reserve", "u4", 4),
    ],
    align=True,
)
LOW_STATE = np.dtype(
    [
        ("version", "u4", 2),
        ("mode_pr", "u1"),
        ("mode_machine", "u1"),
        ("tick", "u4"),
        ("imu_state", IMU_STATE),
        ("motor_state", MOTOR_STATE, SLOTS),
        ("wireless_remote", "u1", 40),
        ("reserve", "u4", 4),
        ("crc", "u4"),
    ],
    align=True,
)
HEADER = b"\x00\x01\x00\x00"  # XCDR1, little endian, no options
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

Image = UInt8[np.ndarray, "bytes"]


class WireError(ValueError):
    """Bytes that are not the message they should be; the reason is the text."""


def crc32(image: bytes) -> int:
    """The robot's CRC-32 of whole words: polynomial 0x04C11DB7, all ones at first, nothing reflected, no last xor.

    By zlib, whose CRC is the mirror image of this one: 2.7 us for a state where a loop over bits takes 1.25 ms.
    """
    mirrored = np.frombuffer(image, "<u4").byteswap().tobytes().translate(_MIRROR)
    return int.from_bytes((zlib.crc32(mirrored) ^ 0xFFFFFFFF).to_bytes(4, "little").translate(_MIRROR), "big")


def blank(dtype: np.dtype) -> np.ndarray:
    """One message of zeros, padding included: the CRC covers that too."""
    return np.frombuffer(bytearray(dtype.itemsize), dtype)


def sign(message: np.ndarray) -> None:
    """Write the CRC of all that stands before it."""
    message["crc"] = crc32(message.tobytes()[:-4])


def encode(message: np.ndarray) -> bytes:
    """The CDR stream of a LowCmd, LowState or IMUState (array [1]).

    The streams of the first two have the length of the C image, because what alignment saves after the first bytes
    their header costs; from the first motor's first float on the two are the same bytes.
    """
    image = message.tobytes()
    if message.dtype == IMU_STATE:
        return HEADER + image
    if message.dtype == LOW_CMD:
        return HEADER + bytes((image[0], image[1], image[4], 0)) + image[8:]
    return HEADER + image[:70] + bytes((image[72], 0)) + image[76:]


def decode(stream: bytes, dtype: np.dtype) -> np.ndarray:
    """The message (array [1]) of a CDR stream; padding is zero whatever the sender left there.

    Raises WireError for another length or encoding, and for a CRC that is not the message's.
    """
    if len(stream) != dtype.itemsize:
        raise WireError(f"a message of {len(stream)} bytes where {dtype.itemsize} belong")
    if stream[:2] != HEADER[:2]:
        raise WireError(f"an encoding {stream[:2].hex()} that is not little-endian XCDR1")
    if dtype == LOW_CMD:
        image = bytearray(stream[4:6] + b"\0\0" + stream[6:7] + b"\0\0\0" + stream[8:])
        first, stride = 4, MOTOR_CMD.itemsize
    else:
        image = bytearray(stream[4:74] + b"\0\0" + stream[74:75] + b"\0\0\0" + stream[76:])
        first, stride = 72, MOTOR_STATE.itemsize
    rows = np.frombuffer(image, np.uint8)[first : first + SLOTS * stride].reshape(SLOTS, stride)
    rows[:, 1:4] = 0
    message = np.frombuffer(image, dtype)
    found, wanted = int(message["crc"][0]), crc32(bytes(image[:-4]))
    if found != wanted:
        raise WireError(f"CRC {found:08x} where {wanted:08x} belongs")
    return message
