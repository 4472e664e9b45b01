"""The robot's own wire by CycloneDDS: `rt/lowcmd` one way; `rt/lowstate`, the torso's IMU and the battery the other."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from scaling.bridge.wire import LOW_CMD, LOW_STATE, WireError, decode, encode, sign
from scaling.errors import InputError

ROBOT_DOMAIN, TWIN_DOMAIN = 0, 1
_BATTERY, _TORSO = "rt/lf/bmsstate", "rt/secondary_imu"
_TOPICS = {"state": ("rt/lowstate", LOW_STATE, "LowState_"), "command": ("rt/lowcmd", LOW_CMD, "LowCmd_")}
# 0.10.2 does no multicast on `lo`, so peers are looked for one by one.
_LOOPBACK = """<CycloneDDS><Domain Id="any">
<General><Interfaces><NetworkInterface name="lo"/></Interfaces><AllowMulticast>false</AllowMulticast></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>50</MaxAutoParticipantIndex>
<Peers><Peer Address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"""

# On a robot's network, through the interface that leads to it and no other.
_NETWORK = """<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface name="{}"/></Interfaces></General>
</Domain></CycloneDDS>"""

Side = Literal["robot", "bridge"]


def check_domain(domain: int, side: Side = "bridge", interface: str | None = None) -> None:
    """Raises InputError for what is no domain, and where the robot's own one is not meant."""
    if not 0 <= domain <= 200:
        raise InputError(f"domain is {domain}: give the robot's, 0, or the twin's, from 1 to 200")
    if domain == ROBOT_DOMAIN and side == "robot":
        raise InputError("domain 0 is the robot itself, and a twin there would be a second one: give 1 to 200")
    if domain == ROBOT_DOMAIN and interface in (None, "lo"):
        raise InputError("domain 0 is the robot itself: name the network interface that leads to it with --interface")
    if interface is not None and interface not in (names := [name for _, name in socket.if_nameindex()]):
        raise InputError(f"there is no network interface {interface!r} here: use one of {', '.join(names)}")


def join(domain: int, side: Side, interface: str | None) -> tuple[Any, Any]:
    """(domain, participant) on the loopback, or on a network interface; `CYCLONEDDS_URI` overrules either.

    Both last as long as they are referred to. Raises InputError where the package is missing, and as `check_domain`.
    """
    check_domain(domain, side, interface)
    try:
        from cyclonedds.domain import Domain, DomainParticipant
    except ImportError as error:
        raise InputError(
            f"transport 'dds' needs the package cyclonedds ({error}): install it with pip install cyclonedds"
        ) from None
    config = _LOOPBACK if interface is None else _NETWORK.format(interface)
    return Domain(domain, os.environ.get("CYCLONEDDS_URI") or config), DomainParticipant(domain)


class Voice:
    """A second writer of commands, which keeps silent until it is needed."""

    def __init__(self, domain: int, interface: str | None = None) -> None:
        """Raises InputError as `join`."""
        self._domain, self.participant = join(domain, "bridge", interface)
        _, self._say = _speaker(self.participant, "command")

    def send(self, message: np.ndarray) -> None:
        """Sign a LowCmd and put it on the wire."""
        self._say(message)

    def close(self) -> None:
        """Leave the domain."""
        for name in ("_say", "participant", "_domain"):
            setattr(self, name, None)  # what DDS has made goes with its last reference


def _topic(participant: Any, name: str) -> tuple[Any, Any]:
    """(topic, type) of `state` or `command`."""
    from cyclonedds.topic import Topic

    from scaling.bridge import idl

    kind = idl.raw(getattr(idl, _TOPICS[name][2]))
    return Topic(participant, _TOPICS[name][0], kind), kind


def _speaker(participant: Any, name: str) -> tuple[Any, Callable[[np.ndarray], None]]:
    """The topic of `state` or `command`, and what signs such a message and puts it on the wire."""
    from cyclonedds.pub import DataWriter
    from cyclonedds.qos import Policy, Qos

    topic, kind = _topic(participant, name)
    quality = Qos(Policy.Reliability.Reliable(10_000_000), Policy.History.KeepLast(1))
    writer: Any = DataWriter(participant, topic, quality)

    def say(message: np.ndarray) -> None:
        sign(message)
        writer.write(kind(encode(message)))

    return topic, say


