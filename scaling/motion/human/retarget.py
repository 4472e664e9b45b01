"""A person's key points followed by the G1: inverse kinematics by `mink`, limits kept, feet on the floor."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.interpolate import make_interp_spline

from scaling.errors import InputError
from scaling.motion.human.keypoints import Keypoints
from scaling.motion.human.targets import SIDES, Targets, build_targets
from scaling.robot.g1 import BODY_INDEX, JOINT_NAMES, RANGE_HIGH, RANGE_LOW, VELOCITY_LIMIT, standing_qpos
from scaling.robot.kinematics import forward_kinematics, soles
from scaling.robot.model import build_model
from scaling.robot.rotations import quat_mul


@dataclass(frozen=True)
class RetargetConfig:
    """Weights of the links (position, orientation), iterations, and the rate (Hz) at which frames are solved.

    The first frame is solved until no joint moves more than `settled` (rad) in a step; the others take `iterations`.
    """

    rate_hz: float = 50.0
    iterations: int = 4
    first_iterations: int = 1000
    settled: float = 1e-3
    feet: tuple[float, float] = (20.0, 1.0)
    pelvis: tuple[float, float] = (3.0, 2.0)
    torso: tuple[float, float] = (0.0, 2.0)
    knees: float = 0.5
    elbows: float = 1.0
    wrists: float = 1.0
    posture: float = 0.02

    def __post_init__(self) -> None:
        if self.rate_hz <= 0 or self.iterations < 1 or self.first_iterations < 1 or self.settled <= 0:
            raise ValueError(f"rate, iterations and settled must be positive: {self}")


@dataclass(frozen=True)
class Retargeted:
    """`qpos` at `rate_hz` and how well it follows: metres, m/s, shares of frames, and whether frame 0 has settled."""

    qpos: Float[np.ndarray, "T 36"]
    rate_hz: float
    keypoint_error_m: float
    foot_slide_m_s: float
    penetration_max_m: float
    limit_share: float
    settled: bool

    def figures(self) -> dict[str, float | bool]:
        """All that is said of it, without the frames."""
        return {name: value for name, value in vars(self).items() if name not in ("qpos", "rate_hz")}

    def __str__(self) -> str:
        return (
            f"key points off by {100 * self.keypoint_error_m:.1f} cm (mean), bearing feet slide at "
            f"{self.foot_slide_m_s:.2f} m/s, soles {100 * self.penetration_max_m:.1f} cm into the floor at most, a "
            f"joint at its limit in {100 * self.limit_share:.0f} % of frames"
        )


def _resampled(people: Keypoints, rate_hz: float) -> Keypoints:
    """Key points at another rate, on cubic splines."""
    count = int(np.floor((people.frames - 1) * rate_hz / people.rate_hz + 1e-9)) + 1
    at, own = np.arange(count) / rate_hz, np.arange(people.frames) / people.rate_hz
    points = {name: make_interp_spline(own, point, k=min(3, len(own) - 1))(at) for name, point in people.points.items()}
    return Keypoints(points, rate_hz, people.skeleton)


def retarget(people: Keypoints, where: str, config: RetargetConfig | None = None) -> Retargeted:
    """The G1 doing what the person does, at `config.rate_hz`; `InputError` without `mink` or if frame 0 fails."""
    mink = _mink(where)
    config = config or RetargetConfig()
    if people.frames < 2:
        raise InputError(f"{where}: {people.frames} frame(s) of human motion; at least two are needed.")
    targets = build_targets(_resampled(people, config.rate_hz))
    configuration = mink.Configuration(build_model())
    costs = {"pelvis": config.pelvis, "torso_link": config.torso}
    for side in SIDES:
        costs |= {
            f"{side}_ankle_roll_link": config.feet,
            f"{side}_knee_link": (config.knees, 0.0),
            f"{side}_elbow_link": (config.elbows, 0.0),
            f"{side}_wrist_yaw_link": (config.wrists, 0.0),
        }
    links = {
        name: mink.FrameTask(name, "body", position_cost=place, orientation_cost=turn, lm_damping=0.1)
        for name, (place, turn) in costs.items()
    }
    posture = mink.PostureTask(configuration.model, cost=config.posture)
    posture.set_target(standing_qpos())
    tasks: list[Any] = [*links.values(), posture]
    joint_limits = mink.ConfigurationLimit(configuration.model)
    speeds = mink.VelocityLimit(configuration.model, dict(zip(JOINT_NAMES, 0.9 * VELOCITY_LIMIT, strict=True)))
    qpos = np.empty((len(targets.bearing), 36))
    _aim(mink, links, targets, 0)
    configuration.update(_start(targets))
    settled = False
    for turn in range(config.first_iterations):
        velocity = mink.solve_ik(configuration, tasks, 0.1, solver="daqp", damping=1e-3, limits=[joint_limits])
        # Ever shorter steps: a straight knee and joints at their limits swing around their rest for ever at whole ones.
        configuration.integrate_inplace(velocity, 0.1 * 0.8 ** (turn // 25))
        if np.abs(0.1 * velocity).max() < config.settled:
            settled = True
            break
    if not settled:
        raise InputError(
            f"{where}: inverse kinematics of the first frame does not settle in {config.first_iterations} steps; cut "
            "the clip to start in a pose that a G1 can take."
        )
    qpos[0] = configuration.q
    step = 1.0 / config.rate_hz / config.iterations
    for frame in range(1, len(qpos)):
        _aim(mink, links, targets, frame)
        for _ in range(config.iterations):
            velocity = mink.solve_ik(
                configuration, tasks, step, solver="daqp", damping=1e-3, limits=[joint_limits, speeds]
            )
            configuration.integrate_inplace(velocity, step)
        qpos[frame] = configuration.q
    # On the floor: bearing soles lie at height 0, half of them above it.
    heights = soles(qpos)[..., 2].min(axis=-1)
    if targets.bearing.any():
        qpos[:, 2] -= np.median(heights[targets.bearing])
    return _judged(qpos, targets, config.rate_hz, settled)


def _mink(where: str) -> Any:
    """The package that solves; it is in the extra [train] only."""
    try:
        with warnings.catch_warnings():
            # qpsolvers 4.13 (2026) looks for jaxopt, which warns that nobody maintains it; nothing here uses it.
            warnings.simplefilter("ignore", DeprecationWarning)
            import mink
    except ImportError:
        raise InputError(
            f"{where}: human motion needs the package mink to be retargeted; install scaling[train]."
        ) from None
    return mink


def _aim(mink: Any, links: dict[str, Any], targets: Targets, frame: int) -> None:
    """Point every task at its link's target of one frame."""
    for name, task in links.items():
        turn = targets.rotations[name][frame] if name in targets.rotations else np.eye(3)
        place = targets.positions[name][frame] if name in targets.positions else np.zeros(3)
        task.set_target(mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(turn), place))


