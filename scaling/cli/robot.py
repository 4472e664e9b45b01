"""`scaling robot`: the model against the robot's own figures."""

import argparse
from pathlib import Path
from typing import Any

from scaling.cli.output import Outcome, pairs
from scaling.cli.parser import Verbs, add, family
from scaling.errors import InputError

TOLERANCE = 1e-6  # m and rad
MASS_KG, MASS_TOLERANCE_KG = 33.34, 0.01
_SAMPLES = 256


def add_verbs(verbs: Verbs) -> None:
    """`robot check`."""
    rooms = family(verbs, "robot", "the G1 as data")
    check = add(rooms, "check", _check, "compare forward kinematics and mass with figures (exit 1 where they differ)")
    check.add_argument("--against", metavar="FK.npz", help="qpos, body_pos, body_quat (default: MuJoCo's own)")


def _check(arguments: argparse.Namespace) -> Outcome:
    import mujoco
    import numpy as np

    from scaling.robot.g1 import JOINT_NAMES
    from scaling.robot.kinematics import forward_kinematics
    from scaling.robot.model import build_model
    from scaling.robot.rotations import angle_between

    model = build_model()
    if arguments.against is None:
        qpos, position, quat = _by_mujoco(model)
    else:
        qpos, position, quat = _reference(Path(arguments.against))
    found_position, found_quat = forward_kinematics(qpos)
    mass = float(mujoco.mj_getTotalmass(model))
    report: dict[str, Any] = {
        "mass_kg": mass,
        "max_position_error_m": float(np.linalg.norm(found_position - position, axis=-1).max()),
        "max_rotation_error_rad": float(angle_between(found_quat, quat).max()),
        "joints": len(JOINT_NAMES),
        "poses": len(qpos),
        "against": arguments.against or "mujoco",
        "tolerance": TOLERANCE,
    }
    failures = [
        f"{name} is {report[name]:.3g}, above {TOLERANCE:g}"
        for name in ("max_position_error_m", "max_rotation_error_rad")
        if not report[name] <= TOLERANCE
    ]
    if not abs(mass - MASS_KG) <= MASS_TOLERANCE_KG:
        failures.append(f"mass_kg is {mass:.3f}, not {MASS_KG} to {MASS_TOLERANCE_KG}")
    report |= {"ok": not failures, "failures": failures}
    return Outcome(report, [pairs(report)], code=1 if failures else 0)


def _by_mujoco(model: Any) -> tuple[Any, Any, Any]:
    """Random poses with MuJoCo's kinematics of the built model."""
    import mujoco
    import numpy as np

    from scaling.robot.g1 import RANGE_HIGH, RANGE_LOW

    rng = np.random.default_rng(0)
    qpos = np.concatenate(
        [rng.normal(size=(_SAMPLES, 7)), rng.uniform(RANGE_LOW, RANGE_HIGH, (_SAMPLES, len(RANGE_LOW)))], axis=1
    )
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    data = mujoco.MjData(model)
    poses = []
    for pose in qpos:
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        poses.append((data.xpos[1:].copy(), data.xquat[1:].copy()))
    return qpos, np.stack([pose[0] for pose in poses]), np.stack([pose[1] for pose in poses])


def _reference(path: Path) -> tuple[Any, Any, Any]:
    """The arrays of a reference file, bodies brought into our order."""
    import zipfile

    import numpy as np

    from scaling.robot.g1 import BODY_NAMES, NQ

    try:
        with np.load(path, allow_pickle=False) as data:
            qpos, position, quat = (np.asarray(data[name], float) for name in ("qpos", "body_pos", "body_quat"))
            names = [str(name) for name in data["body_names"]] if "body_names" in data.files else list(BODY_NAMES)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give an npz with qpos, body_pos, body_quat and body_names") from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a readable reference ({type(error).__name__}); give an npz with qpos, body_pos, body_quat "
            "and body_names"
        ) from None
    missing = sorted(set(BODY_NAMES) - set(names))
    shapes = (len(qpos), len(names), 3), (len(qpos), len(names), 4)
    if missing or qpos.shape[1:] != (NQ,) or (position.shape, quat.shape) != shapes or not len(qpos):
        raise InputError(
            f"{path}: {f'the bodies {missing} are missing' if missing else 'the arrays do not fit together'}; "
            f"give qpos [n, {NQ}], body_pos [n, b, 3] and body_quat [n, b, 4] of the 29-joint G1"
        )
    order = [names.index(name) for name in BODY_NAMES]
    return qpos, position[:, order], quat[:, order]
