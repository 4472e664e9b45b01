"""Motion files in: one file, a folder searched recursively, or a glob; what cannot be read is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.motion import naming, native
from scaling.motion.clip import Motion, clean
from scaling.motion.curate import Limits, figures_of, score_of
from scaling.motion.importers.content import Content, open_content
from scaling.motion.importers.joint_order import ORDERS
from scaling.motion.importers.record import Given, Record, timing, unheeded
from scaling.motion.importers.registry import choose
from scaling.motion.native import write_npz
from scaling.motion.paths import motion_paths
from scaling.motion.quality import problems_of
from scaling.motion.spikes import SpikeConfig, mend

__all__ = [
    "Given",
    "MotionSet",
    "Read",
    "inspect",
    "inspect_all",
    "motion_paths",
    "read_file",
    "read_motion",
    "read_motions",
    "write_npz",
]


@dataclass(frozen=True)
class Read:
    """A clip with what was found on the way: format, conventions in the file, how many joints it has, the evidence.

    `retarget` has the figures of one that was made from a person's motion: key-point error, foot slide, penetration,
    limit hits.
    """

    motion: Motion
    format: str
    quaternion: str
    joint_order: str
    evidence: tuple[str, ...]
    joints: int
    retarget: Mapping[str, float | bool] | None = None


@dataclass(frozen=True)
class MotionSet:
    """Clips read from a path, in order of file name, and the files refused: path -> reason."""

    motions: list[Motion]
    refused: dict[str, str] = field(default_factory=dict)


def read_file(path: str | Path, given: Given | None = None) -> list[Read]:
    """Every clip of one file, at its own rate, checked and with unit quaternions; raises `InputError`."""
    path = Path(path)
    content = open_content(path)
    given = given or Given()
    if native.claims(content):
        motion = native.from_content(content)
        rate = timing(content, given, (motion.rate_hz, "rate_hz in the file"))
        remarks = (*rate.notes, *unheeded(given, "wxyz", ORDERS[0]))
        motion = replace(motion, notes=(*motion.notes, *remarks))
        seen = ("keys qpos and rate_hz", rate.evidence)
        return [Read(motion, native.NAME, "wxyz", ORDERS[0].name, seen, motion.qpos.shape[1] - 7)]
    importer = choose(content)
    return [_named(record, importer.name, content) for record in importer.read(content, given)]


def _named(record: Record, form: str, content: Content) -> Read:
    """A clip of a file with the name, group, family and licence that its place and name tell."""
    path = content.path
    # The files of one wbc_fsm clip all have the same names; their folder tells clips apart.
    name = path.parent.name if content.container == "wbc_fsm" else naming.clip_name(path)
    motion = Motion(
        record.qpos,
        record.rate_hz,
        f"{name}:{record.label}" if record.label else name,
        source=str(path),
        licence=naming.licence(path),
        group=naming.recording_group(record.label or name),
        family=naming.family(record.label or name),
        notes=record.notes,
    )
    return Read(
        clean(motion), form, record.quaternion, record.joint_order, record.evidence, record.joints, record.retarget
    )


def read_motion(
    path: str | Path, *, rate_hz: float | None = None, quaternion: str | None = None, joint_order: str | None = None
) -> Motion:
    """The one clip of a file; `InputError` where it cannot be read or holds several.

    `rate_hz`, `quaternion` ("xyzw" or "wxyz") and `joint_order` are for files that cannot tell: see `Given`.
    """
    found = read_file(path, Given(rate_hz, quaternion, joint_order))
    if len(found) > 1:
        raise InputError(f"{path}: it holds {len(found)} clips where one is needed; import it into a corpus.")
    return found[0].motion


def read_motions(
    path: str | Path,
    *,
    rate_hz: float | None = None,
    quaternion: str | None = None,
    joint_order: str | None = None,
    body_model: Path | None = None,
) -> MotionSet:
    """All clips under a PATH; a file that cannot be read is listed in `refused`, and none readable is an error."""
    motions: list[Motion] = []
    refused: dict[str, str] = {}
    given = Given(rate_hz, quaternion, joint_order, body_model)
    for file in motion_paths(path):
        try:
            motions += [read.motion for read in read_file(file, given)]
        except InputError as error:
            refused[str(file)] = str(error)
    if not motions:
        first = next(iter(refused.values()))
        if len(refused) == 1:
            raise InputError(first)
        raise InputError(f"{path}: none of {len(refused)} files is a readable G1 motion; the first: {first}")
    return MotionSet(_unique_names(motions), refused)


def _unique_names(motions: list[Motion]) -> list[Motion]:
    """Clips of one name from different folders get a number; their recording group stays shared."""
    counts: dict[str, int] = {}
    for motion in motions:
        counts[motion.name] = counts.get(motion.name, 0) + 1
    renamed, seen = [], dict.fromkeys(counts, 0)
    for motion in motions:
        if counts[motion.name] > 1:
            seen[motion.name] += 1
            motion = replace(motion, name=f"{motion.name}#{seen[motion.name]}")
        renamed.append(motion)
    return renamed


def inspect(
    path: str | Path,
    *,
    rate_hz: float | None = None,
    quaternion: str | None = None,
    joint_order: str | None = None,
    body_model: Path | None = None,
) -> dict[str, Any]:
    """What one file holds and why it is believed; a refused file has `ok` False and a `reason`, the rest None.

    Of a file with several clips, `clips` has one such report each, and the file's own is the first's with all frames.
    """
    keys = ("format", "rate_hz", "frames", "joints", "quaternion", "joint_order", "problems", "reason")
    found: dict[str, Any] = {"path": str(path), "ok": False, **dict.fromkeys(keys)}
    try:
        reads = read_file(path, Given(rate_hz, quaternion, joint_order, body_model))
    except InputError as error:
        return {**found, "problems": [], "reason": str(error)}
    told = [{**found, "ok": True, **_report(read)} for read in reads]
    if len(told) == 1:
        return told[0]
    problems = [f"{one['name']}: {problem}" for one in told for problem in one["problems"]]
    return {**told[0], "frames": sum(one["frames"] for one in told), "problems": problems, "clips": told}


def _report(read: Read) -> dict[str, Any]:
    motion = read.motion
    metrics = figures_of(motion)
    return {
        "format": read.format,
        "rate_hz": motion.rate_hz,
        "frames": motion.frames,
        "seconds": motion.seconds,
        "joints": read.joints,
        "quaternion": read.quaternion,
        "joint_order": read.joint_order,
        "problems": [*motion.notes, *problems_of(metrics), *_leaps(motion)],
        "evidence": list(read.evidence),
        "name": motion.name,
        "group": motion.group,
        "family": motion.family,
        "licence": motion.licence,
        "quality": metrics,
        "score": score_of(metrics, Limits()),
        "retarget": None if read.retarget is None else dict(read.retarget),
    }


def _leaps(motion: Motion) -> list[str]:
    """What an import would mend, or refuse, that no figure shows: a frame or two that no body can reach."""
    mended = mend(motion, SpikeConfig())
    words = [f"an import would mend it: {done}" for done in mended.done]
    if mended.left:
        words.append(f"an import would refuse it: {len(mended.left)} leaps, the first at {mended.left[0]:.2f} s")
    return words


def inspect_all(path: str | Path) -> list[dict[str, Any]]:
    """`inspect` of every candidate file under a PATH (file, folder or glob)."""
    return [inspect(file) for file in motion_paths(path)]
