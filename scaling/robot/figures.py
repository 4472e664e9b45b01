"""Published figures of the Unitree G1 (29 DoF): bodies, joints, motors, collision primitives and sites.

Figures from Unitree's G1 description (BSD-3-Clause, see LICENSE). SI units; quaternions are wxyz.
"""

from typing import NamedTuple

Vec3 = tuple[float, float, float]
Quat = tuple[float, float, float, float]


class Body(NamedTuple):
    """One link: pose in its parent, mass (kg) and principal inertia (kg m^2) in the inertial frame."""

    name: str
    parent: str
    pos: Vec3
    quat: Quat
    mass: float
    inertial_pos: Vec3
    inertial_quat: Quat
    inertia: Vec3


class Joint(NamedTuple):
    """One actuated hinge: limits (rad), motor figures at the joint, and two keyframe angles (rad)."""

    name: str
    body: str
    axis: Vec3
    low: float
    high: float
    motor: str
    motors: int
    armature: float
    effort: float
    velocity: float
    home: float
    knees_bent: float


class Capsule(NamedTuple):
    """A collision primitive; a half length of 0 is a sphere."""

    name: str
    body: str
    radius: float
    half_length: float
    pos: Vec3
    quat: Quat


class Site(NamedTuple):
    """A named frame fixed to a body."""

    name: str
    body: str
    pos: Vec3
    quat: Quat



