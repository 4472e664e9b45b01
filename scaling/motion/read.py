"""Motion files in: one file, a folder searched recursively, or a glob; what cannot be read is refused by name."""

import glob
import gzip
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.motion import csv36, naming, sniff
from scaling.motion.clip import Motion, clean
from scaling.motion.native import read_npz, write_npz
from scaling.motion.quality import problems_of, quality

__all__ = ["MotionSet", "inspect", "inspect_all", "motion_paths", "read_motion", "read_motions", "write_npz"]

# Beside motions, never motions.
_COMPANIONS = {".md", ".txt", ".tsv", ".json", ".yaml", ".yml", ".html", ".png", ".mp4", ".jpg", ".sha256", ".py"}
_COMPANION_NAMES = {"LICENSE", "LICENCE", "NOTICE", "README", "CITATION.cff"}


@dataclass(frozen=True)
class Read:
    """A clip with what was found on the way: format, quaternion convention in the file, and the evidence."""

    motion: Motion
    format: str
    quaternion: str
    joint_order: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class MotionSet:
    """Clips read from a path, in order of file name, and the files refused: path -> reason."""

    motions: list[Motion]
    refused: dict[str, str] = field(default_factory=dict)


def motion_paths(path: str | Path) -> list[Path]:
    """The candidate files of a PATH (file, folder searched recursively, or glob); none at all is an `InputError`."""
    text = str(path)
    root = Path(text)
    if root.is_file():
        return [root]
    if root.is_dir():
        found = [file for file in root.rglob("*") if file.is_file() and _candidate(file.relative_to(root))]
        if not found:
            raise InputError(f"{text}: the folder holds no motion files; readable are {sniff.READABLE}.")
        return sorted(found)
    if any(mark in text for mark in "*?["):
        matches = [Path(match) for match in glob.glob(text, recursive=True)]
        files = [match for match in matches if match.is_file() and _candidate(Path(match.name))]
        for folder in (match for match in matches if match.is_dir()):
            files += [file for file in folder.rglob("*") if file.is_file() and _candidate(file.relative_to(folder))]
        if not files:
            raise InputError(f"{text}: the pattern matches no motion files; check it, or give a folder.")
        return sorted(set(files))
    raise InputError(f"{text}: no such file or folder; give a motion file, a folder of them, or a glob.")


def _candidate(relative: Path) -> bool:
    """Whether a file found in a folder may be a motion (not hidden, not a manifest or a readme)."""
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and relative.suffix.lower() not in _COMPANIONS and relative.name not in _COMPANION_NAMES


def read_motion(path: str | Path, *, rate_hz: float | None = None, quaternion: str | None = None) -> Motion:
    """One clip, at its own rate, checked and with unit quaternions.

    `rate_hz` and `quaternion` ("xyzw" or "wxyz") override what name, manifest and data say. Raises `InputError`.
    """
    return _read(Path(path), rate_hz, quaternion).motion


def read_motions(path: str | Path, *, rate_hz: float | None = None, quaternion: str | None = None) -> MotionSet:
    """All clips under a PATH; a file that cannot be read is listed in `refused`, and none readable is an error."""
    motions: list[Motion] = []
    refused: dict[str, str] = {}
    for file in motion_paths(path):
        try:
            motions.append(read_motion(file, rate_hz=rate_hz, quaternion=quaternion))
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


def inspect(path: str | Path, *, rate_hz: float | None = None, quaternion: str | None = None) -> dict[str, Any]:
    """What one file holds and why it is believed; a refused file has `ok` False and a `reason`, the rest None."""
    keys = ("format", "rate_hz", "frames", "joints", "quaternion", "joint_order", "problems", "reason")
    found: dict[str, Any] = {"path": str(path), "ok": False, **dict.fromkeys(keys)}
    try:
        read = _read(Path(path), rate_hz, quaternion)
    except InputError as error:
        return {**found, "problems": [], "reason": str(error)}
    motion = read.motion
    metrics = quality(motion)
    return {
        **found,
        "ok": True,
        "format": read.format,
        "rate_hz": motion.rate_hz,
        "frames": motion.frames,
        "seconds": motion.seconds,
        "joints": motion.qpos.shape[1] - 7,
        "quaternion": read.quaternion,
        "joint_order": read.joint_order,
        "problems": [*motion.notes, *problems_of(metrics)],
        "evidence": list(read.evidence),
        "name": motion.name,
        "group": motion.group,
        "family": motion.family,
        "licence": motion.licence,
        "quality": metrics,
    }


def inspect_all(path: str | Path) -> list[dict[str, Any]]:
    """`inspect` of every candidate file under a PATH (file, folder or glob)."""
    return [inspect(file) for file in motion_paths(path)]


def _read(path: Path, rate_hz: float | None, quaternion: str | None) -> Read:
    """Open, recognise by content and parse one file."""
    if path.is_dir():
        raise InputError(f"{path}: a folder where one motion file is needed; name the file.")
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == sniff.GZIP_MAGIC
            stream.seek(0)
            data = stream.read()
        data = gzip.decompress(data) if zipped else data
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip data are cut short or damaged ({error}); fetch the file again.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions.") from None
    found = sniff.kind(data[:4096], path)
    if found == "npz":
        motion = read_npz(path)
        return Read(motion, "scaling npz", "wxyz", "mjcf", ("keys qpos and rate_hz",))
    if found != "csv":
        raise InputError(f"{path}: {found}, which is not readable yet; give {sniff.READABLE}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file though it has commas; give a CSV in UTF-8.") from None
    return _read_csv(text, path, rate_hz, quaternion)


def _read_csv(text: str, path: Path, rate_hz: float | None, quaternion: str | None) -> Read:
    """A 36-column CSV with rate and convention from the caller, the manifest, the name or the data."""
    rows = csv36.parse(text, str(path))
    rate = naming.rate_of(path) if rate_hz is None else naming.Rate(float(rate_hz), "rate given by the caller", True)
    name = naming.clip_name(path)
    notes = () if rate.certain else (rate.evidence,)
    meta: dict[str, Any] = {
        "name": name,
        "source": str(path),
        "licence": naming.licence(path),
        "group": naming.recording_group(name),
        "family": naming.family(name),
        "notes": notes,
    }
    clean(Motion(rows, rate.hz, **meta))  # NaN, too few rows and bad norms are told before the convention is asked
    if quaternion is None:
        quaternion, evidence = csv36.detect(rows, rate.hz, str(path))
    else:
        evidence = f"{quaternion}: given by the caller"
    motion = clean(Motion(csv36.reorder(rows, quaternion), rate.hz, **meta))
    return Read(motion, "csv36", quaternion, "mjcf", (rate.evidence, evidence))
