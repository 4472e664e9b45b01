"""Motion made from nothing but a seed: families of balanced whole-body motion, any number of hours of it.

A family plans feet, pressure point, pelvis height, trunk and arms; `balance.realise` makes a robot of it. Every take
starts and ends in the same stance. CoM and pressure point obey the linear pendulum, so the motions are trackable.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.motion import gestures
from scaling.motion.balance import Plan, realise
from scaling.motion.clip import CONTROL_RATE_HZ, Motion, continuous
from scaling.motion.gestures import Stage
from scaling.motion.steps import Footfalls, march
from scaling.robot.g1 import RANGE_HIGH, RANGE_LOW

LICENCE = "Apache-2.0"
MIN_SECONDS = 4.0
TAKE_SECONDS = 20.0
# Style is drawn again, a little calmer each time, when a leg cannot follow; ten in a row would be a defect.
_ATTEMPTS = 10
_CALMER = 0.85
_LIMIT_MARGIN_RAD = 0.01


def _squat(stage: Stage) -> Plan:
    """Knee bends with the trunk leaning forward and the arms lifted as a counterweight."""
    rng, gain = stage.rng, stage.gain
    down = stage.envelope * stage.pulses(rng.uniform(0.2, 0.5), uneven=0.2)
    plan = gestures.stand(stage)
    trunk, arms = plan.pelvis_rpy.copy(), plan.arms.copy()
    trunk[:, 1] += down * gain * rng.uniform(0.0, 0.30)
    waist = plan.waist + np.outer(down * gain * rng.uniform(0.0, 0.25), [0.0, 0.0, 1.0])
    lift, spread = rng.uniform(0.1, 1.3), rng.uniform(0.0, 0.4)
    for side in range(2):
        arms = gestures.move_arm(arms, side, down * gain, pitch=-lift, roll=spread, elbow=rng.uniform(-0.2, 0.7))
    depth = gain * rng.uniform(0.07, 0.24)
    return replace(plan, pelvis_height=plan.pelvis_height - depth * down, pelvis_rpy=trunk, waist=waist, arms=arms)


def _arm_wave(stage: Stage) -> Plan:
    """One or both arms raised and waved, mirrored or in turns."""
    rng, gain = stage.rng, stage.gain
    plan = gestures.stand(stage)
    rate, shift = rng.uniform(0.25, 0.6), rng.choice([0.0, np.pi])
    sides = [0, 1] if rng.random() < 0.5 else [int(rng.integers(2))]
    raised = {"pitch": -rng.uniform(0.0, 1.4), "roll": rng.uniform(0.2, 1.3), "elbow": rng.uniform(-0.6, 0.5)}
    swing = {"pitch": 0.4, "roll": 0.35, "yaw": 0.4, "elbow": 0.5, "wrist": 0.4}
    amplitude = {joint: rng.uniform(-size, size) for joint, size in swing.items()}
    arms = plan.arms
    for side in sides:
        arms = gestures.move_arm(arms, side, stage.envelope * gain, **raised)
        beat = stage.envelope * gain * stage.wave(rate, side * shift)
        arms = gestures.move_arm(arms, side, beat, **amplitude)
    turn = stage.envelope * gain * stage.wave(rate / 2, shift)
    waist = plan.waist + np.outer(turn, [rng.uniform(-0.3, 0.3), rng.uniform(-0.05, 0.05), 0.0])
    return replace(plan, arms=arms, waist=waist)


def _weight_shift(stage: Stage) -> Plan:
    """Weight carried from foot to foot, and a little forward and back, with both soles down."""
    rng, gain = stage.rng, stage.gain
    plan = gestures.stand(stage)
    rate = rng.uniform(0.2, 0.45)
    sway = stage.envelope * stage.wave(rate)
    along = stage.envelope * stage.wave(rate * rng.choice([0.5, 1.0, 2.0]), rng.uniform(0, 2 * np.pi))
    reach = gain * rng.uniform(0.4, 0.85) * stage.half_width
    zmp = plan.zmp + np.stack([gain * rng.uniform(-0.025, 0.025) * along, reach * sway], axis=1)
    roll, dip = rng.uniform(-0.06, 0.06), rng.uniform(0.0, 0.04)
    trunk = plan.pelvis_rpy + np.outer(sway * gain, [roll, 0.0, rng.uniform(-0.15, 0.15)])
    waist = plan.waist + np.outer(sway * gain, [rng.uniform(-0.3, 0.3), -roll * rng.uniform(0.5, 1.5), 0.0])
    arms = gestures.swing_arms(plan.arms, gain * sway, rng.uniform(-0.4, 0.4), rng)
    height = plan.pelvis_height - gain * dip * np.abs(sway) ** 2
    return replace(plan, zmp=zmp, pelvis_rpy=trunk, waist=waist, arms=arms, pelvis_height=height)


def _step_in_place(stage: Stage) -> Plan:
    """Marching on the spot, the weight over the standing foot while the other is up."""
    falls = march(stage, turn_per_step=0.0)
    return _stepping(stage, falls)


def _turn(stage: Stage) -> Plan:
    """Turning on the spot by small steps, one way and sometimes back."""
    rng = stage.rng
    falls = march(stage, turn_per_step=stage.gain * rng.uniform(0.12, 0.35) * rng.choice([-1.0, 1.0]))
    return _stepping(stage, falls)


def _stepping(stage: Stage, falls: Footfalls) -> Plan:
    """A plan that follows the footfalls: pelvis heading with the feet, arms against the sway."""
    rng, gain = stage.rng, stage.gain
    plan = gestures.stand(stage)
    sway = falls.sway * stage.envelope
    heading = stage.smooth(falls.feet_yaw.mean(axis=1), 0.25)
    trunk = plan.pelvis_rpy + np.outer(gain * sway, [rng.uniform(-0.04, 0.04), 0.0, 0.0])
    trunk[:, 2] += heading + gain * rng.uniform(-0.08, 0.08) * sway
    waist = plan.waist + np.outer(gain * sway, [rng.uniform(-0.2, 0.2), rng.uniform(-0.06, 0.06), 0.0])
    arms = gestures.swing_arms(plan.arms, gain * sway, rng.uniform(0.0, 0.5), rng)
    height = plan.pelvis_height - stage.envelope * rng.uniform(0.01, 0.03)
    return replace(
        plan, feet=falls.feet, feet_yaw=falls.feet_yaw, zmp=falls.zmp, pelvis_rpy=trunk, waist=waist, arms=arms,
        pelvis_height=height,
    )  # fmt: skip


def _reach(stage: Stage) -> Plan:
    """Reaching forward, sideways or low with one hand, again and again, the trunk turning and leaning with it."""
    rng, gain = stage.rng, stage.gain
    plan = gestures.stand(stage)
    arms, waist, trunk = plan.arms, plan.waist.copy(), plan.pelvis_rpy.copy()
    height, zmp = plan.pelvis_height.copy(), plan.zmp.copy()
    for bump in stage.bumps(out=(0.9, 1.8), hold=(0.2, 0.8), rest=(0.1, 0.8)):
        side, low = int(rng.integers(2)), rng.random() < 0.35
        sign = 1.0 - 2.0 * side
        amount = bump * gain
        arms = gestures.move_arm(
            arms, side, amount,
            pitch=-rng.uniform(0.5, 1.0) if low else -rng.uniform(0.8, 1.9),
            roll=rng.uniform(-0.1, 0.8),
            yaw=rng.uniform(-0.3, 0.3),
            elbow=rng.uniform(0.2, 0.8),
            wrist=rng.uniform(-0.3, 0.3),
        )  # fmt: skip
        lean = rng.uniform(0.15, 0.35) if low else rng.uniform(0.0, 0.15)
        # The trunk turns the reaching shoulder forward: the left one by turning right.
        waist += np.outer(amount, [-sign * rng.uniform(0.0, 0.5), 0.0, lean])
        trunk += np.outer(amount, [0.0, 0.5 * lean, -sign * rng.uniform(0.0, 0.15)])
        height -= amount * (rng.uniform(0.08, 0.18) if low else rng.uniform(0.0, 0.04))
        zmp += np.outer(amount, [rng.uniform(0.0, 0.02), sign * rng.uniform(-0.2, 0.5) * stage.half_width])
    return replace(plan, arms=arms, waist=waist, pelvis_rpy=trunk, pelvis_height=height, zmp=zmp)


_PLANS: dict[str, Callable[[Stage], Plan]] = {
    "squat": _squat,
    "arm_wave": _arm_wave,
    "weight_shift": _weight_shift,
    "step_in_place": _step_in_place,
    "turn": _turn,
    "reach": _reach,
}
FAMILIES = tuple(_PLANS)


def generate(
    family: str, seconds: float, seed: int, rate_hz: float = CONTROL_RATE_HZ, *, take: int | None = None
) -> Motion:
    """One take of a family: the same arguments give the same motion. `take` (default: the seed) names and varies it."""
    if family not in _PLANS:
        raise InputError(f"motion family {family!r} is unknown; choose one of {', '.join(FAMILIES)}.")
    if not seconds >= MIN_SECONDS:
        raise InputError(f"a generated take of {seconds} s is too short; ask for at least {MIN_SECONDS:g} s.")
    if seed < 0 or (take is not None and take < 0):
        raise InputError(f"seed {seed} and take {take} must not be negative.")
    take = seed if take is None else take
    name = f"{family}_{take:04d}"
    gain = 1.0
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, zlib.crc32(family.encode()), take, attempt])
        try:
            stage = Stage.draw(rng, seconds, rate_hz, gain)
            qpos = realise(gestures.fidget(_PLANS[family](stage), stage))
        except ValueError:
            gain *= _CALMER
            continue
        if _in_limits(qpos):
            qpos[:, 3:7] = continuous(qpos[:, 3:7])
            return Motion(qpos, rate_hz, name, f"synthetic, seed {seed}", LICENCE, name, family)
        gain *= _CALMER
    raise RuntimeError(f"{name} (seed {seed}): no style within the robot's reach in {_ATTEMPTS} draws")


def _in_limits(qpos: Float[np.ndarray, "T 36"]) -> bool:
    """Whether every joint keeps clear of its ends."""
    joints = qpos[:, 7:]
    return bool(np.all(joints > RANGE_LOW + _LIMIT_MARGIN_RAD) and np.all(joints < RANGE_HIGH - _LIMIT_MARGIN_RAD))


def corpus_motions(
    seconds: float, seed: int, *, families: Sequence[str] = FAMILIES, take_seconds: float = TAKE_SECONDS
) -> list[Motion]:
    """At least `seconds` of takes, the families in turn; a longer corpus begins with the takes of a shorter one."""
    if not seconds > 0:
        raise InputError(f"a synthetic corpus of {seconds} s is empty; ask for a positive duration.")
    if not families:
        raise InputError(f"no motion families given; choose from {', '.join(FAMILIES)}.")
    count = int(np.ceil(seconds / take_seconds - 1e-9))
    return [
        generate(families[index % len(families)], take_seconds, seed, take=index // len(families))
        for index in range(max(count, len(families)))
    ]
