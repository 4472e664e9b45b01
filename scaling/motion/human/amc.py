"""Acclaim's ASF skeleton and AMC motion to joint positions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.errors import InputError
from scaling.motion.human.keypoints import Keypoints, from_joints
from scaling.motion.importers.content import open_content
from scaling.motion.naming import clip_name
from scaling.robot.rotations import from_rotation_vector, quat_conj, quat_mul, rotate

RATE_HZ = 120.0  # of the CMU collection; the files do not hold it


@dataclass(frozen=True)
class _Bone:
    direction: np.ndarray
    length: float
    axis: np.ndarray
    dof: tuple[str, ...]


def read_amc(text: str, path: Path, rate_hz: float) -> Keypoints:
    """The key points of an AMC file with the ASF skeleton beside it."""
    where = str(path)
    skeleton = _skeleton_beside(path)
    try:
        bones, parents = _skeleton(str(open_content(skeleton).value))
        frames = _frames(text)
        positions = _positions(bones, parents, frames)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{where}: it or its skeleton {skeleton.name} is cut short or damaged ({error}); fetch both again."
        ) from None
    names = list(positions)
    stacked = np.stack([positions[name] for name in names], axis=1)
    return from_joints(names, stacked, rate_hz, f"the skeleton of {skeleton.name}", where)


def _skeleton_beside(path: Path) -> Path:
    """The ASF file of an AMC file, gzip or not: of its subject, else the only one there."""
    found = sorted(file for file in path.parent.iterdir() if file.name.lower().endswith((".asf", ".asf.gz")))
    own = [file for file in found if clip_name(path).startswith(clip_name(file))]
    if len(own or found) != 1:
        raise InputError(f"{path}: {len(own or found)} ASF skeletons beside it where one is needed; put its own there.")
    return (own or found)[0]


def _skeleton(text: str) -> tuple[dict[str, _Bone], dict[str, str]]:
    """Bones by name, and the parent of each."""
    bones = {}
    for block in re.findall(r"begin(.*?)end", text.split(":bonedata")[1].split(":hierarchy")[0], re.S):
        said = {line.split()[0]: line.split()[1:] for line in block.strip().splitlines() if line.split()}
        direction = np.array([float(word) for word in said["direction"]])
        axis = np.deg2rad([float(word) for word in said["axis"][:3]])
        bones[said["name"][0]] = _Bone(direction, float(said["length"][0]), axis, tuple(said.get("dof", ())))
    parents = {}
    for line in text.split(":hierarchy")[1].splitlines():
        above, *below = line.split() or [""]
        if above in ("begin", "end", "") or above.startswith(":"):
            continue
        parents.update(dict.fromkeys(below, above))
    return bones, parents


def _frames(text: str) -> dict[str, np.ndarray]:
    """Numbers [T, n] of each bone."""
    rows: dict[str, list[list[float]]] = {}
    for line in text.splitlines():
        name, *numbers = line.split() or [""]
        if numbers and not name.startswith(("#", ":")):
            rows.setdefault(name, []).append([float(number) for number in numbers])
    if len({len(lines) for lines in rows.values()}) != 1 or "root" not in rows:
        raise ValueError("bones differ in their number of frames")
    return {name: np.array(lines) for name, lines in rows.items()}


def _fixed(angles: np.ndarray) -> np.ndarray:
    """wxyz of turns (rad) [T, 3] about fixed x, then y, then z."""
    x, y, z = (from_rotation_vector(angles[:, axis, None] * np.eye(3)[axis]) for axis in range(3))
    return quat_mul(quat_mul(z, y), x)


def _positions(
    bones: Mapping[str, _Bone], parents: Mapping[str, str], frames: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """End of each bone [T, 3], and its start under "<name>.start"."""
    root = frames["root"]
    ends, turns = {"root": root[:, :3]}, {"root": _fixed(np.deg2rad(root[:, 3:6]))}
    waiting = dict(parents)
    while waiting:
        ready = [name for name, above in waiting.items() if above in ends]
        if not ready:
            raise ValueError(f"bones without a root: {', '.join(waiting)}")
        for name in ready:
            above, bone = waiting.pop(name), bones[name]
            angles = np.zeros((len(root), 3))
            for column, dof in enumerate(bone.dof):
                angles[:, "xyz".index(dof[1])] = np.deg2rad(frames[name][:, column])
            frame = np.tile(_fixed(bone.axis[None]), (len(root), 1))
            turns[name] = quat_mul(turns[above], quat_mul(quat_mul(frame, _fixed(angles)), quat_conj(frame)))
            ends[f"{name}.start"] = ends[above]
            ends[name] = ends[above] + rotate(turns[name], np.tile(bone.length * bone.direction, (len(root), 1)))
    return ends
