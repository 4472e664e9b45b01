"""The contract on paper: what a policy was trained to see and to command, refused by name where it differs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scaling import __version__
from scaling.contract.action import ACTION_LIMIT
from scaling.contract.normaliser import CLIP
from scaling.contract.observation import LOOK_AHEAD, STUDENT_TERMS, TERMS, observation_dim
from scaling.contract.schema import violation
from scaling.errors import InputError
from scaling.robot.figures import BODIES, CAPSULES, JOINTS, SITES
from scaling.robot.g1 import ACTION_SCALE, EFFORT_LIMIT, JOINT_NAMES, KD, KNEES_BENT_JOINTS, KP, RANGE_HIGH, RANGE_LOW
from scaling.robot.model import CONTROL_DT

SCHEMA = 1
MANIFEST, SEAL = "manifest.json", "seal"
ROBOT = "unitree_g1_29dof"
ACTION_BASE = "reference joints at the end of the control step"
_TOLERANCE = 1e-9  # relative; gains come from a product of floats that may differ in the last place between machines
_CHUNK = 1 << 20
_UNSEALED = "0" * 64  # stands where the seal will, while it is reckoned


@dataclass(frozen=True)
class TermEntry:
    """One observation term as trained; `noise` (half-width of the training noise) informs and binds nothing."""

    name: str
    dim: int
    unit: str
    frame: str
    noise: float


@dataclass(frozen=True)
class StateLeaf:
    """One array that the program carries from step to step; the first axis is the batch where `shape` begins with -1.

    All leaves start as zeros; `first` tells the program that an episode begins.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Manifest:
    """All that a runtime must agree with. SI units; joints in motor order; rates in Hz."""

    schema: int
    versions: dict[str, str]
    robot: str
    robot_hash: str
    control_hz: float
    terms: tuple[TermEntry, ...]
    look_ahead: tuple[int, ...]
    joints: tuple[str, ...]
    default_pose: tuple[float, ...]
    action_base: str
    action_scale: tuple[float, ...]
    action_limit: float
    joint_low: tuple[float, ...]
    joint_high: tuple[float, ...]
    kp: tuple[float, ...]
    kd: tuple[float, ...]
    effort: tuple[float, ...]
    normaliser: str
    normaliser_clip: float
    student: dict[str, Any]
    parameters: int
    state: tuple[StateLeaf, ...]
    row: dict[str, Any]
    files: dict[str, str]
    parameter_groups: dict[str, int] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, sealed by the hash of its other bytes."""
        text = json.dumps(asdict(self) | {SEAL: _UNSEALED}, indent=1, allow_nan=False) + "\n"
        data = text.encode()
        (folder / MANIFEST).write_bytes(data.replace(_UNSEALED.encode(), hashlib.sha256(data).hexdigest().encode()))


def robot_hash() -> str:
    """SHA-256 of the robot's figures: bodies, joints, collision primitives and sites."""
    figures = json.dumps([BODIES, JOINTS, CAPSULES, SITES], separators=(",", ":"))
    return hashlib.sha256(figures.encode()).hexdigest()


def present_contract() -> dict[str, Any]:
    """The fields of a manifest that this version of the code decides."""
    return {
        "schema": SCHEMA,
        "robot": ROBOT,
        "robot_hash": robot_hash(),
        "control_hz": round(1.0 / CONTROL_DT, 9),
        "terms": tuple(
            TermEntry(term.name, term.dim, term.unit, term.frame, term.noise)
            for term in (TERMS[name] for name in STUDENT_TERMS)
        ),
        "look_ahead": LOOK_AHEAD,
        "joints": JOINT_NAMES,
        "default_pose": _floats(KNEES_BENT_JOINTS),
        "action_base": ACTION_BASE,
        "action_scale": _floats(ACTION_SCALE),
        "action_limit": ACTION_LIMIT,
        "joint_low": _floats(RANGE_LOW),
        "joint_high": _floats(RANGE_HIGH),
        "kp": _floats(KP),
        "kd": _floats(KD),
        "effort": _floats(EFFORT_LIMIT),
        "normaliser_clip": CLIP,
    }


def make_manifest(
    *,
    normaliser: str,
    student: Mapping[str, Any],
    parameters: Mapping[str, int],
    state: Sequence[StateLeaf],
    row: Mapping[str, Any],
    files: Mapping[str, str],
    versions: Mapping[str, str],
) -> Manifest:
    """A manifest of this version's contract for one student; `parameters` are the exact counts by group."""
    return Manifest(
        **present_contract(),
        versions={"scaling": __version__, **versions},
        normaliser=normaliser,
        student=dict(student),
        parameters=sum(parameters.values()),
        parameter_groups=dict(parameters),
        state=tuple(state),
        row=dict(row),
        files=dict(files),
    )


