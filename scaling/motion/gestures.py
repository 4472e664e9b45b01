"""The vocabulary of generated motion: a stage with its clock and envelope, a stance, and arm movements."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from scaling.motion.balance import Plan
from scaling.robot.g1 import KNEES_BENT_JOINTS, standing_qpos

# Where a foot bears best, in front of the ankle (m): the middle of the sole.
SOLE_CENTRE_X = 0.035
_RAMP_S = 1.2
_ARM = {"pitch": 0, "roll": 1, "yaw": 2, "elbow": 3, "wrist": 5}
_MIRRORED = {"roll", "yaw"}
_STANDING_HEIGHT = float(standing_qpos()[2])


def ease(x: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Minimum-jerk step from 0 to 1 as x goes from 0 to 1 (Flash and Hogan 1985)."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x * x)


@dataclass(frozen=True)
class Stage:
    """What all families share in one take: random generator, clock (s), calmness `gain`, stance and envelope."""

    rng: np.random.Generator
    rate_hz: float
    gain: float
    time: Float[np.ndarray, "T"]
    envelope: Float[np.ndarray, "T"]
    half_width: float

    @classmethod
    def draw(cls, rng: np.random.Generator, seconds: float, rate_hz: float, gain: float) -> "Stage":
        """A stage of round(seconds x rate) frames whose envelope leaves and re-enters stance smoothly."""
        time = np.arange(round(seconds * rate_hz)) / rate_hz
        end = time[-1]
        ramp = min(_RAMP_S, 0.3 * end)
        hold = 0.2
        envelope = ease((time - hold) / ramp) * ease((end - hold - time) / ramp)
        return cls(rng, rate_hz, gain, time, envelope, float(rng.uniform(0.10, 0.125)))

    @property
    def seconds(self) -> float:
        """Time of the last frame (s)."""
        return float(self.time[-1])

    def drift(self, size: float, period_s: float = 6.0) -> Float[np.ndarray, "T"]:
        """Slow smooth noise of about +-size: three sinusoids with random phases."""
        rates = self.rng.uniform(0.4, 1.0, 3) / period_s
        phases = self.rng.uniform(0.0, 2.0 * np.pi, 3)
        waves = np.sin(2.0 * np.pi * np.outer(self.time, rates) + phases)
        return size * waves.sum(axis=1) / 3.0

    def phase(self, rate: float) -> Float[np.ndarray, "T"]:
        """Phase (rad) of a rhythm of `rate` Hz that is never quite regular."""
        speed = rate * (1.0 + self.drift(0.25))
        return 2.0 * np.pi * np.concatenate([[0.0], np.cumsum(speed[:-1])]) / self.rate_hz

    def wave(self, rate: float, shift: float = 0.0) -> Float[np.ndarray, "T"]:
        """An oscillation between about -1 and 1 whose rate and size wander."""
        return np.sin(self.phase(rate) + shift) * (1.0 - 0.15 + self.drift(0.15))

    def pulses(self, rate: float, uneven: float) -> Float[np.ndarray, "T"]:
        """Repeated excursions from 0 to about 1 and back."""
        return 0.5 * (1.0 - np.cos(self.phase(rate))) * (1.0 - uneven + self.drift(uneven))

    def smooth(self, signal: Float[np.ndarray, "T"], width_s: float) -> Float[np.ndarray, "T"]:
        """Gaussian smoothing of standard deviation `width_s` (s), ends held."""
        reach = int(np.ceil(4 * width_s * self.rate_hz))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (width_s * self.rate_hz)) ** 2)
        return np.convolve(np.pad(signal, reach, mode="edge"), kernel / kernel.sum(), mode="valid")

    def bumps(
        self, out: tuple[float, float], hold: tuple[float, float], rest: tuple[float, float]
    ) -> list[Float[np.ndarray, "T"]]:
        """Separate excursions 0-1-0 that fill the take, each with its own duration out, hold and rest (s)."""
        found: list[np.ndarray] = []
        now = 0.3
        while True:
            rise, stay, fall = self.rng.uniform(*out), self.rng.uniform(*hold), self.rng.uniform(*out)
            if now + rise + stay + fall > self.seconds - 0.3:
                if found:
                    return found
                scale = (self.seconds - 0.6 - now) / (rise + stay + fall)
                rise, stay, fall = rise * scale, stay * scale, fall * scale
            back = now + rise + stay
            found.append(ease((self.time - now) / rise) * (1.0 - ease((self.time - back) / fall)))
            now = back + fall + self.rng.uniform(*rest)


def stand(stage: Stage) -> Plan:
    """The stance every take begins and ends in: feet apart, knees bent, arms down, weight in the middle."""
    count = len(stage.time)
    feet = np.zeros((count, 2, 3))
    feet[:, 0, 1], feet[:, 1, 1] = stage.half_width, -stage.half_width
    zmp = np.zeros((count, 2))
    zmp[:, 0] = SOLE_CENTRE_X
    return Plan(
        rate_hz=stage.rate_hz,
        feet=feet,
        feet_yaw=np.zeros((count, 2)),
        zmp=zmp,
        pelvis_height=np.full(count, _STANDING_HEIGHT - 0.004),
        pelvis_rpy=np.zeros((count, 3)),
        waist=np.zeros((count, 3)),
        arms=np.tile(KNEES_BENT_JOINTS[15:], (count, 1)),
    )


def move_arm(
    arms: Float[np.ndarray, "T 14"], side: int, amount: Float[np.ndarray, "T"], **joints: float
) -> Float[np.ndarray, "T 14"]:
    """Arms with `amount` x angle added to joints of one side (0 left, 1 right); roll and yaw open outwards."""
    moved = arms.copy()
    for joint, angle in joints.items():
        sign = -1.0 if side == 1 and joint in _MIRRORED else 1.0
        moved[:, 7 * side + _ARM[joint]] += sign * angle * amount
    return moved


def swing_arms(
    arms: Float[np.ndarray, "T 14"], sway: Float[np.ndarray, "T"], size: float, rng: np.random.Generator
) -> Float[np.ndarray, "T 14"]:
    """Arms swinging against each other with the sway, elbows giving a little."""
    elbow = rng.uniform(0.0, 0.3)
    for side, sign in ((0, 1.0), (1, -1.0)):
        arms = move_arm(arms, side, sign * sway, pitch=size)
        arms = move_arm(arms, side, sway**2, roll=0.2, elbow=elbow)
    return arms


def fidget(plan: Plan, stage: Stage) -> Plan:
    """The plan with the small slow movements of trunk and arms that nobody stands without."""
    waist, arms = plan.waist.copy(), plan.arms.copy()
    size = stage.gain * stage.rng.uniform(0.02, 0.10)
    for side in range(2):  # hands clear of the hips
        arms = move_arm(arms, side, stage.envelope, roll=0.12)
    for joint in range(arms.shape[1]):
        arms[:, joint] += stage.envelope * stage.drift(size, period_s=4.0)
    for joint in range(waist.shape[1]):
        waist[:, joint] += stage.envelope * stage.drift(0.3 * size, period_s=4.0)
    return replace(plan, waist=waist, arms=arms)
