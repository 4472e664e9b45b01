"""Whole-body motion from a plan of feet, pelvis, arms and pressure point: centre of mass by pendulum, legs by IK."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scaling.motion.legs import solve_leg
from scaling.robot.figures import BODIES
from scaling.robot.g1 import FOOT_SPHERE_RADIUS, FOOT_SPHERES, KNEES_BENT_JOINTS, NQ
from scaling.robot.kinematics import forward_kinematics
from scaling.robot.rotations import matrix, rotate

GRAVITY = 9.81
# Height (m) of the ankle-roll frame over a flat sole.
SOLE_TO_ANKLE = FOOT_SPHERE_RADIUS - min(corner[2] for corner in FOOT_SPHERES)
_SHARES = np.array([body.mass for body in BODIES]) / sum(body.mass for body in BODIES)
_CENTRES = np.array([body.inertial_pos for body in BODIES])
_PASSES = 3


@dataclass(frozen=True)
class Plan:
    """What a motion should do, frame by frame; lengths in metres, angles in rad, all in the world frame.

    `zmp` is where the floor's force acts; the pelvis's x and y follow from it and are not planned.
    """

    rate_hz: float
    feet: Float[np.ndarray, "T 2 3"]  # x, y and height of the flat sole above the floor
    feet_yaw: Float[np.ndarray, "T 2"]
    zmp: Float[np.ndarray, "T 2"]
    pelvis_height: Float[np.ndarray, "T"]
    pelvis_rpy: Float[np.ndarray, "T 3"]
    waist: Float[np.ndarray, "T 3"]  # yaw, roll, pitch joints
    arms: Float[np.ndarray, "T 14"]


def mass_points(qpos: Float[np.ndarray, "T 36"]) -> Float[np.ndarray, "T 30 3"]:
    """World position (m) of every body's centre of mass."""
    pos, quat = forward_kinematics(qpos)
    return pos + rotate(quat, np.broadcast_to(_CENTRES, pos.shape))


def centre_of_mass(points: Float[np.ndarray, "T 30 3"]) -> Float[np.ndarray, "T 3"]:
    """World position (m) of the robot's centre of mass from its `mass_points`."""
    return np.einsum("b,tbx->tx", _SHARES, points)


def pressure_point(points: Float[np.ndarray, "T 30 3"], rate_hz: float) -> Float[np.ndarray, "T 2"]:
    """Where on the floor (m) the force must act for these `mass_points` to move so: bodies as points (Vukobratovic)."""
    inner = (points[2:] - 2.0 * points[1:-1] + points[:-2]) * rate_hz**2
    accel = np.concatenate([inner[:1], inner, inner[-1:]])
    lift = _SHARES * (accel[..., 2] + GRAVITY)
    moment = lift[..., None] * points[..., :2] - (_SHARES * points[..., 2])[..., None] * accel[..., :2]
    return moment.sum(axis=1) / lift.sum(axis=1)[:, None]


def pendulum(zmp: Float[np.ndarray, "T 2"], height: float, rate_hz: float) -> Float[np.ndarray, "T 2"]:
    """Bounded centre-of-mass path of the linear inverted pendulum, zmp = com - (h/g) com'' (Kajita et al. 2003).

    Its solution is the pressure point smoothed by the two-sided kernel exp(-w|t|), w = sqrt(g/h).
    """
    omega = np.sqrt(GRAVITY / height)
    reach = int(np.ceil(8.0 / omega * rate_hz))
    kernel = np.exp(-omega / rate_hz * np.abs(np.arange(-reach, reach + 1)))
    kernel /= kernel.sum()
    padded = np.pad(zmp, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(zmp.shape[1])], axis=1)


def quat_from_rpy(rpy: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 4"]:
    """wxyz of yaw, then pitch, then roll (intrinsic z-y-x)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy.T / 2), np.sin(rpy.T / 2)
    return np.stack(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ],
        axis=-1,
    )


def realise(plan: Plan) -> Float[np.ndarray, "T 36"]:
    """`qpos` of a plan: soles exactly where planned, the pressure point where planned to a few millimetres.

    The first pass moves the centre of mass onto the pendulum's path; the next ones take out what the pendulum does not
    know (swinging limbs, a pelvis that rises), by the same filter.
    """
    count = len(plan.zmp)
    qpos = np.empty((count, NQ))
    qpos[:, 7:19] = KNEES_BENT_JOINTS[:12]
    qpos[:, 2] = plan.pelvis_height
    qpos[:, 3:7] = quat_from_rpy(plan.pelvis_rpy)
    qpos[:, 19:22], qpos[:, 22:] = plan.waist, plan.arms
    qpos[:, :2] = plan.zmp
    for attempt in range(_PASSES):
        points = mass_points(qpos)
        com = centre_of_mass(points)
        height = float(com[:, 2].mean())
        if attempt == 0:
            qpos[:, :2] += pendulum(plan.zmp, height, plan.rate_hz) - com[:, :2]
        else:
            qpos[:, :2] -= pendulum(pressure_point(points, plan.rate_hz) - plan.zmp, height, plan.rate_hz)
        _place_feet(qpos, plan)
    return qpos


def _place_feet(qpos: Float[np.ndarray, "T 36"], plan: Plan) -> None:
    """Solve both legs in place for the planned feet, from the angles already there."""
    pelvis = matrix(qpos[:, 3:7])
    for side in range(2):
        ankle = plan.feet[:, side] + np.array([0.0, 0.0, SOLE_TO_ANKLE])
        position = np.einsum("tji,tj->ti", pelvis, ankle - qpos[:, :3])
        cosine, sine = np.cos(plan.feet_yaw[:, side]), np.sin(plan.feet_yaw[:, side])
        # R_pelvis^T R_z(yaw): columns of the transposed pelvis turned about the vertical.
        rows = np.swapaxes(pelvis, 1, 2)
        rotation = np.stack(
            [
                rows[..., 0] * cosine[:, None] + rows[..., 1] * sine[:, None],
                rows[..., 1] * cosine[:, None] - rows[..., 0] * sine[:, None],
                rows[..., 2],
            ],
            axis=-1,
        )
        legs = slice(7 + 6 * side, 13 + 6 * side)
        qpos[:, legs] = solve_leg(position, rotation, side, start=qpos[:, legs])
