"""The G1's figures as arrays in joint and body order (the "MJCF order" of every motion file and motor slot)."""

import numpy as np

from scaling.robot.figures import BODIES, JOINTS

NUM_JOINTS = len(JOINTS)
NQ = 7 + NUM_JOINTS
NV = 6 + NUM_JOINTS
GROUPS = {
    "root linear": slice(0, 3),
    "root angular": slice(3, 6),
    "legs": slice(6, 18),
    "waist": slice(18, 21),
    "arms": slice(21, NV),
}
"""Where each group stands in `qvel`."""

JOINT_NAMES = tuple(joint.name for joint in JOINTS)
BODY_NAMES = tuple(body.name for body in BODIES)
BODY_INDEX = {name: index for index, name in enumerate(BODY_NAMES)}

RANGE_LOW = np.array([joint.low for joint in JOINTS])
RANGE_HIGH = np.array([joint.high for joint in JOINTS])
EFFORT_LIMIT = np.array([joint.effort for joint in JOINTS])
VELOCITY_LIMIT = np.array([joint.velocity for joint in JOINTS])
ARMATURE = np.array([joint.armature for joint in JOINTS])

# Gains give every motor the same closed-loop response: 10 Hz, damping ratio 2 (BeyondMimic).
_NATURAL_FREQUENCY = 2.0 * np.pi * 10.0
_DAMPING_RATIO = 2.0
KP = ARMATURE * _NATURAL_FREQUENCY**2
KD = 2.0 * _DAMPING_RATIO * ARMATURE * _NATURAL_FREQUENCY
ACTION_SCALE = 0.25 * EFFORT_LIMIT / KP

HOME_JOINTS = np.array([joint.home for joint in JOINTS])
KNEES_BENT_JOINTS = np.array([joint.knees_bent for joint in JOINTS])

KEYPOINTS = (
    "pelvis",
    "left_hip_roll_link",
    "left_knee_link",
    "left_ankle_roll_link",
    "right_hip_roll_link",
    "right_knee_link",
    "right_ankle_roll_link",
    "torso_link",
    "left_shoulder_roll_link",
    "left_elbow_link",
    "left_wrist_yaw_link",
    "right_shoulder_roll_link",
    "right_elbow_link",
    "right_wrist_yaw_link",
)
KEYPOINT_INDEX = np.array([BODY_INDEX[name] for name in KEYPOINTS])
FEET = ("left_ankle_roll_link", "right_ankle_roll_link")
FEET_INDEX = np.array([BODY_INDEX[name] for name in FEET])
END_EFFECTORS = (*FEET, "left_wrist_yaw_link", "right_wrist_yaw_link")
END_EFFECTOR_INDEX = np.array([BODY_INDEX[name] for name in END_EFFECTORS])
TORSO = BODY_INDEX["torso_link"]

# Four contact spheres a foot (sole corners), in the ankle-roll frame: metres.
FOOT_SPHERES = ((-0.05, 0.025, -0.03), (-0.05, -0.025, -0.03), (0.12, 0.03, -0.03), (0.12, -0.03, -0.03))
FOOT_SPHERE_RADIUS = 0.005


def standing_qpos(joints: np.ndarray = KNEES_BENT_JOINTS) -> np.ndarray:
    """`qpos` [36] upright at the origin with the soles on the floor (metres, wxyz, rad)."""
    from scaling.robot.kinematics import soles

    qpos = np.concatenate([np.zeros(3), [1.0, 0.0, 0.0, 0.0], joints])
    qpos[2] -= float(soles(qpos)[..., 2].min())
    return qpos