BODIES: tuple[Body, ...] = (
    Body("pelvis", "world", (0, 0, 0.793), (1, 0, 0, 0), 3.813,
         (0, 0, -0.07605), (0.99999992, 0, -0.000399147968, 0), (0.010549, 0.0093089, 0.0079184)),
    Body("left_hip_pitch_link", "pelvis", (0, 0.064452, -0.1027), (1, 0, 0, 0), 1.35,
         (0.002741, 0.047791, -0.02606), (0.954862473, 0.293964146, 0.030255615, 0.0301220149), (0.00181517, 0.00153422, 0.00116212)),
    Body("left_hip_roll_link", "left_hip_pitch_link", (0, 0.052, -0.030465), (0.996178686, 0, -0.0873385724, 0), 1.52,
         (0.029812, -0.001045, -0.087934), (0.977807773, -1.97118954e-05, 0.205575952, -0.0403792906), (0.00254986, 0.00241169, 0.00148755)),
    Body("left_hip_yaw_link", "left_hip_roll_link", (0.025001, 0, -0.12412), (1, 0, 0, 0), 1.702,
         (-0.057709, -0.010981, -0.15078), (0.600597916, 0.158319978, 0.223481969, 0.751180895), (0.00776166, 0.00717575, 0.00160139)),
    Body("left_knee_link", "left_hip_yaw_link", (-0.078273, 0.0021489, -0.17734), (0.996178686, 0, 0.0873385724, 0), 1.932,
         (0.005457, 0.003964, -0.12074), (0.923417871, -0.0327698954, 0.0158245978, 0.382066947), (0.0113804, 0.0112778, 0.00146458)),
    Body("left_ankle_pitch_link", "left_knee_link", (0, -9.4445e-05, -0.30001), (1, 0, 0, 0), 0.074,
         (-0.007269, 0, 0.011137), (0.603052987, 0.369224992, 0.369224992, 0.603052987), (1.89e-05, 1.40805e-05, 6.9195e-06)),
    Body("left_ankle_roll_link", "left_ankle_pitch_link", (0, 0, -0.017558), (1, 0, 0, 0), 0.608,
         (0.026505, 0, -0.016425), (-0.000481091833, 0.728481748, -0.000618966785, 0.685064763), (0.00167218, 0.0016161, 0.000217621)),
    Body("right_hip_pitch_link", "pelvis", (0, -0.064452, -0.1027), (1, 0, 0, 0), 1.35,
         (0.002741, -0.047791, -0.02606), (0.954862473, -0.293964146, 0.030255615, -0.0301220149), (0.00181517, 0.00153422, 0.00116212)),
    Body("right_hip_roll_link", "right_hip_pitch_link", (0, -0.052, -0.030465), (0.996178686, 0, -0.0873385724, 0), 1.52,
         (0.029812, 0.001045, -0.087934), (0.977807773, 1.97118954e-05, 0.205575952, 0.0403792906), (0.00254986, 0.00241169, 0.00148755)),
    Body("right_hip_yaw_link", "right_hip_roll_link", (0.025001, 0, -0.12412), (1, 0, 0, 0), 1.702,
         (-0.057709, 0.010981, -0.15078), (0.751180895, 0.223481969, 0.158319978, 0.600597916), (0.00776166, 0.00717575, 0.00160139)),
    Body("right_knee_link", "right_hip_yaw_link", (-0.078273, -0.0021489, -0.17734), (0.996178686, 0, 0.0873385724, 0), 1.932,
         (0.005457, -0.003964, -0.12074), (0.923438887, 0.0345275958, 0.0116332986, -0.382011953), (0.011374, 0.0112843, 0.00146452)),
    Body("right_ankle_pitch_link", "right_knee_link", (0, 9.4445e-05, -0.30001), (1, 0, 0, 0), 0.074,
         (-0.007269, 0, 0.011137), (0.603052987, 0.369224992, 0.369224992, 0.603052987), (1.89e-05, 1.40805e-05, 6.9195e-06)),
    Body("right_ankle_roll_link", "right_ankle_pitch_link", (0, 0, -0.017558), (1, 0, 0, 0), 0.608,
         (0.026505, 0, -0.016425), (0.000481091833, 0.728481748, 0.000618966785, 0.685064763), (0.00167218, 0.0016161, 0.000217621)),
    Body("waist_yaw_link", "pelvis", (0, 0, 0), (1, 0, 0, 0), 0.214,
         (0.003494, 0.000233, 0.018034), (0.289696986, 0.591000972, -0.337794984, 0.672820968), (0.000163531, 0.000107714, 0.000102205)),
    Body("waist_roll_link", "waist_yaw_link", (-0.0039635, 0, 0.044), (1, 0, 0, 0), 0.086,
         (0, 2.3e-05, 0), (0.5, 0.5, -0.5, 0.5), (8.245e-06, 7.079e-06, 6.339e-06)),
    Body("torso_link", "waist_roll_link", (0, 0, 0), (1, 0, 0, 0), 7.818,
         (0.00203158, 0.000339683, 0.184568), (0.999802581, -6.03318747e-05, 0.0198255917, 0.00131985945), (0.121847, 0.109825, 0.0273735)),
    Body("left_shoulder_pitch_link", "torso_link", (0.0039563, 0.10022, 0.24778), (0.99026414, 0.13920102, 1.3872202e-05, -9.86868139e-05), 0.718,
         (0, 0.035892, -0.011628), (0.654151918, 0.0130457984, -0.326266959, 0.682249915), (0.000465864, 0.000432842, 0.000406394)),
    Body("left_shoulder_roll_link", "left_shoulder_pitch_link", (0, 0.038, -0.013831), (0.990268219, -0.139172031, 0, 0), 0.643,
         (-0.000227, 0.00727, -0.063243), (0.701256025, -0.0196223007, -0.00710317026, 0.712604026), (0.000691311, 0.000618011, 0.000388977)),
    Body("left_shoulder_yaw_link", "left_shoulder_roll_link", (0, 0.00624, -0.1032), (1, 0, 0, 0), 0.734,
         (0.010773, -0.002949, -0.072009), (0.716878715, -0.0964828616, -0.0679941729, 0.687133727), (0.00106187, 0.00103217, 0.000400661)),
    Body("left_elbow_link", "left_shoulder_yaw_link", (0.015783, 0, -0.080518), (1, 0, 0, 0), 0.6,
         (0.064956, 0.004454, -0.010062), (0.541765236, 0.636132278, 0.38882117, 0.388129169), (0.000443035, 0.000421612, 0.000259353)),
    Body("left_wrist_roll_link", "left_elbow_link", (0.1, 0.00188791, -0.01), (1, 0, 0, 0), 0.085445,
         (0.0171394, 0.000537591, 4.8864e-07), (0.575338369, 0.411667264, -0.574906368, 0.411094263), (5.48211e-05, 4.96646e-05, 3.57798e-05)),
    Body("left_wrist_pitch_link", "left_wrist_roll_link", (0.038, 0, 0), (1, 0, 0, 0), 0.48405,
         (0.0229999, -0.00111685, -0.00111658), (0.249997828, 0.661362546, 0.293035799, 0.643607558), (0.000430353, 0.000429873, 0.000164648)),
    Body("left_wrist_yaw_link", "left_wrist_pitch_link", (0.046, 0, 0), (1, 0, 0, 0), 0.254576,
         (0.0708244, 0.000191745, 0.00161742), (0.510570849, 0.526294845, 0.468077862, 0.493187854), (0.000646113, 0.000559993, 0.000147566)),
    Body("right_shoulder_pitch_link", "torso_link", (0.0039563, -0.10021, 0.24778), (0.99026414, -0.13920102, 1.3872202e-05, 9.86868139e-05), 0.718,
         (0, -0.035892, -0.011628), (0.682249915, -0.326266959, 0.0130457984, 0.654151918), (0.000465864, 0.000432842, 0.000406394)),
    Body("right_shoulder_roll_link", "right_shoulder_pitch_link", (0, -0.038, -0.013831), (0.990268219, 0.139172031, 0, 0), 0.643,
         (-0.000227, -0.00727, -0.063243), (0.712604026, -0.00710317026, -0.0196223007, 0.701256025), (0.000691311, 0.000618011, 0.000388977)),
    Body("right_shoulder_yaw_link", "right_shoulder_roll_link", (0, -0.00624, -0.1032), (1, 0, 0, 0), 0.734,
         (0.010773, 0.002949, -0.072009), (0.687133727, -0.0679941729, -0.0964828616, 0.716878715), (0.00106187, 0.00103217, 0.000400661)),
    Body("right_elbow_link", "right_shoulder_yaw_link", (0.015783, 0, -0.080518), (1, 0, 0, 0), 0.6,
         (0.064956, -0.004454, -0.010062), (0.388129169, 0.38882117, 0.636132278, 0.541765236), (0.000443035, 0.000421612, 0.000259353)),
    Body("right_wrist_roll_link", "right_elbow_link", (0.1, -0.00188791, -0.01), (1, 0, 0, 0), 0.085445,
         (0.0171394, -0.000537591, 4.8864e-07), (0.411667264, 0.575338369, -0.411094263, 0.574906368), (5.48211e-05, 4.96646e-05, 3.57798e-05)),
    Body("right_wrist_pitch_link", "right_wrist_roll_link", (0.038, 0, 0), (1, 0, 0, 0), 0.48405,
         (0.0229999, 0.00111685, -0.00111658), (0.643607558, 0.293035799, 0.661362546, 0.249997828), (0.000430353, 0.000429873, 0.000164648)),
    Body("right_wrist_yaw_link", "right_wrist_pitch_link", (0.046, 0, 0), (1, 0, 0, 0), 0.254576,
         (0.0708244, -0.000191745, 0.00161742), (0.493187854, 0.468077862, 0.526294845, 0.510570849), (0.000646113, 0.000559993, 0.000147566)),
)

