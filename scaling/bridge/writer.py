"""The command writer: a process of its own that speaks to the robot at 500 Hz, and damps it when nobody tells it more.

It is joined to the policy's process by one socket pair of datagrams. When that process dies, the kernel closes its end
and the writer knows at once; when it hangs, its commands grow old. Either way, and for whatever the watchdog finds in
the robot's states, the writer damps for good: nothing but a new process, started by a person, moves the motors again.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from scaling.bridge.clock import prioritised, steady
from scaling.bridge.limiter import CommandLimits, Limiter, UnsafeCommand
from scaling.bridge.messages import command_message, state_of
from scaling.bridge.transport import MotorCommand, RobotState, damping_command
from scaling.bridge.watchdog import Limits, Watchdog
from scaling.bridge.wire import LOW_STATE
from scaling.errors import InputError

ORDER = np.dtype([("kind", "S1"), ("phase", "u4"), ("tick", "u4"), ("motors", "f8", (5, 29))])
READING = np.dtype([("kind", "S1"), ("stamp", "f8"), ("battery", "f8"), ("image", "u1", LOW_STATE.itemsize)])
LISTENING = 0.5  # s for which the robot is heard before anything is said to it: another bridge may command it
BATTERY_SILENCE = 10.0  # s after which a battery that was heard is missed
COMMAND, END, STATE, TOLD = b"c", b"e", b"s", b"t"


@dataclass(frozen=True)
class WriterConfig:
    """`hold`: how old (s) the policy's last command may be; `damping`: how long (s) the robot is damped at the end.

    `twin`: whether to write the two words of LowCmd's `reserve` that the twin reads; a robot has to be sent zeros.
    """

    rate: float = 500.0
    hold: float = 0.1
    damping: float = 2.0
    limits: Limits = Limits()
    command_limits: CommandLimits = CommandLimits()
    twin: bool = True

    def __post_init__(self) -> None:
        for name in ("rate", "hold", "damping"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.rate * self.hold < 2:
            raise ValueError(f"hold is {self.hold} s; it must be longer than two periods of the writer")


class Wire(Protocol):
    """The robot's side of the writer: `dds.DdsWire` is one."""

    rejected: int

    def send(self, message: np.ndarray) -> None:
        """Put a LowCmd on the wire."""
        ...

    def latest(self) -> tuple[float, np.ndarray] | None:
        """The newest LowState with the time of its arrival."""
        ...

    def battery(self) -> tuple[float, float] | None:
        """The newest state of charge (%) with the time of its arrival."""
        ...


class CommandWriter:
    """What is sent at each instant; times (s) are given, so that tests need no clock.

    Damping until the first order to move, then the newest order, then, from the first trouble on, damping for good.
    """

    def __init__(self, wire: Wire, config: WriterConfig = WriterConfig()) -> None:
        self.wire, self.config = wire, config
        self.watchdog, self._limiter = Watchdog(config.limits), Limiter(config.command_limits)
        self.reason: str | None = None
        """Why it has damped for good."""
        self.damped_at: float | None = None
        self.sent = 0
        self.seen = -1.0
        """When the newest state arrived."""
        self._order: MotorCommand | None = None
        self._ordered = self._phase = self._answers = 0
        self._order_time = 0.0
        self._state: RobotState | None = None
        self.battery: float | None = None
        """State of charge (%), None where the robot has not said it."""
        self._mode_machine = 0

    def order(self, now: float, command: MotorCommand, phase: int, answers: int) -> None:
        """The policy's newest command, in reply to the state of tick `answers`; sent on at once."""
        if self.reason is None:
            self._order, self._order_time, self._phase, self._answers = command, now, phase, answers
            self._ordered += 1
            self.guard(now)
        self.send(now)

    def end(self, now: float, reason: str) -> None:
        """Damp for good, from this instant on."""
        if self.reason is None:
            self.stop(now, reason)
            self.send(now)

    def stop(self, now: float, reason: str) -> None:
        """Let nothing but damping be sent from here on."""
        if self.reason is None:
            self.reason, self.damped_at = reason, now

    def listen(self, now: float) -> np.ndarray | None:
        """Take in the newest state; returns it where it is a new one."""
        newest = self.wire.latest()
        if newest is None or newest[0] == self.seen:
            return None
        self.seen, fresh = newest
        self.battery = self._charge(now)
        self._state = state_of(fresh, self.seen, self.battery)
        self._mode_machine = int(fresh["mode_machine"][0])
        return fresh

    def _charge(self, now: float) -> float | None:
        """State of charge (%), None where the robot has never said it; one who has gone quiet about it is warned of."""
        newest = self.wire.battery()
        if newest is None:
            return None
        if now - newest[1] > BATTERY_SILENCE:
            self.watchdog.warnings["battery silent"] += 1
        return newest[0]

    def guard(self, now: float) -> None:
        """Check the robot and the policy, and end what must not go on.

        Nothing is held against a robot that has not been told to move: it is damped.
        """
        if self._state is None or self._order is None or not self._order.kp.any():
            return
        problem = self.watchdog.check(self._state, now)
        if problem is None and now - self._order_time > self.config.hold:
            problem = f"the policy has sent no command for {1e3 * (now - self._order_time):.0f} ms"
        if problem is not None:
            self.end(now, problem)

    def step(self, now: float) -> np.ndarray | None:
        """One period: look at what has come, then send what is in force; returns the state where it is a new one."""
        fresh = self.listen(now)
        self.guard(now)
        self.send(now)
        return fresh

    def send(self, now: float) -> None:
        """Put on the wire what is in force; nothing before the robot has said which machine it is."""
        state = self._state
        if state is None:
            return
        command = damping_command()
        if self.reason is None and self._order is not None:
            try:
                command = self._limiter(self._order, now, state.joint_pos, state.joint_vel)
            except UnsafeCommand as error:
                self.stop(now, str(error))
        phase = self._phase if self.reason is None else 0
        words = (phase, self._answers) if self.config.twin else ()
        self.wire.send(command_message(command, self._mode_machine, words))
        self.sent += 1

    def over(self, now: float) -> bool:
        """Whether it has damped for long enough that a robot lies on the floor."""
        return self.damped_at is not None and now - self.damped_at >= self.config.damping