def hash_files(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 (64 hex digits) of each named file in `folder`."""
    return {name: _sha256(folder / name) for name in names}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a policy folder, neither compared with the contract nor with the files yet.

    Raises InputError where there is none, where it is not whole, or where its schema is newer than this code.
    """
    path, raw = folder / MANIFEST, _read(folder / MANIFEST)
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise InputError(f"{path} names no schema: export the policy again")
    if schema > SCHEMA:
        raise InputError(f"{path} has schema {schema} and this version reads up to {SCHEMA}: update scaling")
    if (broken := violation(raw)) is not None:
        raise InputError(f"{path} is not a manifest of schema {SCHEMA}: {broken}; export the policy again")
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    known.pop(SEAL, None)
    known["terms"] = tuple(TermEntry(**term) for term in raw["terms"])
    known["state"] = tuple(StateLeaf(leaf["name"], tuple(leaf["shape"]), leaf["dtype"]) for leaf in raw["state"])
    return Manifest(**known)


def check_contract(manifest: Manifest, where: Path | str = MANIFEST) -> None:
    """Raises InputError naming the first thing in which a policy's contract is not this robot's and this code's."""
    now = present_contract()
    if manifest.robot != ROBOT:
        raise InputError(f"{where}: the policy is for robot {manifest.robot!r} and this is {ROBOT!r}; use its own")
    _check_names(manifest.joints, JOINT_NAMES, "joint", where)
    if manifest.robot_hash != now["robot_hash"]:
        raise InputError(f"{where}: the policy was trained on other figures of {ROBOT}; export it with this version")
    _check_names([term.name for term in manifest.terms], STUDENT_TERMS, "observation term", where)
    for term, ours in zip(manifest.terms, now["terms"], strict=True):
        for name in ("dim", "unit", "frame"):
            if getattr(term, name) != getattr(ours, name):
                raise InputError(
                    f"{where}: observation term {term.name!r} has {name} {getattr(term, name)!r} in the policy and "
                    f"{getattr(ours, name)!r} here; train it again"
                )
    for name in ("control_hz", "look_ahead", "action_base", "action_limit", "normaliser_clip"):
        if getattr(manifest, name) != now[name]:
            raise InputError(
                f"{where}: {name} is {getattr(manifest, name)!r} in the policy and {now[name]!r} here; train it again"
            )
    for name in ("kp", "kd", "effort", "action_scale", "joint_low", "joint_high", "default_pose"):
        _check_figures(name, getattr(manifest, name), now[name], where)
    if manifest.student.get("obs_dim") != observation_dim(STUDENT_TERMS):
        raise InputError(
            f"{where}: the student reads {manifest.student.get('obs_dim')} observations and its terms give "
            f"{observation_dim(STUDENT_TERMS)}; export it again"
        )


def check_files(manifest: Manifest, folder: Path) -> None:
    """Raises InputError naming the first file that is missing or is not as it was exported, the manifest among them."""
    data, seal = (folder / MANIFEST).read_bytes(), _read(folder / MANIFEST).get(SEAL)
    if seal is not None and hashlib.sha256(data.replace(seal.encode(), _UNSEALED.encode())).hexdigest() != seal:
        raise InputError(f"{folder / MANIFEST} is not the file that was exported (its seal differs): copy it again")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise InputError(f"{folder / MANIFEST} names the file {name!r} outside its folder: export the policy again")
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing: copy the whole policy folder again")
        if _sha256(folder / name) != expected:
            raise InputError(f"{folder / name} is not the file that was exported (SHA-256 differs): copy it again")


def _check_names(found: Sequence[str], ours: Sequence[str], what: str, where: Path | str) -> None:
    if tuple(found) == tuple(ours):
        return
    for name in found:
        if name not in ours:
            raise InputError(f"{where}: unknown {what} {name!r}; train the policy with this version")
    for name in ours:
        if name not in found:
            raise InputError(f"{where}: {what} {name!r} is missing; train the policy with this version")
    if len(found) != len(ours):
        twice = next(name for name in found if list(found).count(name) > 1)
        raise InputError(f"{where}: {what} {twice!r} stands twice; train the policy with this version")
    place = next(index for index, pair in enumerate(zip(found, ours, strict=True)) if pair[0] != pair[1])
    raise InputError(
        f"{where}: {what}s are re-ordered: number {place} is {found[place]!r} and must be {ours[place]!r}; "
        "train the policy with this version"
    )


def _check_figures(name: str, found: Sequence[float], ours: Sequence[float], where: Path | str) -> None:
    if len(found) != len(ours):
        raise InputError(f"{where}: {name} has {len(found)} values for {len(ours)} joints; export the policy again")
    for joint, theirs, mine in zip(JOINT_NAMES, found, ours, strict=True):
        if not (isinstance(theirs, int | float) and abs(theirs - mine) <= _TOLERANCE * max(abs(mine), 1.0)):
            raise InputError(
                f"{where}: {name} of {joint} is {theirs!r} in the policy and {mine!r} here; train it again"
            )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} does not exist: name a folder that `scaling export` wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): export the policy again") from None


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
