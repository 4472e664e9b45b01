"""The policy's end of the command writer: a transport whose commands and states pass through another process."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import scaling
from scaling.bridge.dds import Voice
from scaling.bridge.messages import command_message, state_of
from scaling.bridge.transport import MotorCommand, RobotState
from scaling.bridge.wire import LOW_STATE
from scaling.bridge.writer import COMMAND, END, ORDER, READING, STATE, TOLD, WriterConfig, config_json
from scaling.errors import InputError

DEFAULT = WriterConfig()
SILENT = 0.1  # s without a state after which the writer counts as lost
STARTING = 60.0  # s that a process may take to start on a machine with much else to do


class WriterLink:
    """Starts the writer on a DDS domain, and talks to it. Times are of the monotonic clock, less `origin` (s).

    Where the writer is gone or silent, damping goes to the robot by a voice of this process, which says nothing else.
    """

    def __init__(
        self, domain: int, origin: float = 0.0, config: WriterConfig = DEFAULT, interface: str | None = None
    ) -> None:
        self.phase = 0
        """Where the runtime is (the twin lets go of itself when it tracks)."""
        self.told: dict[str, object] = {}
        self._origin, self._state, self._fault = origin, None, ""
        self._newest: RobotState | None = None
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.setblocking(False)
        home = str(Path(scaling.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        arguments = [str(theirs.fileno()), str(domain), interface or "", config_json(config)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scaling.bridge.writer", *arguments],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": path},
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        theirs.close()
        self._voice, self._gone, self._mode_machine = Voice(domain, interface), False, 0

    def wait(self, seconds: float) -> None:
        """Return when the robot has sent a state.

        Raises InputError where none has come `seconds` after the writer joined the domain, or where the writer ended.
        """
        until = time.monotonic() + seconds + STARTING
        joined = False
        while self.read() is None:
            if not joined and "joined" in self.told:
                joined, until = True, time.monotonic() + seconds
            if self.process.poll() is not None:
                last = (self.process.stderr.read() if self.process.stderr else "").strip().splitlines()[-1:]
                words = last[0].rpartition("InputError: ")[2] if last else "no message"
                raise InputError(f"the command writer did not start: {words}")
            if time.monotonic() > until:
                raise InputError(
                    "no robot speaks on this domain: see to its network, or start the twin first, with scaling bridge "
                    "simulate"
                )
            time.sleep(0.01)

    def read(self, wait: float = 0.0) -> RobotState | None:
        """The newest state that the writer has passed on; waits up to `wait` s for the next to come."""
        newest = self._taken()
        if wait > 0:
            select.select([self._link], [], [], wait)
            newest = self._taken() or newest
        if newest is not None:
            reading = np.frombuffer(newest, READING)[0]
            message = np.frombuffer(reading["image"].tobytes(), LOW_STATE)
            battery = None if np.isnan(reading["battery"]) else float(reading["battery"])
            self._mode_machine = int(message["mode_machine"][0])
            self._newest = state_of(message, float(reading["stamp"]) - self._origin, battery)
        return self._newest

    def _taken(self) -> bytes | None:
        """The newest of the states that lie waiting; what the writer tells beside them is heard."""
        newest = None
        while True:
            try:
                data = self._link.recv(READING.itemsize + 1)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                self._fault, self._gone = self._fault or "the command writer has ended", True
                break
            if data[:1] == STATE:
                newest = data
            elif data[:1] == TOLD:
                self.told |= json.loads(data[1:])
                self._fault = self._fault or str(self.told.get("fault", ""))
        return newest

    def write(self, command: MotorCommand) -> None:
        """Hand a command to the writer, which sends it on at once and then at 500 Hz."""
        tick = 0 if self._newest is None or self._newest.health is None else self._newest.health.tick
        self._order(COMMAND, command, tick)
        if self._unheard() and not command.kp.any():
            self._voice.send(command_message(command, self._mode_machine))

    def _unheard(self) -> bool:
        """Whether a robot that was heard is no more, or he who speaks to it."""
        newest = self._newest
        return newest is not None and (self._gone or time.monotonic() - self._origin - newest.stamp > SILENT)

    @property
    def keys(self) -> int:
        """The keys of the remote that are held down, as the newest state has them."""
        return 0 if self._newest is None or self._newest.health is None else self._newest.health.keys

    def fault(self) -> str | None:
        """Why the writer has damped for good."""
        return self._fault or None

    def close(self) -> None:
        """Tell the writer that the run is over and wait until it has damped the robot."""
        with contextlib.suppress(OSError):
            self._order(END, MotorCommand(*np.zeros((5, 29))), 0)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.read()
        self._voice.close()
        self._link.close()
        if self.process.stderr:
            self.process.stderr.close()

    def _order(self, kind: bytes, command: MotorCommand, tick: int) -> None:
        order = np.zeros(1, ORDER)
        order["kind"], order["phase"], order["tick"], order["motors"][0] = kind, self.phase, tick, command
        try:
            self._link.send(order.tobytes())
        except (BlockingIOError, ConnectionError):
            self._fault, self._gone = self._fault or "the command writer takes no more commands", True
