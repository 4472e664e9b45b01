"""BVH: a tree of joints with offsets and channels, and a line of numbers a frame, to joint positions."""

from dataclasses import dataclass, field

import numpy as np

from scaling.errors import InputError
from scaling.motion.human.keypoints import Keypoints, from_joints
from scaling.robot.rotations import from_rotation_vector, quat_mul, rotate


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()


def read_bvh(text: str, where: str) -> Keypoints:
    """The key points of a file in its own unit; `InputError` for a damaged one."""
    try:
        head, motion = text.split("MOTION", 1)
        joints = _tree(head)
        lines = motion.strip().splitlines()
        frames = int(lines[0].split(":")[1])
        step = float(lines[1].split(":")[1])
        rows = np.loadtxt(lines[2:], ndmin=2)
    except (ValueError, IndexError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where}: the BVH file is cut short or damaged ({detail}); fetch it again.") from None
    width = sum(len(joint.channels) for joint in joints)
    if rows.shape != (frames, width) or not step > 0:
        raise InputError(
            f"{where}: {rows.shape[0]} frames of {rows.shape[1]} numbers every {step:g} s, but the BVH header says "
            f"{frames} of {width}; fetch the file again."
        )
    positions = _positions(joints, rows)
    return from_joints([joint.name for joint in joints], positions, 1.0 / step, "the file's own skeleton", where)


def _tree(head: str) -> list[_Joint]:
    """The joints of the header in order of their channels; ends are named after their joint."""
    joints: list[_Joint] = []
    above: list[int] = []
    words = head.split()
    index = 0
    while index < len(words):
        word = words[index]
        if word in ("ROOT", "JOINT"):
            joints.append(_Joint(words[index + 1], above[-1] if above else -1))
            index += 2
        elif word == "End":
            joints.append(_Joint(joints[above[-1]].name + ".end", above[-1]))
            index += 2
        elif word == "{":
            above.append(len(joints) - 1)
            index += 1
        elif word == "}":
            above.pop()
            index += 1
        elif word == "OFFSET":
            joints[-1].offset = np.array([float(text) for text in words[index + 1 : index + 4]])
            index += 4
        elif word == "CHANNELS":
            count = int(words[index + 1])
            joints[-1].channels = tuple(words[index + 2 : index + 2 + count])
            index += 2 + count
        else:
            index += 1
    if not joints:
        raise ValueError("no joints")
    return joints


def _positions(joints: list[_Joint], rows: np.ndarray) -> np.ndarray:
    """[T, j, 3] of every joint: turns in the order of its channels, offsets replaced by position channels."""
    places = np.zeros((len(rows), len(joints), 3))
    quats = np.zeros((len(rows), len(joints), 4))
    column = 0
    for index, joint in enumerate(joints):
        local = np.tile(joint.offset, (len(rows), 1))
        turn = np.tile([1.0, 0.0, 0.0, 0.0], (len(rows), 1))
        for channel in joint.channels:
            axis = "XYZ".index(channel[0])
            if channel.endswith("position"):
                local[:, axis] = rows[:, column]
            else:
                angle = np.deg2rad(rows[:, column])
                turn = quat_mul(turn, from_rotation_vector(angle[:, None] * np.eye(3)[axis]))
            column += 1
        if joint.parent < 0:
            places[:, index], quats[:, index] = local, turn
        else:
            places[:, index] = places[:, joint.parent] + rotate(quats[:, joint.parent], local)
            quats[:, index] = quat_mul(quats[:, joint.parent], turn)
    return places
