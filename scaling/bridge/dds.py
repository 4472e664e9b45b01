"""Two topics of the robot's own wire by CycloneDDS: `rt/lowstate` one way and `rt/lowcmd` the other."""

import os
import threading
import time
from typing import Any, Literal

import numpy as np

from scaling.bridge.wire import LOW_CMD, LOW_STATE, WireError, decode, encode, sign
from scaling.errors import InputError

ROBOT_DOMAIN, TWIN_DOMAIN = 0, 1
_TOPICS = {"state": ("rt/lowstate", LOW_STATE, "LowState_"), "command": ("rt/lowcmd", LOW_CMD, "LowCmd_")}
# 0.10.2 does no multicast on `lo`, so peers are looked for one by one.
_LOOPBACK = """<CycloneDDS><Domain Id="any">
<General><Interfaces><NetworkInterface name="lo"/></Interfaces><AllowMulticast>false</AllowMulticast></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>50</MaxAutoParticipantIndex>
<Peers><Peer Address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"""

Side = Literal["robot", "bridge"]


def check_domain(domain: int) -> None:
    """Raises InputError for the robot's own domain, and for what is none."""
    if domain == ROBOT_DOMAIN:
        raise InputError(
            "domain 0 is the robot itself, whose own motion service this version cannot release yet: use --domain 1"
        )
    if not 0 < domain <= 200:
        raise InputError(f"domain is {domain}: give the twin's, from 1 to 200")


class DdsWire:
    """One side of the wire: the robot (or its twin) sends states and hears commands, the bridge the other way round.

    A thread of its own waits for what comes, so that a message is there as soon as it has arrived; `arrived` is a
    file descriptor that a select sees readable from then on. Times are of the monotonic clock (s).
    """

    def __init__(self, domain: int, side: Side) -> None:
        """Raises InputError where the package is missing, or for the robot's own domain."""
        check_domain(domain)
        try:
            from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
            from cyclonedds.domain import Domain, DomainParticipant
            from cyclonedds.pub import DataWriter
            from cyclonedds.qos import Policy, Qos
            from cyclonedds.sub import DataReader
            from cyclonedds.topic import Topic
        except ImportError as error:
            raise InputError(
                f"transport 'dds' needs the package cyclonedds ({error}): install it with pip install cyclonedds"
            ) from None
        from scaling.bridge import idl

        self.rejected = 0
        self._newest: tuple[float, np.ndarray] | None = None
        self._closing = False
        self.arrived = os.eventfd(0, os.EFD_NONBLOCK)
        out, into = ("state", "command") if side == "robot" else ("command", "state")
        self._domain = Domain(domain, os.environ.get("CYCLONEDDS_URI") or _LOOPBACK)
        participant = DomainParticipant(domain)
        types = {name: idl.raw(getattr(idl, _TOPICS[name][2])) for name in (out, into)}
        topics: dict[str, Any] = {name: Topic(participant, _TOPICS[name][0], kind) for name, kind in types.items()}
        last = Policy.History.KeepLast(1)
        self._out = types[out]
        self._writer = DataWriter(participant, topics[out], Qos(Policy.Reliability.Reliable(10_000_000), last))
        self._reader = DataReader(participant, topics[into], Qos(Policy.Reliability.BestEffort, last))
        self._dtype = _TOPICS[into][1]
        self._waitset = WaitSet(participant)
        self._waitset.attach(ReadCondition(self._reader, SampleState.Any | ViewState.Any | InstanceState.Any))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def send(self, message: np.ndarray) -> None:
        """Sign a message of this side's kind and put it on the wire."""
        sign(message)
        self._writer.write(self._out(encode(message)))

    def latest(self) -> tuple[float, np.ndarray] | None:
        """The newest message of the other side with the time of its arrival, None before the first."""
        return self._newest

    def close(self) -> None:
        """Leave the domain."""
        self._closing = True
        self._thread.join(timeout=1.0)
        os.close(self.arrived)

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
