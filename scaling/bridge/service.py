"""The robot's own motion service: asked who holds the motors, and told to let them go, by request and response.

Topics `rt/api/motion_switcher/{request,response}`. Function 1001 answers `{"form", "name"}`, the name empty where
nothing holds the motors; 1003 releases what does, and the robot goes limp. Both take `{}`.
"""

import json
import math
import time
from typing import Any

from scaling.bridge.dds import join
from scaling.errors import InputError

CHECK, RELEASE = 1001, 1003
UNKNOWN_FUNCTION = 3203  # the code of the robot's own services for a function that they do not have
_TOPICS = {"request": "rt/api/motion_switcher/request", "response": "rt/api/motion_switcher/response"}
_ATTEMPTS = 5
_PATIENCE = 10.0  # s for each answer: the robot may have just been joined
_REPEAT = 1.0  # s until a request is made again


def _idl() -> Any:
    """The message types, imported where DDS is used: it may be missing."""
    from scaling.bridge import idl

    return idl


class ServiceError(RuntimeError):
    """The service did not do what it was asked; the reason is the text."""


class _Pair:
    """A writer of one topic of the service and a reader of the other."""

    def __init__(self, participant: Any, out: str, into: str) -> None:
        from cyclonedds.pub import DataWriter
        from cyclonedds.qos import Policy, Qos
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic

        idl = _idl()
        types = {"request": idl.Request_, "response": idl.Response_}
        for kind in types.values():
            idl.check_blobs(kind)
        qos = Qos(Policy.Reliability.Reliable(1_000_000_000), Policy.History.KeepLast(16))
        patient = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(16))  # as the robot's own readers
        self._writer: Any = DataWriter(participant, Topic(participant, _TOPICS[out], types[out]), qos)
        self._reader: Any = DataReader(participant, Topic(participant, _TOPICS[into], types[into]), patient)

    def send(self, message: Any) -> None:
        """Put a message on the wire."""
        self._writer.write(message)

    def take(self) -> list[Any]:
        """All that has come since."""
        return [sample for sample in self._reader.take(16) if hasattr(sample, "header")]

    @property
    def heard(self) -> bool:
        """Whether somebody reads what is sent and somebody writes what is read."""
        return bool(self._writer.get_matched_subscriptions() and self._reader.get_matched_publications())


class MotionService:
    """The bridge's side of the service, on a domain that this process has not joined."""

    def __init__(self, domain: int, interface: str | None = None) -> None:
        """Raises InputError as `dds.join`."""
        self._domain, self._participant = join(domain, "bridge", interface)
        self._pair: _Pair | None = _Pair(self._participant, "request", "response")

    def holder(self, seconds: float = 2.0) -> str:
        """What holds the motors, "" for nothing. Raises ServiceError where no answer came in `seconds`."""
        answer = self._call(CHECK, seconds)
        try:
            name = json.loads(answer)["name"]
        except (ValueError, KeyError, TypeError):
            raise ServiceError(f"an answer that says not who holds the motors: {answer[:80]!r}") from None
        return str(name)

    def release(self, seconds: float = 5.0, pause: float = 1.0) -> str:
        """Let go of what holds the motors, and make sure; returns its name. Raises ServiceError where it holds on."""
        first = name = self.holder(seconds)
        for _ in range(_ATTEMPTS):
            if not name:
                return first
            self._call(RELEASE, seconds)
            time.sleep(pause)
            name = self.holder(seconds)
        if name:
            raise ServiceError(f"{name!r} still holds the motors after {_ATTEMPTS} requests to release them")
        return first

    def close(self) -> None:
        """Leave the domain."""
        self._pair = self._participant = self._domain = None

    def _call(self, function: int, seconds: float) -> str:
        idl = _idl()
        assert self._pair is not None
        until = time.monotonic() + seconds
        while not self._pair.heard:
            if time.monotonic() > until:
                raise ServiceError("no motion service answers on this domain")
            time.sleep(0.01)
        asked, again = set(), -math.inf
        while time.monotonic() < until:
            if time.monotonic() > again:  # who has not discovered us yet answers nobody; both functions may be repeated
                again, number = time.monotonic() + _REPEAT, time.monotonic_ns()
                asked.add(number)
                header = idl.RequestHeader_(
                    idl.RequestIdentity_(number, function), idl.RequestLease_(0), idl.RequestPolicy_(0, False)
                )
                self._pair.send(idl.Request_(header, "{}", []))
            for response in self._pair.take():
                if response.header.identity.id not in asked:
                    continue
                if (code := response.header.status.code) != 0:
                    raise ServiceError(f"function {function} of the motion service failed with code {code}")
                return str(response.data)
            time.sleep(0.005)
        raise ServiceError(f"function {function} of the motion service gave no answer in {seconds:.0f} s")


class SimulatedService:
    """The robot's side, as the twin plays it: `name` holds the motors until it is told to let go."""

    def __init__(self, participant: Any, name: str = "") -> None:
        self.name, self.calls = name, 0
        self._pair: _Pair | None = _Pair(participant, "response", "request")

    def close(self) -> None:
        """Answer no more."""
        self._pair = None

    def step(self) -> None:
        """Answer what was asked."""
        idl = _idl()
        assert self._pair is not None
        for request in self._pair.take():
            self.calls += 1
            function, data, code = request.header.identity.api_id, "", 0
            if function == CHECK:
                data = json.dumps({"form": "0", "name": self.name})
            elif function == RELEASE:
                self.name = ""
            else:
                code = UNKNOWN_FUNCTION
            header = idl.ResponseHeader_(request.header.identity, idl.ResponseStatus_(code))
            self._pair.send(idl.Response_(header, data, []))


def take_over(domain: int, interface: str | None, release: bool) -> str:
    """Make sure that nothing else moves the motors; returns what held them, "" for nothing.

    Raises InputError where the service is not heard, where it holds the motors and `release` is False, and where it
    does not let go.
    """
    service = MotionService(domain, interface)
    try:
        name = service.holder(_PATIENCE)
        if name and not release:
            raise InputError(
                f"the robot's own service {name!r} holds the motors: hang the robot up, for it goes limp, and add "
                "--release"
            )
        return service.release(_PATIENCE) if name else ""
    except ServiceError as error:
        raise InputError(f"the robot cannot be taken over: {error}") from None
    finally:
        service.close()
