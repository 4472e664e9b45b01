"""Quality figures of one clip: feet, joint limits, joint speeds, jerk. Nothing is judged or dropped here."""

import numpy as np
from jaxtyping import Bool, Float

from scaling.motion.clip import Motion, velocities
from scaling.robot.g1 import RANGE_HIGH, RANGE_LOW, VELOCITY_LIMIT
from scaling.robot.kinematics import soles

CONTACT_HEIGHT_M = 0.02
_LIMIT_SLACK_RAD = 1e-3


def contacts(corners: Float[np.ndarray, "T 2 4 3"]) -> Bool[np.ndarray, "T 2"]:
    """Frames in which a foot bears: its lowest corner is within 2 cm of the floor."""
    return corners[..., 2].min(axis=-1) < CONTACT_HEIGHT_M


def quality(motion: Motion) -> dict[str, float]:
    """Figures of a clip at its own rate: metres, seconds, radians; shares are of frames (or of joint samples).

    `foot_slide` is the mean horizontal speed of bearing feet (NaN if none bears); `float` the height of the lowest
    sole; `joint_speed_worst` the highest joint speed over the motor's limit.
    """
    qpos, rate = motion.qpos, motion.rate_hz
    corners = soles(qpos)
    lowest = corners[..., 2].min(axis=(1, 2))
    bearing = contacts(corners)
    both = bearing[1:] & bearing[:-1]
    speed = np.linalg.norm((corners[1:] - corners[:-1])[..., :2], axis=-1).mean(axis=-1) * rate
    joints = qpos[:, 7:]
    over = (joints < RANGE_LOW - _LIMIT_SLACK_RAD) | (joints > RANGE_HIGH + _LIMIT_SLACK_RAD)
    qvel = velocities(qpos, rate)
    ratio = np.abs(qvel[:, 6:]) / VELOCITY_LIMIT
    jerk = np.linalg.norm(np.diff(qpos[:, :3], n=3, axis=0), axis=1) * rate**3
    shake = np.abs(np.diff(joints, n=3, axis=0)).mean(axis=1) * rate**3
    travel = np.ptp(joints, axis=0)
    return {
        "float_p95_m": float(np.percentile(lowest, 95)),
        "float_median_m": float(np.median(lowest)),
        "penetration_max_m": float(max(0.0, -lowest.min())),
        "contact_share": float(bearing.any(axis=1).mean()),
        "foot_slide_m_s": float(speed[both].mean()) if both.any() else float("nan"),
        "limit_share": float(over.any(axis=1).mean()),
        "limit_worst_rad": float(np.maximum(RANGE_LOW - joints, joints - RANGE_HIGH).max(initial=0.0)),
        "joint_speed_worst": float(ratio.max()),
        "joint_speed_share": float((ratio > 1.0).any(axis=1).mean()),
        "root_speed_max_m_s": float(np.linalg.norm(qvel[:, :3], axis=1).max()),
        "root_jerk_p95_m_s3": float(np.percentile(jerk, 95)) if len(jerk) else float("nan"),
        "joint_jerk_p95_rad_s3": float(np.percentile(shake, 95)) if len(shake) else float("nan"),
        "frozen_joints": float((travel < 1e-6).sum()),
    }


def problems_of(metrics: dict[str, float]) -> list[str]:
    """The figures of `quality` that a person should know about, in words."""
    found = []
    if metrics["float_median_m"] > 0.03:
        found.append(f"the feet float {100 * metrics['float_median_m']:.1f} cm above the floor (median)")
    if metrics["penetration_max_m"] > 0.03:
        found.append(f"the soles go up to {100 * metrics['penetration_max_m']:.1f} cm into the floor")
    if metrics["foot_slide_m_s"] > 0.3:
        found.append(f"bearing feet slide at {metrics['foot_slide_m_s']:.2f} m/s (mean)")
    if metrics["limit_share"] > 0:
        found.append(f"joint limits are exceeded in {100 * metrics['limit_share']:.1f} % of frames")
    if metrics["joint_speed_worst"] > 1:
        found.append(f"a joint moves at {metrics['joint_speed_worst']:.1f} times its motor's speed limit")
    if metrics["root_speed_max_m_s"] > 8:
        found.append(f"the root moves at {metrics['root_speed_max_m_s']:.0f} m/s: a teleport")
    if metrics.get("self_collision_worst_m", 0.0) > 0.1:
        found.append(f"limbs are up to {100 * metrics['self_collision_worst_m']:.0f} cm deep in each other")
    if metrics.get("body_penetration_max_m", 0.0) > 0.05:
        found.append(f"the body goes up to {100 * metrics['body_penetration_max_m']:.1f} cm into the floor")
    if metrics["frozen_joints"]:
        found.append(f"{metrics['frozen_joints']:.0f} joints never move")
    return found
