"""Human motion (BVH, ASF/AMC, SMPL npz): read to key points and retargeted to the G1, with how well that went."""

from collections.abc import Callable

import numpy as np

from scaling.errors import InputError
from scaling.motion.human import arrays
from scaling.motion.human.amc import RATE_HZ, read_amc
from scaling.motion.human.bvh import read_bvh
from scaling.motion.human.keypoints import Keypoints
from scaling.motion.human.smpl import read_smpl
from scaling.motion.importers.content import Content
from scaling.motion.importers.record import Given, Record, number, table, timing
from scaling.motion.naming import Rate

_SMPL_RATES = ("mocap_framerate", "mocap_frame_rate", "fps")


def _starts(content: Content, *heads: str) -> bool:
    return content.container == "text" and content.value[:4096].lstrip("\ufeff \t\r\n").startswith(heads)


def claims_bvh(content: Content) -> bool:
    """Text that begins with a hierarchy."""
    return _starts(content, "HIERARCHY")


def claims_amc(content: Content) -> bool:
    """The motion of an Acclaim pair."""
    return _starts(content, "#!OML", ":FULLY-SPECIFIED")


def claims_asf(content: Content) -> bool:
    """The skeleton of an Acclaim pair."""
    return _starts(content, ":version", "# AST/ASF")


def claims_smpl(content: Content) -> bool:
    """Poses and translations of a body model."""
    return content.keys >= {"poses", "trans"}


def claims_smplx_array(content: Content) -> bool:
    """A bare array of SMPL-X rows."""
    return _width(content) == arrays.SMPLX_WIDTH


def claims_headed_array(content: Content) -> bool:
    """A bare array of rows seen from the root's heading."""
    return _width(content) == arrays.HEADED_WIDTH


def _width(content: Content) -> int | None:
    value = content.value if content.container == "npy" else None
    return value.shape[1] if isinstance(value, np.ndarray) and value.ndim == 2 else None


def read_skeleton(content: Content, given: Given) -> list[Record]:
    """Never returns: a skeleton does not move."""
    raise InputError(f"{content}: a human skeleton in ASF, whose motion is in the AMC files beside it; give those.")


def _reader(people_of: Callable[[Content, Given], tuple[Keypoints, Rate, tuple[str, ...]]]) -> Callable:
    """An importer that retargets what `people_of` finds: key points, their rate, and notes."""

    def read(content: Content, given: Given) -> list[Record]:
        from scaling.motion.human.retarget import retarget

        where = str(content)
        people, rate, notes = people_of(content, given)
        found = retarget(people, where)
        seen = (rate.evidence, f"retargeted from {people.skeleton}: {found}")
        notes = (*rate.notes, *notes, f"retargeted from human motion on {people.skeleton}: {found}")
        return [Record(found.qpos, found.rate_hz, "none", "retargeted", seen, notes, retarget=found.figures())]

    return read


def _bvh(content: Content, given: Given) -> tuple[Keypoints, Rate, tuple[str, ...]]:
    people = read_bvh(content.value, str(content))
    return people, timing(content, given, (people.rate_hz, f"Frame Time says {people.rate_hz:.4g} Hz")), ()


def _amc(content: Content, given: Given) -> tuple[Keypoints, Rate, tuple[str, ...]]:
    assumed = Rate(RATE_HZ, f"AMC does not hold its rate; {RATE_HZ:g} Hz was assumed", False)
    rate = timing(content, given, documented=assumed)
    return read_amc(content.value, content.path, rate.hz), rate, ()


def _smpl(content: Content, given: Given) -> tuple[Keypoints, Rate, tuple[str, ...]]:
    where = str(content)
    name = next((key for key in _SMPL_RATES if key in content.keys), None)
    if given.rate_hz is None and name is None:
        raise InputError(f"{where}: human motion in SMPL without a frame rate; give it with --rate.")
    own = None if name is None else (number(content.value[name], name, where), f"{name} in the file")
    rate = timing(content, given, own)
    return read_smpl(content.value, rate.hz, where, given.body_model), rate, ()


def _array(content: Content, given: Given) -> tuple[Keypoints, Rate, tuple[str, ...]]:
    rows, where = table(content.value, "the array", None, str(content)), str(content)
    assumed = Rate(arrays.RATE_HZ, f"the file does not hold its rate; {arrays.RATE_HZ:g} Hz was assumed", False)
    rate = timing(content, given, documented=assumed)
    if rows.shape[1] == arrays.SMPLX_WIDTH:
        people = read_smpl(arrays.smplx_columns(rows), rate.hz, where, given.body_model)
    else:
        people = arrays.read_headed(rows, rate.hz, where)
    return people, rate, (arrays.UNPROVED,)


read_bvh_file = _reader(_bvh)
read_amc_file = _reader(_amc)
read_smpl_file = _reader(_smpl)
read_array_file = _reader(_array)
