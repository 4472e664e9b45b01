"""The `unitree_hg` and `unitree_api` message types as CycloneDDS knows them; this needs the package `cyclonedds`.

Octets are declared as `byte` and never as `uint8`: the type information that cyclonedds 11 makes of a `uint8` is new to
the 0.10.2 that the robot's own software bundles, and kills that with a segmentation fault as it discovers us. With
`byte` the blobs are those that 0.10.2 makes itself, which `check_blobs` holds to be so before any domain is joined.
"""

# mypy: disable-error-code="type-arg,valid-type"

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import cyclonedds.idl.annotations as annotate
from cyclonedds.idl import IdlStruct
from cyclonedds.idl import types as t

from scaling.errors import InputError


@dataclass
@annotate.final
@annotate.autoid("sequential")
class MotorCmd_(IdlStruct, typename="unitree_hg.msg.dds_.MotorCmd_"):
    """What one motor is to do (rad, rad/s, N m, N m/rad, N m s/rad)."""

    mode: t.byte
    q: t.float32
    dq: t.float32
    tau: t.float32
    kp: t.float32
    kd: t.float32
    reserve: t.uint32


@dataclass
@annotate.final
@annotate.autoid("sequential")
class LowCmd_(IdlStruct, typename="unitree_hg.msg.dds_.LowCmd_"):
    """What all motors are to do."""

    mode_pr: t.byte
    mode_machine: t.byte
    motor_cmd: t.array[MotorCmd_, 35]
    reserve: t.array[t.uint32, 4]
    crc: t.uint32


@dataclass
@annotate.final
@annotate.autoid("sequential")
class IMUState_(IdlStruct, typename="unitree_hg.msg.dds_.IMUState_"):
    """The IMU of the pelvis, and by a message of its own that of the torso (wxyz; rad/s; m/s2; rad; C)."""

    quaternion: t.array[t.float32, 4]
    gyroscope: t.array[t.float32, 3]
    accelerometer: t.array[t.float32, 3]
    rpy: t.array[t.float32, 3]
    temperature: t.int16


@dataclass
@annotate.final
@annotate.autoid("sequential")
class MotorState_(IdlStruct, typename="unitree_hg.msg.dds_.MotorState_"):
    """How one motor is (rad, rad/s, rad/s2, N m; C of casing and winding; V)."""

    mode: t.byte
    q: t.float32
    dq: t.float32
    ddq: t.float32
    tau_est: t.float32
    temperature: t.array[t.int16, 2]
    vol: t.float32
    sensor: t.array[t.uint32, 2]
    motorstate: t.uint32
    reserve: t.array[t.uint32, 4]


@dataclass
@annotate.final
@annotate.autoid("sequential")
class LowState_(IdlStruct, typename="unitree_hg.msg.dds_.LowState_"):
    """How the robot is."""

    version: t.array[t.uint32, 2]
    mode_pr: t.byte
    mode_machine: t.byte
    tick: t.uint32
    imu_state: IMUState_
    motor_state: t.array[MotorState_, 35]
    wireless_remote: t.array[t.byte, 40]
    reserve: t.array[t.uint32, 4]
    crc: t.uint32


@dataclass
@annotate.final
@annotate.autoid("sequential")
class BmsState_(IdlStruct, typename="unitree_hg.msg.dds_.BmsState_"):
    """The battery (`soc`: %; mV, mA, C)."""

    version_high: t.byte
    version_low: t.byte
    fn: t.byte
    cell_vol: t.array[t.uint16, 40]
    bmsvoltage: t.array[t.uint32, 3]
    current: t.int32
    soc: t.byte
    soh: t.byte
    temperature: t.array[t.int16, 12]
    cycle: t.uint16
    manufacturer_date: t.uint16
    bmsstate: t.array[t.uint32, 5]
    reserve: t.array[t.uint32, 3]


@dataclass
@annotate.final
@annotate.autoid("sequential")
class RequestIdentity_(IdlStruct, typename="unitree_api.msg.dds_.RequestIdentity_"):
    """Which call of which function."""

    id: t.int64
    api_id: t.int64


@dataclass
@annotate.final
@annotate.autoid("sequential")
class RequestLease_(IdlStruct, typename="unitree_api.msg.dds_.RequestLease_"):
    """Not used by the services called here."""

    id: t.int64


@dataclass
@annotate.final
@annotate.autoid("sequential")
class RequestPolicy_(IdlStruct, typename="unitree_api.msg.dds_.RequestPolicy_"):
    """Whether an answer is wanted."""

    priority: t.int32
    noreply: bool


