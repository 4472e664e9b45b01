"""`scaling bridge simulate`: the twin on the wire, a process that a bridge cannot tell from a robot.

C MuJoCo under the motors' own law, a LowState with every field set 500 times a second, each LowCmd obeyed until the
next one comes, however late that is. Two words of LowCmd's `reserve`, which mean nothing to a robot, are read: the
bridge's phase (a gantry holds the pelvis until tracking begins) and the tick that a command answers (round trips).
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float

from scaling.bridge.clock import Clock, WallClock, prioritised, spread, steady
from scaling.bridge.messages import MODE_MACHINE, MODE_PR, command_of, imu_message, state_message
from scaling.bridge.reference import ClipReference
from scaling.bridge.safety import State
from scaling.bridge.sim import SimRobot
from scaling.bridge.transport import damping_command
from scaling.bridge.writer import Wire
from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.record.files import write_json
from scaling.robot.g1 import standing_qpos

if TYPE_CHECKING:
    from scaling.bridge.service import SimulatedService

PERIOD = 0.002  # s between two states
_TRACK = list(State).index(State.TRACK)
_BATTERY_EVERY = 250  # states
_LISTENING = 1.0  # s before it speaks: another twin may be there
_KEPT_EVERY = 10  # states: the recording is at 50 Hz


class RobotWire(Wire, Protocol):
    """The wire as a robot holds it: `dds.DdsWire` is one."""

    def send_battery(self, charge: float) -> None:
        """Say how full the battery is (%)."""
        ...

    def send_torso(self, message: np.ndarray) -> None:
        """Put an IMUState of the torso on the wire."""
        ...


class Twin:
    """The simulated robot behind a wire; `step` is one period of 2 ms."""

    def __init__(
        self,
        wire: RobotWire,
        clock: Clock,
        clip: ClipReference | None = None,
        assist: float = 0.0,
        battery: float = 100.0,
        service: "SimulatedService | None" = None,
    ) -> None:
        self.clip = clip or ClipReference(Motion(np.tile(standing_qpos(), (2, 1)), 50.0, "standing"))
        self.wire, self._clock, self._battery, self._service = wire, clock, battery, service
        self.robot = SimRobot(self.clip, clock, assist)
        self.released_at: float | None = None
        self.obeyed = self.ignored = self.held_off = self.states = 0
        self.round_trips: list[float] = []
        """Seconds from a state's sending to the arrival of the first command that answers it."""
        self.qpos: list[Float[np.ndarray, 36]] = []
        self._heard = -1.0
        self._answered = -1
        self._sent_at: dict[int, float] = {}

    def step(self) -> None:
        """Obey the newest command, move on to the present, and say how it is."""
        if self._service is not None:
            self._service.step()
        if self.states % _BATTERY_EVERY == 0:
            self.wire.send_battery(self._battery)
        self._obey()
        state = self.robot.read()
        tick = round(1e3 * PERIOD * self.states)
        message = state_message(state, self.robot.acceleration, self.robot.torque, tick)
        self._sent_at[tick] = time.monotonic()
        if len(self._sent_at) > 500:
            self._sent_at.pop(next(iter(self._sent_at)))
        self.wire.send(message)
        self.wire.send_torso(imu_message(self.robot.torso()))
        if self.released_at is not None and self.states % _KEPT_EVERY == 0:
            self.qpos.append(self.robot.qpos)
        self.states += 1

    @property
    def damped(self) -> bool:
        """Whether the command in force is damping alone."""
        newest = self.wire.latest()
        return newest is not None and not command_of(newest[1]).kp.any()

    def _obey(self) -> None:
        newest = self.wire.latest()
        if newest is None or newest[0] == self._heard:
            return
        self._heard, message = newest
        if self._service is not None and self._service.name:  # the robot's own service holds the motors
            self.held_off += 1
            return
        if int(message["mode_pr"][0]) != MODE_PR or int(message["mode_machine"][0]) != MODE_MACHINE:
            self.ignored += 1
            return
        phase, answers = (int(word) for word in message["reserve"][0, :2])
        if phase == _TRACK and self.released_at is None:
            self.robot.release()
            self.released_at = self._clock.now()
        if answers > self._answered and answers in self._sent_at:
            self._answered = answers
            self.round_trips.append(self._heard - self._sent_at[answers])
        self.robot.write(command_of(message))
        self.obeyed += 1

    def report(self) -> dict[str, Any]:
        """`{states, obeyed, ignored, rejected, released, round_trip_ms}`."""
        return {
            "states": self.states,
            "obeyed": self.obeyed,
            "ignored": self.ignored,
            "held_off": self.held_off,
            "rejected": self.wire.rejected,
            "released": self.released_at is not None,
            "height_m": float(self.robot.qpos[2]),
            "round_trip_ms": spread(self.round_trips) if self.round_trips else None,
        }


def simulate(
    domain: int,
    clip: ClipReference | None = None,
    *,
    assist: float = 0.0,
    seconds: float | None = None,
    out: Path | str | None = None,
    battery: float = 100.0,
    holder: str = "",
    interface: str | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_pose: Callable[[Float[np.ndarray, "36"]], None] | None = None,
) -> dict[str, Any]:
    """Be the robot on a DDS domain for `seconds`, or until a signal ends it; returns `Twin.report` and `rollout`.

    `out` (a folder) receives `rollout.npz`, what the robot did from its release on, at 50 Hz. `battery` is its charge
    (%), `holder` the name of a motion service that holds its motors until it is released ("" for none). `on_pose(qpos)`
    sees the robot after every state. Raises InputError where another robot speaks there.
    """
    from scaling.bridge.dds import DdsWire
    from scaling.bridge.service import SimulatedService

    wire, clock = DdsWire(domain, "robot", interface), WallClock()
    if wire.rivals(_LISTENING):
        wire.close()
        raise InputError(f"another robot speaks on domain {domain} already: end that one, or give another --domain")
    service = SimulatedService(wire.participant, holder)
    twin = Twin(wire, clock, clip, assist, battery, service)
    late = 0
    try:
        on_ready()
        with prioritised(), steady():
            began = due = clock.now()
            while seconds is None or clock.now() - began < seconds:
                twin.step()
                if on_pose is not None:
                    on_pose(twin.robot.qpos)
                due += PERIOD
                if clock.now() > due + 0.05:  # the machine was away: go on from here instead of hurrying after
                    late, due = late + 1, clock.now()
                clock.sleep_until(due)
    except KeyboardInterrupt:
        pass
    finally:
        twin.robot.write(damping_command())
        report = twin.report() | {"holder": service.name, "pauses": late, "pid": os.getpid(), "rollout": None}
        service.close()
        wire.close()
    if out is not None and twin.qpos:
        report["rollout"] = str(_save(Path(out), twin, assist))
        write_json(Path(out) / "twin.json", report)
    return report


def _save(folder: Path, twin: Twin, assist: float) -> Path:
    from scaling.bridge.score import score, write_rollout

    qpos = np.stack(twin.qpos)
    frames = np.minimum(np.arange(len(qpos)), twin.clip.frames - 1)
    reference = twin.clip.qpos[frames]
    on_clip = min(len(qpos), twin.clip.frames)
    result = score(qpos[:on_clip], reference[:on_clip], finished=len(qpos) >= twin.clip.frames)
    return write_rollout(folder / "rollout.npz", qpos[:on_clip], reference[:on_clip], twin.clip.name, assist, result)
