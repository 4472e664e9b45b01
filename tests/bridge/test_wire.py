"""The wire byte for byte: layouts, CRC by a loop over bits, motor order, and streams by another serialiser."""

import numpy as np
import pytest

from scaling.bridge import wire
from scaling.bridge.wire import (
    LOW_CMD,
    LOW_STATE,
    MOTOR_CMD,
    MOTOR_STATE,
    WireError,
    blank,
    crc32,
    decode,
    encode,
    sign,
)


def crc_by_hand(image):
    """The published form: one bit at a time over little-endian words."""
    crc = 0xFFFFFFFF
    for word in np.frombuffer(image, "<u4").tolist():
        crc ^= word
        for _ in range(32):
            crc = ((crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def filled(dtype, seed=0):
    """A message whose every field is random, padding zero, signed."""
    rng = np.random.default_rng(seed)
    message = blank(dtype)

    def fill(array):
        if array.dtype.names:
            for name in array.dtype.names:
                fill(array[name])
        elif array.dtype.kind == "f":
            array[...] = rng.normal(size=array.shape)
        else:
            info = np.iinfo(array.dtype)
            array[...] = rng.integers(info.min, info.max, array.shape, endpoint=True)

    fill(message)
    sign(message)
    return message


def test_the_c_structs_have_their_published_sizes():
    assert (LOW_CMD.itemsize, LOW_STATE.itemsize) == (1004, 2092)
    assert (MOTOR_CMD.itemsize, MOTOR_STATE.itemsize) == (28, 56)


def test_the_crc_is_the_published_one():
    # CRC-32/MPEG-2 of "123456789abc" as words read from the left: the word order is swapped on the wire.
    text = b"123456789abc"
    swapped = np.frombuffer(text, ">u4").astype("<u4").tobytes()
    assert crc32(swapped) == crc_by_hand(swapped)
    assert crc32(b"\0\0\0\0") == 0xC704DD7B
    for seed, words in enumerate((1, 2, 7, 250, 522)):
        image = np.random.default_rng(seed).bytes(4 * words)
        assert crc32(image) == crc_by_hand(image)


@pytest.mark.parametrize("dtype", [LOW_CMD, LOW_STATE], ids=["command", "state"])
def test_a_message_comes_back_as_it_was_sent(dtype):
    for seed in range(20):
        message = filled(dtype, seed)
        stream = encode(message)
        assert len(stream) == dtype.itemsize
        assert decode(stream, dtype).tobytes() == message.tobytes()
        assert int(message["crc"][0]) == crc_by_hand(message.tobytes()[:-4])


@pytest.mark.parametrize("dtype", [LOW_CMD, LOW_STATE], ids=["command", "state"])
def test_padding_that_the_sender_left_dirty_does_no_harm(dtype):
    message = filled(dtype)
    stream = bytearray(encode(message))
    first = 4 if dtype == LOW_CMD else 72
    stride = (MOTOR_CMD if dtype == LOW_CMD else MOTOR_STATE).itemsize
    stream[7 if dtype == LOW_CMD else 75] = 0xEE
    for slot in range(1, 35):
        stream[first + slot * stride + 1 : first + slot * stride + 4] = b"\xee\xee\xee"
    assert decode(bytes(stream), dtype).tobytes() == message.tobytes()


@pytest.mark.parametrize("dtype", [LOW_CMD, LOW_STATE], ids=["command", "state"])
def test_every_flipped_bit_of_a_message_is_refused(dtype):
    stream = encode(filled(dtype))
    clean = decode(stream, dtype).tobytes()
    for place in range(len(stream)):
        spoilt = bytearray(stream)
        spoilt[place] ^= 1 << (place % 8)
        try:
            assert decode(bytes(spoilt), dtype).tobytes() == clean, place  # padding, or options of the header
        except WireError:
            continue
        assert place >= 2, place


def test_another_length_and_another_encoding_are_named():
    stream = encode(filled(LOW_STATE))
    with pytest.raises(WireError, match="2091 bytes where 2092"):
        decode(stream[:-1], LOW_STATE)
    with pytest.raises(WireError, match="not little-endian XCDR1"):
        decode(b"\x00\x00" + stream[2:], LOW_STATE)
    with pytest.raises(WireError, match="1004 bytes"):
        decode(encode(filled(LOW_CMD)), LOW_STATE)


def test_offsets_are_those_of_the_stream():
    """Spelt out from the IDL: alignment counts from the end of the four header bytes."""
    stream = encode(filled(LOW_CMD))
    message = filled(LOW_CMD)[0]
    assert (stream[4], stream[5], stream[6]) == (
        message["mode_pr"],
        message["mode_machine"],
        message["motor_cmd"][0]["mode"],
    )
    for slot in (0, 1, 17, 34):
        assert np.frombuffer(stream, "<f4", 1, 8 + 28 * slot)[0] == message["motor_cmd"][slot]["q"]
        assert np.frombuffer(stream, "<f4", 1, 8 + 28 * slot + 16)[0] == message["motor_cmd"][slot]["kd"]
    stream, message = encode(filled(LOW_STATE)), filled(LOW_STATE)[0]
    assert np.frombuffer(stream, "<u4", 1, 16)[0] == message["tick"]
    np.testing.assert_array_equal(np.frombuffer(stream, "<f4", 4, 20), message["imu_state"]["quaternion"])
    for slot in (0, 1, 28, 34):
        assert np.frombuffer(stream, "<f4", 1, 76 + 56 * slot)[0] == message["motor_state"][slot]["q"]
        assert np.frombuffer(stream, "<u4", 1, 76 + 56 * slot + 32)[0] == message["motor_state"][slot]["motorstate"]


def nested(cls, record):
    """An object of the generic serialiser from one record of a message."""
    from cyclonedds.idl import IdlStruct

    values = {}
    for name in record.dtype.names:
        value, kind = record[name], cls.__annotations__[name]
        inner = next((arg for arg in getattr(kind, "__metadata__", ()) if hasattr(arg, "subtype")), None)
        if inner is not None and isinstance(inner.subtype, type) and issubclass(inner.subtype, IdlStruct):
            values[name] = [nested(inner.subtype, entry) for entry in value]
        elif isinstance(kind, type) and issubclass(kind, IdlStruct):
            values[name] = nested(kind, value)
        else:
            values[name] = value.tolist()
    return cls(**values)


@pytest.mark.parametrize("name", ["LowCmd_", "LowState_"])
def test_the_stream_is_that_of_cyclonedds_own_serialiser(name):
    idl = pytest.importorskip("scaling.bridge.idl")
    dtype = {"LowCmd_": LOW_CMD, "LowState_": LOW_STATE}[name]
    cls = getattr(idl, name)
    for seed in range(3):
        message = filled(dtype, seed)
        theirs = cls.__idl__.serialize(nested(cls, message[0]), use_version_2=False)
        assert encode(message) == theirs[: dtype.itemsize]


def test_slots_are_more_than_joints():
    from scaling.robot.g1 import JOINT_NAMES

    assert len(JOINT_NAMES) == wire.NUM_JOINTS < wire.SLOTS == 35
