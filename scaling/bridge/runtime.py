"""The control loop of a policy on a robot: one class for the simulated twin and the real one."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from scaling.bridge.clock import Clock, FixedRate, spread, steady
from scaling.bridge.limiter import CommandLimits, Limiter, UnsafeCommand
from scaling.bridge.reference import Followed
from scaling.bridge.safety import SafetyMachine, State
from scaling.bridge.transport import MotorCommand, RobotState, Transport, damping_command, position_command
from scaling.bridge.watchdog import STOPPED_BY_REMOTE, Limits, Watchdog, start_fault
from scaling.contract.action import decode_action
from scaling.contract.observation import STUDENT_TERMS, Inputs, Sensors, observe, reference_terms
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import quat_conj, quat_mul, yaw_quat


class Actor(Protocol):
    """What the runtime needs of a policy: `policy.load.LoadedPolicy` is one."""

    def reset(self) -> None:
        """Forget the episode."""
        ...

    def act(self, obs: Float[np.ndarray, "obs"], first: bool) -> Float[np.ndarray, "29"]:
        """Contract action for one raw observation."""
        ...


class Tick(NamedTuple):
    """One tick, as a recorder keeps it: what was read, shown, answered and sent, and the time it took.

    `frame` is -1 before tracking; None stands for what the tick did not come to. `target` is None where nothing but
    damping was sent, `action` what the policy said, accepted or not.
    """

    frame: int
    time: float
    state: RobotState
    obs: Float[np.ndarray, "obs"] | None
    action: Float[np.ndarray, "29"] | None
    target: Float[np.ndarray, "29"] | None
    latency: float
    phase: State = State.TRACK


@dataclass(frozen=True)
class RuntimeConfig:
    """Durations (s) of each phase; `linger` is how long a clip's last frame is held, `damping` how long the last state
    is sent before the wire is let go.

    `fresh`: how long a tick of tracking waits for a state newer than itself, of a robot that speaks every 2 ms.
    """

    first_state: float = 1.0
    ramp: float = 2.0
    standby: float = 1.0
    linger: float = 0.5
    damping: float = 2.0
    fresh: float = 3e-3
    limits: Limits = Limits()
    command_limits: CommandLimits = CommandLimits()

    def __post_init__(self) -> None:
        for name in ("first_state", "ramp", "standby", "linger", "damping", "fresh"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)} s; it must not be negative")


class Runtime:
    """Runs a clip to its end, or to the first fault, and ends in damping on every path.

    `may_leave(phase)` is the person (or the simulation's stand-in) who allows each step towards tracking.
    `on_change(state)`, `on_frame(frame, state)` and `on_tick(tick)` let a recorder or a simulator watch; all are
    inside the deadline, the last two once the command is out.
    """

    def __init__(
        self,
        policy: Actor,
        clip: Followed,
        transport: Transport,
        clock: Clock,
        config: RuntimeConfig = RuntimeConfig(),
        may_leave: Callable[[State], bool] = lambda state: False,
        on_change: Callable[[State], None] = lambda state: None,
        on_frame: Callable[[int, RobotState], None] = lambda frame, state: None,
        on_tick: Callable[[Tick], None] = lambda tick: None,
    ) -> None:
        self.policy, self.clip, self.transport, self.clock, self.config = policy, clip, transport, clock, config
        self.machine = SafetyMachine()
        self.watchdog, self.limiter = Watchdog(config.limits), Limiter(config.command_limits)
        self.rate = FixedRate(clock, CONTROL_DT)
        self.latency: list[float] = []
        """Seconds from a reading in hand to its command handed over, per tick of tracking."""
        self.frame = -1
        self.battery: float | None = None
        """State of charge (%), None where the robot does not say it."""
        self._may_leave, self._on_change, self._on_frame = may_leave, on_change, on_frame
        self._on_tick = on_tick
        self._entered = clock.now()
        self._from = clip.start_pose[7:]
        self._track_tick = 0
        self._heading = np.array([1.0, 0.0, 0.0, 0.0])
        self._last_action = np.zeros(29)
        self._obs: Float[np.ndarray, obs] | None = None
        self._action: Float[np.ndarray, 29] | None = None
        self._look(0)

    def run(self) -> dict[str, Any]:
        """Drive until it ends, then damp; returns the report (see `report`)."""
        self.policy.reset()
        spread([0.0])  # what its first call costs must not fall into a tick, where somebody asks for a report
        try:
            with steady():
                self.transport.read()  # what has piled up meanwhile is old
                self.rate.restart()
                while not self.machine.ended:
                    self._tick(self.rate.wait())
        except KeyboardInterrupt:
            self.machine.stop(self.clock.now(), "stopped by the operator")
        except Exception as error:  # whatever broke, the motors must not keep their last command
            self.machine.fault(self.clock.now(), f"{type(error).__name__} in the control loop: {error}")
        finally:
            self._damp()
        return self.report()

    def report(self) -> dict[str, Any]:
        """`{state, ticks, overruns, skipped, latency_ms, jitter_ms, faults, ended, transitions, frames}`."""
        return {
            "state": str(self.machine.state),
            "ticks": len(self.latency),
            "overruns": self.rate.overruns,
            "skipped": self.rate.skipped,
            "latency_ms": spread(self.latency),
            "jitter_ms": spread(self.rate.lateness),
            "faults": list(self.machine.faults),
            "warnings": dict(self.watchdog.warnings),
            "clipped": self.limiter.clipped,
            "ended": self.machine.transitions[-1].reason if self.machine.ended else None,
            "transitions": [
                {"time_s": round(t.time, 4), "from": str(t.before), "to": str(t.after), "reason": t.reason}
                for t in self.machine.transitions
            ],
            "frames": self.clip.frames,
            "reference": self.clip.report(),
            "battery": self.battery,
        }

    def _tick(self, tick: int) -> None:
        tracking = self.machine.state is State.TRACK
        self.frame = tick - self._track_tick if tracking else -1
        over = self.clip.follow(self.frame) if tracking else None
        self._look(max(self.frame, 0))  # all that can be known before the robot speaks
        state = self.transport.read(self.config.fresh if tracking else 0.0)
        began = time.perf_counter()
        now = self.clock.now()
        before, self._obs, self._action = self.machine.state, None, None
        sent = None
        try:
            sent = self._answer(tick, state, now, over)
        except Exception as error:  # whatever broke, the motors must not keep their last command
            self._fail(f"{type(error).__name__} in the control loop: {error}")
        if state is not None:
            self._keep(state, now, sent, time.perf_counter() - began, before)

    def _keep(self, state: RobotState, now: float, sent: MotorCommand | None, latency: float, before: State) -> None:
        """Tell whoever listens of a tick that began in the state `before`; what it sent is out, be it damping."""
        if sent is not None and self._action is not None:
            self.latency.append(latency)
            self._on_frame(self.frame, state)
        target = None if sent is None or not sent.kp.any() else sent.q
        phase = before if self.frame < 0 else State.TRACK
        self._on_tick(Tick(self.frame, now, state, self._obs, self._action, target, latency, phase))

    def _answer(self, tick: int, state: RobotState | None, now: float, over: str | None) -> MotorCommand | None:
        """What was sent in reply to a reading, None where nothing but damping was left to send."""
        waiting = self.machine.state is State.DAMPING and now - self._entered <= self.config.first_state
        guard = self.transport.fault()
        old = state is None or now - state.stamp > self.config.limits.stale
        if old and waiting and guard is None:  # a robot may take its time to be heard; it is damped meanwhile
            self.transport.write(damping_command())
            return None
        if state is not None and state.health is not None:
            self.battery = state.health.battery
        tracking = self.machine.state is State.TRACK
        problem = guard or self.watchdog.check(state, now, self._reference.qpos[3:7]) or self._late(tracking)
        if problem is not None or state is None:
            self._fail(problem or "the robot has sent no state")
            return None
        if not tracking:
            approach = self._approach(tick, now, state)
            if approach is not None:
                return self._send(approach, now, state)
        if self.clip.frames is not None and self.frame > self.clip.frames - 1 + round(self.config.linger / CONTROL_DT):
            over = "the clip has ended"
        if over is not None:
            self.transport.write(damping_command())
            self.machine.stop(now, over)
            self._changed()
            return None
        command = self._track(state)
        return None if command is None else self._send(command, now, state)

    def _look(self, frame: int) -> None:
        """What there is to follow at a frame, and what of the observation it decides."""
        self._reference = self.clip.at(frame)
        self._known = reference_terms(STUDENT_TERMS, self._reference)

    def _late(self, tracking: bool) -> str | None:
        """Whether the loop has lost its rate; before tracking a late tick harms nobody."""
        late = self.rate.late_in_a_row
        if not tracking or late <= self.config.limits.late_ticks:
            return None
        return f"the control loop has been late for {late} ticks in a row"

    def _send(self, command: MotorCommand, now: float, state: RobotState) -> MotorCommand | None:
        """Hand over what the limits leave of a command, and return it; None after a fault, which has damped already."""
        if self.machine.ended:
            return None
        try:
            limited = self.limiter(command, now, state.joint_pos, state.joint_vel)
        except UnsafeCommand as error:
            self._fail(str(error))
            return None
        self.transport.write(limited)
        return limited

    def _approach(self, tick: int, now: float, state: RobotState) -> MotorCommand | None:
        """The command on the way from damping to tracking, taking each step when its time and the person allow.

        None once tracking has begun: this tick is the clip's first frame.
        """
        phase, since = self.machine.state, now - self._entered
        start = self.clip.start_pose[7:]
        if phase is State.DAMPING:
            if self._may_leave(phase):
                self._from = state.joint_pos.copy()
                self.machine.advance(now, "started")
                self._changed()
            return damping_command()
        if phase is State.RAMP:
            share = 1.0 if self.config.ramp == 0 else min(since / self.config.ramp, 1.0)
            if share >= 1.0:
                self.machine.advance(now, "the ramp is over")
                self._changed()
            return position_command(self._from + share * (start - self._from))
        if since >= self.config.standby and self._may_leave(phase):
            problem = start_fault(state, start, self.config.limits)
            if problem is not None:
                self._fail(problem)
                return damping_command()  # the fault has damped already: `_send` lets nothing pass after it
            self.machine.advance(now, "tracking was allowed")
            # Nothing tells the robot where north is: its heading now is the clip's at its first frame.
            self._heading = quat_mul(yaw_quat(self.clip.start_pose[3:7]), quat_conj(yaw_quat(state.quat)))
            self._track_tick, self.frame = tick, 0
            self.clip.begin(0)
            self._look(0)
            self._changed()
            return None
        return position_command(start)

    def _track(self, state: RobotState) -> MotorCommand | None:
        """The policy's command for this frame; None after a fault, which has damped already."""
        reference = self._reference
        sensors = Sensors(quat_mul(self._heading, state.quat), state.gyro, state.joint_pos, state.joint_vel)
        obs = observe(STUDENT_TERMS, Inputs(sensors, reference, self._last_action), self._known).astype(np.float32)
        self._obs = obs
        if not np.isfinite(obs).all():
            self._fail("the observation is not finite")
            return None
        began = self.clock.now()
        action = np.asarray(self.policy.act(obs, not self.latency), np.float64)
        took = self.clock.now() - began
        if action.shape != (29,):
            self._fail("no 29 actions came")
            return None
        self._action = action
        if took > self.config.limits.overrun:
            self._fail(f"the policy took {1e3 * took:.0f} ms (limit {1e3 * self.config.limits.overrun:.0f} ms)")
            return None
        if not np.isfinite(action).all():
            self._fail("the policy's action is not finite")
            return None
        self._last_action = action
        return position_command(decode_action(action, reference.qpos, reference.qvel))

    def _fail(self, reason: str) -> None:
        self.transport.write(damping_command())
        if reason == STOPPED_BY_REMOTE:
            self.machine.stop(self.clock.now(), reason)
        else:
            self.machine.fault(self.clock.now(), reason)
        self._changed()

    def _changed(self) -> None:
        self._entered = self.clock.now()
        self._on_change(self.machine.state)

    def _damp(self) -> None:
        """Damping on every exit path, for long enough that a robot sinks to the floor."""
        until = self.clock.now() + self.config.damping
        while True:
            try:
                self.transport.write(damping_command())
            except Exception as error:  # the wire itself is gone: nothing more can be sent
                self.machine.faults.append(f"{type(error).__name__} while damping: {error}")
                return
            if self.clock.now() >= until:
                return
            self.rate.wait()