def _start(targets: Targets) -> Float[np.ndarray, "36"]:
    """The standing pose where the person is and as the person is turned."""
    qpos = standing_qpos()
    turn = targets.rotations["pelvis"][0]
    half = 0.5 * np.arctan2(turn[1, 0], turn[0, 0])
    qpos[:3] = targets.positions["pelvis"][0]
    qpos[3:7] = quat_mul(np.array([np.cos(half), 0.0, 0.0, np.sin(half)]), qpos[3:7])
    return qpos


def _judged(qpos: Float[np.ndarray, "T 36"], targets: Targets, rate_hz: float, settled: bool) -> Retargeted:
    places = forward_kinematics(qpos)[0]
    gaps = [np.linalg.norm(places[:, BODY_INDEX[name]] - place, axis=1) for name, place in targets.positions.items()]
    corners = soles(qpos)
    speed = np.linalg.norm(np.diff(corners[..., :2], axis=0), axis=-1).mean(axis=-1) * rate_hz
    held = targets.bearing[1:] & targets.bearing[:-1]
    joints = qpos[:, 7:]
    at_limit = (joints < RANGE_LOW + 1e-3) | (joints > RANGE_HIGH - 1e-3)
    return Retargeted(
        qpos,
        rate_hz,
        keypoint_error_m=float(np.mean(gaps)),
        foot_slide_m_s=float(speed[held].mean()) if held.any() else float("nan"),
        penetration_max_m=float(max(0.0, -corners[..., 2].min())),
        limit_share=float(at_limit.any(axis=1).mean()),
        settled=settled,
    )
