"""What ends a run in damping: every reading checked against the limits, and what comes near them counted."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.bridge.transport import Health, RobotState
from scaling.robot.g1 import EFFORT_LIMIT, JOINT_NAMES, NUM_JOINTS, RANGE_HIGH, RANGE_LOW, VELOCITY_LIMIT

# Bits of the remote's key word (bytes 2 and 3 of its 40): B and select stop the robot, start and A let it go on.
KEY_START, KEY_SELECT, KEY_A, KEY_B = 1 << 2, 1 << 3, 1 << 8, 1 << 9
STOP_KEYS = KEY_SELECT | KEY_B
STOPPED_BY_REMOTE = "stopped by the remote"


@dataclass(frozen=True)
class Limits:
    """When the bridge gives up, and from where on it warns (`..._warning`).

    Times in s, angles in rad, temperatures in C, the battery in %. Velocities and torques are shares of each motor's
    own limit; `position` is how far an encoder may stand outside its joint's range. `gap` is the longest silence
    between two readings by the robot's own clock; `overrun` the longest that a policy may think, `late_ticks` how
    many ticks in a row may begin late.
    """

    stale: float = 0.1
    stale_warning: float = 0.02
    tilt: float = 1.0
    tilt_warning: float = 0.7
    start_error: float = 0.4
    position: float = 0.15
    position_warning: float = 0.02
    velocity_share: float = 1.0
    velocity_warning: float = 0.8
    torque_share: float = 1.3
    torque_warning: float = 0.95
    winding: float = 120.0
    winding_warning: float = 100.0
    casing: float = 85.0
    casing_warning: float = 75.0
    battery: float = 20.0
    battery_warning: float = 30.0
    gap: float = 0.1
    overrun: float = 0.1
    late_ticks: int = 10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limit {name} is {value}; it must be positive")
        for name in ("stale", "tilt", "position", "winding", "casing"):
            if getattr(self, f"{name}_warning") > getattr(self, name):
                raise ValueError(f"limit {name} is {getattr(self, name)}, below its own warning")


class Watchdog:
    """Looks at readings in the order of their arrival; `warnings` counts what came near a limit, by its name.

    Each reading is looked at once, however often it is shown: from the second time on, only its age and the tilt are
    new. One that is calm altogether is passed by two comparisons; whatever is not is looked at limit by limit.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.warnings: Counter[str] = Counter()
        self._tick: int | None = None
        self._ticked = 0.0
        self._seen: RobotState | None = None
        self._found: str | None = None
        self._low, self._high = _calm(limits)

    def check(
        self, state: RobotState | None, now: float, reference_quat: Float[np.ndarray, "4"] | None = None
    ) -> str | None:
        """What is wrong with the newest reading, None where nothing is; tilt is measured where there is a reference."""
        if state is None:
            return "the robot has sent no state"
        if state is not self._seen:
            self._seen, self._found = state, self._read(state)
        return self._age(state, now) or self._found or self._tilt(state, reference_quat)

    def _read(self, state: RobotState) -> str | None:
        """What is wrong with a reading whenever it is looked at."""
        if not self._is_calm(state):
            for name in ("quat", "gyro", "joint_pos", "joint_vel"):
                if not np.isfinite(getattr(state, name)).all():
                    return f"the robot's {name} is not finite"
            problem = self._joints(state) or (None if state.health is None else self._motors(state.health))
            if problem is not None:
                return problem
        norm = math.hypot(*state.quat.tolist())
        if abs(norm - 1.0) > 0.05:
            return f"the robot's IMU quaternion has norm {norm:.3f}"
        return None if state.health is None else self._health(state.health, state.stamp)

    def _is_calm(self, state: RobotState) -> bool:
        """Whether all that is measured is finite and far from every limit, and no motor reports an error."""
        parts, health = [state.quat, state.gyro, state.joint_pos, state.joint_vel], state.health
        if health is not None:
            if health.motor_error.any():
                return False
            parts += [health.torque, health.casing, health.winding]
        values = np.concatenate(parts)
        size = len(values)
        return bool(((values >= self._low[:size]) & (values <= self._high[:size])).all())

    def _age(self, state: RobotState, now: float) -> str | None:
        age = now - state.stamp
        if not math.isfinite(age):
            return "the robot's stamp is not finite"
        if age > self.limits.stale:
            return f"the robot's state is {1e3 * age:.0f} ms old (limit {1e3 * self.limits.stale:.0f} ms)"
        if age < -self.limits.stale:
            return f"the robot's state is {-1e3 * age:.0f} ms from the future"
        self._warn("state age", age > self.limits.stale_warning)
        return None

    def _tilt(self, state: RobotState, reference_quat: Float[np.ndarray, "4"] | None) -> str | None:
        if reference_quat is None:
            return None
        (x, y, z), (u, v, w) = _down(state.quat), _down(reference_quat)
        tilt = math.acos(min(max(x * u + y * v + z * w, -1.0), 1.0))
        if tilt > self.limits.tilt:
            return f"the robot is tilted {tilt:.2f} rad from the reference (limit {self.limits.tilt:.2f})"
        self._warn("tilt", tilt > self.limits.tilt_warning)
        return None

    def _joints(self, state: RobotState) -> str | None:
        over = np.abs(state.joint_vel) / VELOCITY_LIMIT
        worst = int(np.argmax(over))
        if over[worst] > self.limits.velocity_share:
            return f"{JOINT_NAMES[worst]} moves at {state.joint_vel[worst]:.1f} rad/s, beyond its limit"
        self._warn("joint velocity", over[worst] > self.limits.velocity_warning)
        beyond = np.maximum(RANGE_LOW - state.joint_pos, state.joint_pos - RANGE_HIGH)
        worst = int(np.argmax(beyond))
        if beyond[worst] > self.limits.position:
            return f"{JOINT_NAMES[worst]} stands at {state.joint_pos[worst]:.2f} rad, {beyond[worst]:.2f} out of range"
        self._warn("joint position", beyond[worst] > self.limits.position_warning)
        return None

    def _motors(self, health: Health) -> str | None:
        if not all(np.isfinite(values).all() for values in (health.torque, health.casing, health.winding)):
            return "the robot's torques or temperatures are not finite"
        shares = np.abs(health.torque) / EFFORT_LIMIT
        worst = int(np.argmax(shares))
        if shares[worst] > self.limits.torque_share:
            return f"{JOINT_NAMES[worst]} gives {health.torque[worst]:.0f} N m, beyond its limit"
        self._warn("joint torque", shares[worst] > self.limits.torque_warning)
        for name, values in (("winding", health.winding), ("casing", health.casing)):
            hottest, limit = int(np.argmax(values)), getattr(self.limits, name)
            if values[hottest] > limit:
                return f"the {name} of {JOINT_NAMES[hottest]} is at {values[hottest]:.0f} C (limit {limit:.0f} C)"
            self._warn(f"{name} temperature", values[hottest] > getattr(self.limits, f"{name}_warning"))
        if health.motor_error.any():
            ill = int(np.argmax(health.motor_error != 0))
            return f"the motor of {JOINT_NAMES[ill]} reports error {int(health.motor_error[ill]):#x}"
        return None

    def _health(self, health: Health, stamp: float) -> str | None:
        if health.battery is not None:
            if not health.battery >= self.limits.battery:
                return f"the battery is at {health.battery:.0f} % (limit {self.limits.battery:.0f} %)"
            self._warn("battery", health.battery < self.limits.battery_warning)
        if health.keys & STOP_KEYS:
            return STOPPED_BY_REMOTE
        return self._sequence(health.tick, stamp)

    def _sequence(self, tick: int, stamp: float) -> str | None:
        """`tick` in ms by the robot's clock, which wraps at 2**32."""
        before, self._tick = self._tick, tick
        if before is None or tick != before:
            self._ticked = stamp
        if before is None:
            return None
        since = stamp - self._ticked
        step = (tick - before) & 0xFFFFFFFF
        if step >= 1 << 31:
            return f"the robot's clock went back by {(before - tick) & 0xFFFFFFFF} ms"
        if step > 1e3 * self.limits.gap:
            return f"{step} ms are missing between two states of the robot (limit {1e3 * self.limits.gap:.0f} ms)"
        if step == 0 and since > self.limits.stale:
            return f"the robot has sent the same state for {1e3 * since:.0f} ms"
        return None

    def _warn(self, name: str, near: bool) -> None:
        if near:
            self.warnings[name] += 1