class DdsWire:
    """One side of the wire: the robot (or its twin) sends states and hears commands, the bridge the other way round.

    A thread of its own waits for what comes, so that a message is there as soon as it has arrived; `arrived` is a
    file descriptor that a select sees readable from then on. Times are of the monotonic clock (s).
    """

    def __init__(self, domain: int, side: Side, interface: str | None = None) -> None:
        """Raises InputError where the package is missing, and as `check_domain`."""
        self._domain, self.participant = join(domain, side, interface)
        from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
        from cyclonedds.pub import DataWriter
        from cyclonedds.qos import Policy, Qos
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic

        from scaling.bridge import idl

        self.rejected = 0
        self._newest: tuple[float, np.ndarray] | None = None
        self._closing = False
        self.arrived = os.eventfd(0, os.EFD_NONBLOCK)
        out, into = ("state", "command") if side == "robot" else ("command", "state")
        participant = self.participant
        self._said, self._say = _speaker(participant, out)
        self._reader = DataReader(
            participant, _topic(participant, into)[0], Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(1))
        )
        self._dtype = _TOPICS[into][1]
        idl.check_blobs(idl.BmsState_)
        battery: Any = Topic(participant, _BATTERY, idl.BmsState_)
        self._charge: float | None = None
        self._charged = self._charge_asked = -math.inf
        self._battery: Any = DataWriter(participant, battery) if side == "robot" else DataReader(participant, battery)
        self._torso: Any = None
        if side == "robot":
            self._imu = idl.raw(idl.IMUState_)
            self._torso = DataWriter(participant, Topic(participant, _TORSO, self._imu))
        self._waitset = WaitSet(participant)
        self._waitset.attach(ReadCondition(self._reader, SampleState.Any | ViewState.Any | InstanceState.Any))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def send(self, message: np.ndarray) -> None:
        """Sign a message of this side's kind and put it on the wire."""
        self._say(message)

    def latest(self) -> tuple[float, np.ndarray] | None:
        """The newest message of the other side with the time of its arrival, None before the first."""
        return self._newest

    def rivals(self, seconds: float) -> bool:
        """Whether somebody else says, within this time (s), what only this side may say; before it says anything."""
        from cyclonedds.sub import DataReader

        reader = DataReader(self.participant, self._said)
        time.sleep(seconds)
        return any(hasattr(sample, "stream") for sample in reader.take(8))

    def send_battery(self, charge: float) -> None:
        """Say how full the battery is (%): the robot's side."""
        self._battery.write(_battery_message(charge))

    def send_torso(self, message: np.ndarray) -> None:
        """Put an IMUState of the torso on the wire: the robot's side."""
        self._torso.write(self._imu(encode(message)))

    def battery(self) -> tuple[float, float] | None:
        """The newest state of charge (%) with the time of its arrival, None before the first: the bridge's side.

        Asked for at most ten times a second, for the robot says it far less often.
        """
        now = time.monotonic()
        if now - self._charge_asked > 0.1:
            self._charge_asked = now
            for sample in self._battery.take(8):
                if (soc := getattr(sample, "soc", None)) is not None:
                    self._charge, self._charged = float(soc), now
        return None if self._charge is None else (self._charge, self._charged)

    def close(self) -> None:
        """Leave the domain."""
        self._closing = True
        self._thread.join(timeout=1.0)
        os.close(self.arrived)
        for name in ("_waitset", "_reader", "_say", "_battery", "_torso", "_said", "participant", "_domain"):
            setattr(self, name, None)  # what DDS has made goes with its last reference

    def _listen(self) -> None:
        while not self._closing:
            self._waitset.wait(100_000_000)
            for sample in self._reader.take(8):
                stream = getattr(sample, "stream", None)
                if stream is None:  # a note that a writer has gone
                    continue
                try:
                    self._newest = (time.monotonic(), decode(stream, self._dtype))
                except WireError:
                    self.rejected += 1
                    continue
                os.eventfd_write(self.arrived, 1)


def _battery_message(charge: float) -> Any:
    from scaling.bridge import idl

    message: Any = idl.BmsState_
    return message(
        version_high=1,
        version_low=0,
        fn=0,
        cell_vol=[0] * 40,
        bmsvoltage=[0] * 3,
        current=0,
        soc=round(charge),
        soh=100,
        temperature=[25] * 12,
        cycle=0,
        manufacturer_date=0,
        bmsstate=[0] * 5,
        reserve=[0] * 3,
    )