JOINTS: tuple[Joint, ...] = (
    Joint("left_hip_pitch_joint", "left_hip_pitch_link", (0, 1, 0), -2.5307, 2.8798, "7520_14", 1, 0.01017752,
          88, 32, -0.1, -0.312),
    Joint("left_hip_roll_joint", "left_hip_roll_link", (1, 0, 0), -0.5236, 2.9671, "7520_22", 1, 0.025101925,
          139, 20, 0, 0),
    Joint("left_hip_yaw_joint", "left_hip_yaw_link", (0, 0, 1), -2.7576, 2.7576, "7520_14", 1, 0.01017752,
          88, 32, 0, 0),
    Joint("left_knee_joint", "left_knee_link", (0, 1, 0), -0.087267, 2.8798, "7520_22", 1, 0.025101925,
          139, 20, 0.3, 0.669),
    Joint("left_ankle_pitch_joint", "left_ankle_pitch_link", (0, 1, 0), -0.87267, 0.5236, "5020", 2, 0.00721945,
          50, 37, -0.2, -0.363),
    Joint("left_ankle_roll_joint", "left_ankle_roll_link", (1, 0, 0), -0.2618, 0.2618, "5020", 2, 0.00721945,
          50, 37, 0, 0),
    Joint("right_hip_pitch_joint", "right_hip_pitch_link", (0, 1, 0), -2.5307, 2.8798, "7520_14", 1, 0.01017752,
          88, 32, -0.1, -0.312),
    Joint("right_hip_roll_joint", "right_hip_roll_link", (1, 0, 0), -2.9671, 0.5236, "7520_22", 1, 0.025101925,
          139, 20, 0, 0),
    Joint("right_hip_yaw_joint", "right_hip_yaw_link", (0, 0, 1), -2.7576, 2.7576, "7520_14", 1, 0.01017752,
          88, 32, 0, 0),
    Joint("right_knee_joint", "right_knee_link", (0, 1, 0), -0.087267, 2.8798, "7520_22", 1, 0.025101925,
          139, 20, 0.3, 0.669),
    Joint("right_ankle_pitch_joint", "right_ankle_pitch_link", (0, 1, 0), -0.87267, 0.5236, "5020", 2, 0.00721945,
          50, 37, -0.2, -0.363),
    Joint("right_ankle_roll_joint", "right_ankle_roll_link", (1, 0, 0), -0.2618, 0.2618, "5020", 2, 0.00721945,
          50, 37, 0, 0),
    Joint("waist_yaw_joint", "waist_yaw_link", (0, 0, 1), -2.618, 2.618, "7520_14", 1, 0.01017752,
          88, 32, 0, 0),
    Joint("waist_roll_joint", "waist_roll_link", (1, 0, 0), -0.52, 0.52, "5020", 2, 0.00721945,
          50, 37, 0, 0),
    Joint("waist_pitch_joint", "torso_link", (0, 1, 0), -0.52, 0.52, "5020", 2, 0.00721945,
          50, 37, 0, 0),
    Joint("left_shoulder_pitch_joint", "left_shoulder_pitch_link", (0, 1, 0), -3.0892, 2.6704, "5020", 1, 0.003609725,
          25, 37, 0.2, 0.2),
    Joint("left_shoulder_roll_joint", "left_shoulder_roll_link", (1, 0, 0), -1.5882, 2.2515, "5020", 1, 0.003609725,
          25, 37, 0.2, 0.2),
    Joint("left_shoulder_yaw_joint", "left_shoulder_yaw_link", (0, 0, 1), -2.618, 2.618, "5020", 1, 0.003609725,
          25, 37, 0, 0),
    Joint("left_elbow_joint", "left_elbow_link", (0, 1, 0), -1.0472, 2.0944, "5020", 1, 0.003609725,
          25, 37, 1.28, 0.6),
    Joint("left_wrist_roll_joint", "left_wrist_roll_link", (1, 0, 0), -1.97222, 1.97222, "5020", 1, 0.003609725,
          25, 37, 0, 0),
    Joint("left_wrist_pitch_joint", "left_wrist_pitch_link", (0, 1, 0), -1.61443, 1.61443, "4010", 1, 0.00425,
          5, 22, 0, 0),
    Joint("left_wrist_yaw_joint", "left_wrist_yaw_link", (0, 0, 1), -1.61443, 1.61443, "4010", 1, 0.00425,
          5, 22, 0, 0),
    Joint("right_shoulder_pitch_joint", "right_shoulder_pitch_link", (0, 1, 0), -3.0892, 2.6704, "5020", 1, 0.003609725,
          25, 37, 0.2, 0.2),
    Joint("right_shoulder_roll_joint", "right_shoulder_roll_link", (1, 0, 0), -2.2515, 1.5882, "5020", 1, 0.003609725,
          25, 37, -0.2, -0.2),
    Joint("right_shoulder_yaw_joint", "right_shoulder_yaw_link", (0, 0, 1), -2.618, 2.618, "5020", 1, 0.003609725,
          25, 37, 0, 0),
    Joint("right_elbow_joint", "right_elbow_link", (0, 1, 0), -1.0472, 2.0944, "5020", 1, 0.003609725,
          25, 37, 1.28, 0.6),
    Joint("right_wrist_roll_joint", "right_wrist_roll_link", (1, 0, 0), -1.97222, 1.97222, "5020", 1, 0.003609725,
          25, 37, 0, 0),
    Joint("right_wrist_pitch_joint", "right_wrist_pitch_link", (0, 1, 0), -1.61443, 1.61443, "4010", 1, 0.00425,
          5, 22, 0, 0),
    Joint("right_wrist_yaw_joint", "right_wrist_yaw_link", (0, 0, 1), -1.61443, 1.61443, "4010", 1, 0.00425,
          5, 22, 0, 0),
)