def _calm(limits: Limits) -> tuple[Float[np.ndarray, "152"], Float[np.ndarray, "152"]]:
    """Lowest and highest of a reading, from its quaternion to its windings, of which nothing has to be said."""
    most = np.finfo(float).max
    speed = min(limits.velocity_warning, limits.velocity_share) * VELOCITY_LIMIT
    torque = min(limits.torque_warning, limits.torque_share) * EFFORT_LIMIT
    imu, motors = np.full(7, most), np.ones(NUM_JOINTS)
    out = limits.position_warning
    low = [-imu, RANGE_LOW - out, -speed, -torque, -most * motors, -most * motors]
    high = [imu, RANGE_HIGH + out, speed, torque, limits.casing_warning * motors, limits.winding_warning * motors]
    # An infinite limit is none, but what is not finite is never calm.
    return np.maximum(np.concatenate(low), -most), np.minimum(np.concatenate(high), most)


def _down(quat: Float[np.ndarray, "4"]) -> tuple[float, float, float]:
    """`observation.gravity_direction` of one quaternion of any length, by plain floats: a tick waits for it."""
    w, x, y, z = quat.tolist()
    share = 2.0 / (w * w + x * x + y * y + z * z)
    return share * (w * y - x * z), -share * (y * z + w * x), share * (x * x + y * y) - 1.0


def start_fault(state: RobotState, start_joints: Float[np.ndarray, "29"], limits: Limits) -> str | None:
    """Why tracking must not begin from here, None where it may."""
    error = np.abs(state.joint_pos - start_joints)
    worst = int(np.argmax(error))
    if error[worst] > limits.start_error:
        return f"{JOINT_NAMES[worst]} is {error[worst]:.2f} rad from the start pose (limit {limits.start_error:.2f})"
    return None