def serve(
    link: socket.socket, writer: CommandWriter, arrived: int | None, clock: Callable[[], float] = time.monotonic
) -> None:
    """Run until it is over: orders from `link` at once, states to it, one step each period."""
    link.setblocking(False)
    period, alive = 1.0 / writer.config.rate, True
    told, due = False, clock()
    while not writer.over(clock()):
        watched = [fd for fd in (link.fileno() if alive else None, arrived) if fd is not None]
        ready, _, _ = select.select(watched, [], [], max(due - clock(), 0.0))
        try:
            if arrived in ready and arrived is not None:
                os.eventfd_read(arrived)
                _pass_on(link, writer.listen(clock()), writer)
                writer.guard(clock())
            if alive and link.fileno() in ready:
                alive = _hear(link, writer, clock)
            if clock() >= due:
                due = max(due + period, clock() - period)
                _pass_on(link, writer.step(clock()), writer)
        except Exception as error:  # whatever broke, the motors must not keep their last command
            writer.stop(clock(), f"{type(error).__name__} in the command writer: {error}")
        if writer.reason is not None and not told:
            told = True
            _tell(link, {"fault": writer.reason})
    _tell(link, {"sent": writer.sent, "rejected": writer.wire.rejected, "warnings": dict(writer.watchdog.warnings)})


def _hear(link: socket.socket, writer: CommandWriter, clock: Callable[[], float]) -> bool:
    """Take in the newest order; False once the other end is closed."""
    newest = None
    while True:
        try:
            data = link.recv(ORDER.itemsize + 1)
        except BlockingIOError:
            break
        except ConnectionError:
            data = b""
        if not data:
            writer.end(clock(), "the policy's process has ended")
            return False
        if len(data) != ORDER.itemsize:
            writer.end(clock(), f"an order of {len(data)} bytes where {ORDER.itemsize} belong")
            return True
        newest = np.frombuffer(data, ORDER)[0]
        if newest["kind"] == END:
            writer.end(clock(), "the run is over")
    if newest is not None and newest["kind"] == COMMAND:
        writer.order(clock(), MotorCommand(*newest["motors"]), int(newest["phase"]), int(newest["tick"]))
    return True


def _pass_on(link: socket.socket, message: np.ndarray | None, writer: CommandWriter) -> None:
    if message is None:
        return
    reading = np.zeros(1, READING)
    reading["kind"], reading["stamp"] = STATE, writer.seen
    reading["battery"] = np.nan if writer.battery is None else writer.battery
    reading["image"][0] = np.frombuffer(message.tobytes(), np.uint8)
    with contextlib.suppress(OSError):  # full, or closed: the policy will find its newest state old
        link.send(reading.tobytes())


def _tell(link: socket.socket, what: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        link.send(TOLD + json.dumps(what).encode())


def main(fd: int, domain: int, interface: str | None, given: dict[str, Any]) -> None:
    """The process: `fd` is its end of the socket pair. Signals are for the policy's process to obey."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    from scaling.bridge.dds import DdsWire

    link = socket.socket(fileno=fd)
    wire = DdsWire(domain, "bridge", interface)
    limits = {"limits": Limits(**given["limits"]), "command_limits": CommandLimits(**given["command_limits"])}
    writer = CommandWriter(wire, WriterConfig(**{**given, **limits}))
    _tell(link, {"joined": domain})
    if _rivalled(wire, link):
        raise InputError("another bridge commands this robot already: end that one first")
    with prioritised(), steady():
        serve(link, writer, wire.arrived)
    wire.close()


def _rivalled(wire: Any, link: socket.socket) -> bool:
    """Whether somebody else commands the robot, once it is heard; False where the policy's process would not wait."""
    while wire.latest() is None:
        if select.select([link], [], [], 0.01)[0]:
            return False
    return bool(wire.rivals(LISTENING))


def config_json(config: WriterConfig) -> str:
    """What `main` reads."""
    return json.dumps(asdict(config))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None, json.loads(sys.argv[4]))
