"""Footfalls on the spot: which foot is up when, where it comes down, and where the weight is meanwhile."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.motion.gestures import SOLE_CENTRE_X, Stage, ease

_LEAD_IN_S = 1.3
_LEAD_OUT_S = 1.5


@dataclass(frozen=True)
class Footfalls:
    """Planned feet (x, y, sole height in m), their headings (rad), the pressure point (m) and the sway (-1 to 1)."""

    feet: Float[np.ndarray, "T 2 3"]
    feet_yaw: Float[np.ndarray, "T 2"]
    zmp: Float[np.ndarray, "T 2"]
    sway: Float[np.ndarray, "T"]


def _bearing_point(centre: Float[np.ndarray, "2"], yaw: float, inwards: float) -> Float[np.ndarray, "2"]:
    """World xy (m) of the point of a sole that carries, shifted `inwards` along the foot's y axis."""
    forward = np.array([np.cos(yaw), np.sin(yaw)])
    leftward = np.array([-forward[1], forward[0]])
    return centre + SOLE_CENTRE_X * forward + inwards * leftward


def march(stage: Stage, turn_per_step: float) -> Footfalls:
    """Alternate steps about the origin; the foot on the turn's side opens by `turn_per_step` (rad), the other follows.

    The pressure point rests on the standing foot from lift-off to touch-down and moves over in between.
    """
    rng, time = stage.rng, stage.time
    count = len(time)
    rate = rng.uniform(0.35, 0.6)  # full cycles (two steps) a second
    support_share = rng.uniform(0.50, 0.62)
    lift = stage.gain * rng.uniform(0.03, 0.08)
    inwards = rng.uniform(0.0, 0.012)
    # Turning left opens with the left foot, so that the toes never point at each other.
    first = int(rng.integers(2))
    back_again = rng.random() < 0.4
    feet = np.zeros((count, 2, 3))
    yaw = np.zeros((count, 2))
    placed = np.array([[0.0, stage.half_width], [0.0, -stage.half_width]])
    headings = np.zeros(2)
    for side in range(2):
        feet[:, side, :2] = placed[side]
    middle = np.array([SOLE_CENTRE_X, 0.0])
    zmp = np.tile(middle, (count, 1))
    sway = np.zeros(count)
    weight, leaning = middle, 0.0

    def shift(start: float, end: float, point: Float[np.ndarray, "2"], lean: float) -> None:
        nonlocal weight, leaning
        moved = ease((time - start) / (end - start))
        zmp[:] += np.outer(moved, point - weight)
        sway[:] += moved * (lean - leaning)
        weight, leaning = point, lean

    steps = _durations(stage, rate)
    now = _LEAD_IN_S
    heading = 0.0
    for index, duration in enumerate(steps):
        swing = (first + index) % 2
        standing = 1 - swing
        lift_off = now + (1.0 - support_share) * duration
        touch_down = now + duration
        direction = -1.0 if back_again and index >= len(steps) // 2 else 1.0
        opening = 0 if direction * turn_per_step > 0 else 1
        if swing == opening and index < len(steps) - 1:
            heading += direction * turn_per_step
        target = heading
        inward = inwards if standing == 1 else -inwards
        point = _bearing_point(placed[standing], headings[standing], inward)
        shift(now, lift_off, point, 1.0 if standing == 0 else -1.0)
        part = np.clip((time - lift_off) / (touch_down - lift_off), 0.0, 1.0)
        feet[:, swing, 2] += lift * 64.0 * part**3 * (1.0 - part) ** 3
        moved = ease((part - 0.1) / 0.8)
        goal = stage.half_width * (1.0 if swing == 0 else -1.0) * np.array([-np.sin(target), np.cos(target)])
        feet[:, swing, :2] += np.outer(moved, goal - placed[swing])
        yaw[:, swing] += moved * (target - headings[swing])
        placed[swing], headings[swing] = goal, target
        now = touch_down
    forward = np.array([np.cos(headings.mean()), np.sin(headings.mean())])
    shift(now, now + 0.4 * _LEAD_OUT_S, placed.mean(axis=0) + SOLE_CENTRE_X * forward, 0.0)
    return Footfalls(feet, yaw, zmp, stage.smooth(sway, 0.15))


def _durations(stage: Stage, rate: float) -> list[float]:
    """Durations (s) of an even number of steps that fill the take between lead-in and lead-out."""
    room = stage.seconds - _LEAD_IN_S - _LEAD_OUT_S
    pairs = max(1, round(room * rate))
    uneven = 1.0 + stage.rng.uniform(-0.12, 0.12, 2 * pairs)
    return list(room * uneven / uneven.sum())
