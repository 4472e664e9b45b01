"""The MuJoCo model of the G1, built from its figures: no meshes, no files."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float

from scaling.robot.figures import BODIES, CAPSULES, JOINTS, SITES, Quat, Vec3
from scaling.robot.g1 import FOOT_SPHERE_RADIUS, FOOT_SPHERES, KD, KNEES_BENT_JOINTS, KP, standing_qpos

CONTROL_DT = 0.02  # s; the policy acts at 50 Hz


# Contype and conaffinity of the links' capsules; the floor has bit 1.
_CAPSULE_BITS = {"feet": (0, 0), "body": (0, 1), "full": (2, 3)}


@dataclass(frozen=True)
class PhysicsOptions:
    """How the physics is integrated; the presets below follow from `experiments/physics_presets/RESULT.md`.

    `contacts`: "feet" (four spheres a sole on the floor), "body" (and capsules of all links but the feet, with the
    floor alone) or "full" (self-collision as well).
    """

    timestep: float = 0.005
    substeps: int = 4
    integrator: str = "implicitfast"
    iterations: int = 4
    ls_iterations: int = 8
    contacts: str = "feet"

    def __post_init__(self) -> None:
        if abs(self.timestep * self.substeps - CONTROL_DT) > 1e-9:
            raise ValueError(f"timestep {self.timestep} x substeps {self.substeps} must be {CONTROL_DT} s")
        if self.timestep > 0.005 or self.iterations < 4:
            raise ValueError(
                f"timestep {self.timestep}, iterations {self.iterations}: coarser than .005 s or fewer than 4 "
                "solver iterations gives dynamics that depend on the warm start"
            )
        if self.integrator not in ("implicitfast", "euler"):
            raise ValueError(f"integrator {self.integrator!r}: one of 'implicitfast', 'euler'")
        if self.contacts not in _CAPSULE_BITS:
            raise ValueError(f"contacts {self.contacts!r}: one of {', '.join(map(repr, _CAPSULE_BITS))}")


STANDARD = PhysicsOptions()
FULL = PhysicsOptions(iterations=10, ls_iterations=20, contacts="full")
CONVERGED = PhysicsOptions(timestep=0.002, substeps=10, iterations=50, ls_iterations=50)
TWIN = replace(CONVERGED, contacts="body")
"""`CONVERGED` for whoever also falls: the twin of the bridge."""


class Rug(NamedTuple):
    """A thin box fixed to the ground: centre (m), orientation (wxyz), half sizes (m) and its own sliding friction."""

    pos: Vec3
    quat: Quat
    size: Vec3
    friction: float


class Floor(NamedTuple):
    """Ground that is not a plane: heights (m) over a square around the origin, row = y and column = x, and rugs.

    `span` holds the heights; floors of one span and grid differ in data alone. Without heights the plane stays.
    """

    heights: Float[np.ndarray, "n n"] | None
    half_size: float
    span: tuple[float, float]
    rugs: tuple[Rug, ...] = ()


_BASE = 0.5  # m of ground below its lowest point
_GREY = (0.55, 0.57, 0.60, 1.0)
_DARK = (0.16, 0.17, 0.20, 1.0)
_RUG = (0.45, 0.30, 0.26, 1.0)
_VISUAL_GROUP = 1
_COLLISION_GROUP = 3


def build_spec(options: PhysicsOptions = STANDARD, floor: Floor | None = None) -> mujoco.MjSpec:
    """The editable model: a floor, the robot on a free joint, one position servo a joint (ctrl in rad).

    MuJoCo's compiler stretches the heights of `floor` over its span; `build_model` puts them right.
    """
    spec = mujoco.MjSpec()
    spec.modelname = "unitree_g1_29dof"
    spec.compiler.degree = False
    spec.option.timestep = options.timestep
    spec.option.iterations = options.iterations
    spec.option.ls_iterations = options.ls_iterations
    spec.option.integrator = {
        "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
        "euler": mujoco.mjtIntegrator.mjINT_EULER,
    }[options.integrator]
    # A diverged state must stay non-finite and be seen as a failure, not silently become the start pose.
    spec.option.disableflags = mujoco.mjtDisableBit.mjDSBL_AUTORESET
    spec.visual.global_.offwidth = 1280
    spec.visual.global_.offheight = 720
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 1024
    _add_scene(spec, floor)
    bodies = {"world": spec.worldbody}
    joints = {joint.body: joint for joint in JOINTS}
    for figure in BODIES:
        body = bodies[figure.parent].add_body(
            name=figure.name,
            pos=figure.pos,
            quat=figure.quat,
            mass=figure.mass,
            ipos=figure.inertial_pos,
            iquat=figure.inertial_quat,
            inertia=figure.inertia,
            explicitinertial=True,
        )
        bodies[figure.name] = body
        if figure.name == "pelvis":
            body.add_freejoint(name="root")
        else:
            joint = joints[figure.name]
            body.add_joint(
                name=joint.name,
                type=mujoco.mjtJoint.mjJNT_HINGE,
                axis=joint.axis,
                range=(joint.low, joint.high),
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                armature=joint.armature,
            )
    _add_geoms(spec, bodies, options.contacts)
    for site in SITES:
        bodies[site.body].add_site(name=site.name, pos=site.pos, quat=site.quat)
    _add_servos(spec)
    spec.add_key(name="stand", qpos=standing_qpos(), ctrl=KNEES_BENT_JOINTS)
    return spec


def build_model(options: PhysicsOptions = STANDARD, floor: Floor | None = None) -> mujoco.MjModel:
    """The compiled model of `build_spec`: nq 36, nv 35, nu 29, 33.34 kg; a plane where no `floor` is given."""
    model = build_spec(options, floor).compile()
    if floor is not None and floor.heights is not None:
        low, high = floor.span
        model.hfield_data[:] = ((floor.heights - low) / (high - low)).ravel()
    return model


def _add_scene(spec: mujoco.MjSpec, floor: Floor | None) -> None:
    spec.add_texture(
        name="grid",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=(0.93, 0.94, 0.95),
        rgb2=(0.86, 0.88, 0.90),
        width=256,
        height=256,
    )
    textures = [""] * mujoco.mjtTextureRole.mjNTEXROLE
    textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "grid"
    spec.add_material(name="floor", textures=textures, texrepeat=(2, 2), texuniform=True)
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=(1.0, 1.0, 1.0),
        rgb2=(0.75, 0.82, 0.90),
        width=64,
        height=384,
    )
    world = spec.worldbody
    world.add_light(pos=(0, 0, 4), dir=(0, 0, -1), type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False)
    ground = world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(0, 0, 0.05),
        material="floor",
        condim=3,
        friction=(1.0, 0.005, 0.0001),
        contype=1,
        conaffinity=1,
    )
    if floor is None:
        return
    if floor.heights is not None:
        low, high = floor.span
        spec.add_hfield(
            name="floor",
            size=(floor.half_size, floor.half_size, high - low, _BASE),
            nrow=floor.heights.shape[0],
            ncol=floor.heights.shape[1],
            userdata=floor.heights.ravel().tolist(),
        )
        ground.type = mujoco.mjtGeom.mjGEOM_HFIELD
        ground.hfieldname = "floor"
        ground.pos = (0, 0, low)
    for index, rug in enumerate(floor.rugs):
        world.add_geom(
            name=f"rug_{index}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=rug.pos,
            quat=rug.quat,
            size=rug.size,
            rgba=_RUG,
            condim=3,
            friction=(rug.friction, 0.005, 0.0001),
            priority=1,  # its friction decides, not the larger one of rug and sole
            contype=1,
            conaffinity=1,
        )


def _add_geoms(spec: mujoco.MjSpec, bodies: dict, contacts: str) -> None:
    """Primitives: looks (group 1, without contact but for `_CAPSULE_BITS`) and collision (group 3)."""
    contype, conaffinity = _CAPSULE_BITS[contacts]
    for capsule in CAPSULES:
        sphere = capsule.half_length == 0.0
        foot = "_foot" in capsule.name
        bodies[capsule.body].add_geom(
            name=capsule.name,
            type=mujoco.mjtGeom.mjGEOM_SPHERE if sphere else mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=(capsule.radius, capsule.half_length, 0),
            pos=capsule.pos,
            quat=capsule.quat,
            mass=0.0,
            contype=0 if foot else contype,
            conaffinity=0 if foot else conaffinity,
            condim=3,
            group=_VISUAL_GROUP,
            rgba=_DARK if foot or "hand" in capsule.name or "hip" in capsule.name else _GREY,
        )
    for side in ("left", "right"):
        for index, pos in enumerate(FOOT_SPHERES):
            bodies[f"{side}_ankle_roll_link"].add_geom(
                name=f"{side}_sole_{index}",
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=(FOOT_SPHERE_RADIUS, 0, 0),
                pos=pos,
                mass=0.0,
                contype=0,
                conaffinity=1,
                condim=3,
                group=_COLLISION_GROUP,
                rgba=_DARK,
            )
    if contacts == "full":
        _exclude_neighbours(spec)


def _exclude_neighbours(spec: mujoco.MjSpec) -> None:
    """Links closer than three in the tree overlap at rest and never collide on the robot."""
    parents = {body.name: body.parent for body in BODIES}
    for body in BODIES:
        ancestor = parents[body.name]
        for _ in range(3):
            if ancestor == "world":
                break
            if ancestor != parents[body.name]:  # MuJoCo itself skips parent and child
                spec.add_exclude(name=f"{ancestor}-{body.name}", bodyname1=ancestor, bodyname2=body.name)
            ancestor = parents[ancestor]


def _add_servos(spec: mujoco.MjSpec) -> None:
    """tau = clip(kp (ctrl - q) - kd dq, +-effort)."""
    for index, joint in enumerate(JOINTS):
        gain = np.zeros(mujoco.mjNGAIN)
        bias = np.zeros(mujoco.mjNBIAS)
        gain[0] = KP[index]
        bias[1], bias[2] = -KP[index], -KD[index]
        spec.add_actuator(
            name=joint.name,
            target=joint.name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            gainprm=gain,
            biasprm=bias,
            ctrllimited=mujoco.mjtLimited.mjLIMITED_FALSE,
            forcelimited=mujoco.mjtLimited.mjLIMITED_TRUE,
            forcerange=(-joint.effort, joint.effort),
        )