@dataclass
@annotate.final
@annotate.autoid("sequential")
class RequestHeader_(IdlStruct, typename="unitree_api.msg.dds_.RequestHeader_"):
    """What stands before every call."""

    identity: RequestIdentity_
    lease: RequestLease_
    policy: RequestPolicy_


@dataclass
@annotate.final
@annotate.autoid("sequential")
class Request_(IdlStruct, typename="unitree_api.msg.dds_.Request_"):
    """A call of one of the robot's services; `parameter` is JSON."""

    header: RequestHeader_
    parameter: str
    binary: t.sequence[t.byte]


@dataclass
@annotate.final
@annotate.autoid("sequential")
class ResponseStatus_(IdlStruct, typename="unitree_api.msg.dds_.ResponseStatus_"):
    """0 where the call was done."""

    code: t.int32


@dataclass
@annotate.final
@annotate.autoid("sequential")
class ResponseHeader_(IdlStruct, typename="unitree_api.msg.dds_.ResponseHeader_"):
    """Which call is answered, and how it went."""

    identity: RequestIdentity_
    status: ResponseStatus_


@dataclass
@annotate.final
@annotate.autoid("sequential")
class Response_(IdlStruct, typename="unitree_api.msg.dds_.Response_"):
    """The answer to a call; `data` is JSON."""

    header: ResponseHeader_
    data: str
    binary: t.sequence[t.byte]


# SHA-256 of the type information and of the type mapping that cyclonedds 0.10.2 makes of the same IDL.
_BLOBS: dict[Any, tuple[str, str]] = {
    LowCmd_: (
        "a1d866061f812994ed42a12eb217b2e3bc77847ab8dd3d15a475eac9a9062deb",
        "84f95b201fd0836d3d5cb67fa9f7ca8e62ae965c191a7b2294370692710d98ed",
    ),
    LowState_: (
        "760abdb429f90da4410e93e139b281551770181e49487820e9dbb3c7e50dda16",
        "6505d3c156e40f7830f4392f5802d5dc416dbfecfadde1bc239a7261a5041222",
    ),
    IMUState_: (
        "ae1f33751e84cb613a49e5595c94e0952098a95f52c0d76aa5de38ab8bc44ddd",
        "f3f1e0eff0f0593574cc65fcaa8c14a3132002966babf12aa401384b59cd51a2",
    ),
    BmsState_: (
        "8c8714bc60eb2bf435ea1308eee7a5eb8be1b8528380cf4186ae338f4c1bf6f0",
        "3e634a5dc14fa87a960a8912c216c675d6d0b69ff3d7361b9cc72831f6d7613e",
    ),
    Request_: (
        "d1e419871f71e120b9038e8efbd1c5e0f8c20aa9496155c47353ad6fab45ccae",
        "f332d1c941b26f686f4ad99ba674934bec0d44630f78bb34701999855e87d9eb",
    ),
    Response_: (
        "bee0d8bff3f57731e48122e8532c64b88d84fce7ca983fbdf8d836fb3e91b447",
        "eff47f1cd7611ea6bab071ffd76e777b2dcafcfcdc97c2a92639ee441e440494",
    ),
}


def check_blobs(cls: Any) -> None:
    """Raises InputError where the type information of `cls` is not that which the robot's own software makes of it."""
    cls.__idl__.fill_type_data()
    found = tuple(hashlib.sha256(blob or b"").hexdigest() for blob in cls.__idl__._xt_bytedata)
    if found != _BLOBS[cls]:
        raise InputError(
            f"this cyclonedds describes {cls.__name__} in a way that can crash the robot's software: "
            "install cyclonedds 11.0.1"
        )


class Raw:
    """A message that is its own CDR stream, in the place of an object of fields: DDS hands on what `wire` encoded."""

    __idl__: ClassVar[Any]
    __idl_typename__: ClassVar[str]
    sample_info: Any

    def __init__(self, stream: bytes) -> None:
        self.stream = stream

    def serialize(self, *_: Any, **__: Any) -> bytes:
        """The stream as it is."""
        return self.stream

    @classmethod
    def deserialize(cls, data: bytes, *_: Any, **__: Any) -> "Raw":
        """The stream as it came."""
        return cls(bytes(data))

    @classmethod
    def deserialize_key(cls, data: bytes, *_: Any, **__: Any) -> None:
        """Nothing: these messages have no key, and what comes here tells of a writer that has gone."""


def raw(cls: Any) -> type[Raw]:
    """The class of streams of `cls`, known to DDS by the same name and type information."""
    check_blobs(cls)
    return type(f"Raw{cls.__name__}", (Raw,), {"__idl__": cls.__idl__, "__idl_typename__": cls.__idl_typename__})