CAPSULES: tuple[Capsule, ...] = (
    Capsule("pelvis_collision", "pelvis", 0.07, 0, (0, 0, -0.08), (1, 0, 0, 0)),
    Capsule("left_hip_collision", "left_hip_roll_link", 0.06, 0.04, (0.02, 0, -0.04), (1, 0, 0, 0)),
    Capsule("left_thigh_collision", "left_hip_yaw_link", 0.055, 0.0761577311, (-0.03, 0, -0.1), (0.979577723, 0, 0.201065872, 0)),
    Capsule("left_shin_collision", "left_knee_link", 0.045, 0.075, (0.01, 0, -0.075), (1, 0, 0, 0)),
    Capsule("left_linkage_brace_collision", "left_knee_link", 0.03, 0.04, (0.01, 0, -0.24), (1, 0, 0, 0)),
    Capsule("left_foot1_collision", "left_ankle_roll_link", 0.01, 0.0250049995, (0.075, -0.0265, -0.025), (0.707106781, -0.014139308, 0.706965402, 0)),
    Capsule("left_foot2_collision", "left_ankle_roll_link", 0.01, 0.0835, (0.0395, -0.018, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("left_foot3_collision", "left_ankle_roll_link", 0.01, 0.091, (0.039, -0.01, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("left_foot4_collision", "left_ankle_roll_link", 0.01, 0.093, (0.039, 0, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("left_foot5_collision", "left_ankle_roll_link", 0.01, 0.091, (0.039, 0.01, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("left_foot6_collision", "left_ankle_roll_link", 0.01, 0.0835, (0.0395, 0.018, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("left_foot7_collision", "left_ankle_roll_link", 0.01, 0.025, (0.075, 0.026, -0.025), (0.707106781, 0, 0.707106781, 0)),
    Capsule("right_hip_collision", "right_hip_roll_link", 0.06, 0.04, (0.02, 0, -0.04), (1, 0, 0, 0)),
    Capsule("right_thigh_collision", "right_hip_yaw_link", 0.055, 0.0761577311, (-0.03, 0, -0.1), (0.979577723, 0, 0.201065872, 0)),
    Capsule("right_shin_collision", "right_knee_link", 0.045, 0.075, (0.01, 0, -0.075), (1, 0, 0, 0)),
    Capsule("right_linkage_brace_collision", "right_knee_link", 0.03, 0.04, (0.01, 0, -0.24), (1, 0, 0, 0)),
    Capsule("right_foot1_collision", "right_ankle_roll_link", 0.01, 0.025, (0.075, -0.026, -0.025), (0.707106781, 0, 0.707106781, 0)),
    Capsule("right_foot2_collision", "right_ankle_roll_link", 0.01, 0.0835, (0.0395, -0.018, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("right_foot3_collision", "right_ankle_roll_link", 0.01, 0.091, (0.039, -0.01, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("right_foot4_collision", "right_ankle_roll_link", 0.01, 0.093, (0.039, 0, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("right_foot5_collision", "right_ankle_roll_link", 0.01, 0.091, (0.039, 0.01, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("right_foot6_collision", "right_ankle_roll_link", 0.01, 0.0835, (0.0395, 0.018, -0.025), (0.707106781, 0, -0.707106781, 0)),
    Capsule("right_foot7_collision", "right_ankle_roll_link", 0.01, 0.025, (0.075, 0.026, -0.025), (0.707106781, 0, 0.707106781, 0)),
    Capsule("torso_collision", "torso_link", 0.09, 0.06, (0.01, 0, 0.14), (6.123234e-17, 1, 0, 0)),
    Capsule("head_collision", "torso_link", 0.06, 0, (0, 0, 0.43), (1, 0, 0, 0)),
    Capsule("left_shoulder_yaw_collision", "left_shoulder_yaw_link", 0.035, 0.065, (0, 0, -0.015), (6.123234e-17, 1, 0, 0)),
    Capsule("left_elbow_yaw_collision", "left_elbow_link", 0.035, 0.045, (0.035, 0, -0.01), (0.707106781, 0, -0.707106781, 0)),
    Capsule("left_wrist_collision", "left_wrist_pitch_link", 0.035, 0.035, (0.025, 0, 0), (0.707106781, 0, -0.707106781, 0)),
    Capsule("left_hand_collision", "left_wrist_yaw_link", 0.035, 0.0412310563, (0.11, -0.01, 0), (0.707106781, -0.171498585, -0.685994341, 0)),
    Capsule("right_shoulder_yaw_collision", "right_shoulder_yaw_link", 0.035, 0.065, (0, 0, -0.015), (6.123234e-17, 1, 0, 0)),
    Capsule("right_elbow_yaw_collision", "right_elbow_link", 0.035, 0.045, (0.035, 0, -0.01), (0.707106781, 0, -0.707106781, 0)),
    Capsule("right_wrist_collision", "right_wrist_pitch_link", 0.035, 0.035, (0.025, 0, 0), (0.707106781, 0, -0.707106781, 0)),
    Capsule("right_hand_collision", "right_wrist_yaw_link", 0.035, 0.0412310563, (0.11, 0.01, 0), (0.707106781, 0.171498585, -0.685994341, 0)),
)

SITES: tuple[Site, ...] = (
    Site("imu_in_pelvis", "pelvis", (0.04525, 0, -0.08339), (1, 0, 0, 0)),
    Site("left_foot", "left_ankle_roll_link", (0.04, 0, -0.037), (1, 0, 0, 0)),
    Site("right_foot", "right_ankle_roll_link", (0.04, 0, -0.037), (1, 0, 0, 0)),
    Site("imu_in_torso", "torso_link", (-0.03959, -0.00224, 0.14792), (1, 0, 0, 0)),
    Site("left_palm", "left_wrist_yaw_link", (0.08, 0, 0), (1, 0, 0, 0)),
    Site("right_palm", "right_wrist_yaw_link", (0.08, 0, 0), (1, 0, 0, 0)),
)
