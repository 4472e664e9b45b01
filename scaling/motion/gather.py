"""Files to clips for a corpus: read, curated, copies left out, and what shares motion put in one recording group."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.motion.curate import CurateConfig, Verdict, curate
from scaling.motion.duplicates import DuplicateConfig, find_matches, groups_of
from scaling.motion.read import Given, read_file
from scaling.motion.spool import Spool
from scaling.robot.g1 import NQ

_REMEDY = "repair the clip, leave it out, or take all clips as they are (--uncurated)"
_AS_LONG = 0.95  # of the longest copy: so long are its equals in other formats


@dataclass(frozen=True)
class GatherConfig:
    """How files become clips; where they are not `judged`, every readable clip is taken as it is, but for copies."""

    curate: CurateConfig = field(default_factory=CurateConfig)
    judged: bool = True

    def told(self) -> dict[str, Any]:
        """The thresholds in force, for the corpus to keep."""
        return {"curation": {"judged": self.judged, **asdict(self.curate)}}


@dataclass(frozen=True)
class Gathered:
    """Clips by where they came from, with unique names; what was refused and why; and copies, the kept one first.

    `where` is a path, and of a file with several clips "path:clip". `verdicts` are there for every curated clip, their
    motions without frames; `formats` of every clip that was read.
    """

    clips: dict[str, Motion]
    refused: dict[str, str]
    duplicates: list[list[str]]
    verdicts: dict[str, Verdict]
    formats: dict[str, str]
    retargets: dict[str, dict[str, float | bool]]
    """How well those follow the person whose motion they are, that were made from one."""


def gather(
    files: Iterable[Path],
    given: Given | None = None,
    config: GatherConfig | None = None,
    scratch: str | Path | None = None,
) -> Gathered:
    """Read every file, curate every clip, keep one of each set of copies; raises `InputError` if none is readable.

    One file at a time is in memory: frames wait in a file without a name in `scratch`, which the clips map.
    """
    config = config or GatherConfig()
    spool = Spool(np.float64, scratch)
    refused: dict[str, str] = {}
    read: dict[str, Motion] = {}
    verdicts: dict[str, Verdict] = {}
    formats: dict[str, str] = {}
    retargets: dict[str, dict[str, float | bool]] = {}
    for file in files:
        try:
            found = read_file(file, given)
        except InputError as error:
            refused[str(file)] = str(error)
            continue
        for one in found:
            where = str(file) if len(found) == 1 else f"{file}:{one.motion.name}"
            motion, formats[where] = one.motion, one.format
            if one.retarget is not None:
                retargets[where] = dict(one.retarget)
            if config.judged:
                verdict = curate(motion, config.curate)
                motion = verdict.motion
                verdicts[where] = replace(verdict, motion=_emptied(motion))
                if verdict.reasons:
                    refused[where] = f"{where}: {'; '.join(verdict.reasons)}; {_REMEDY}."
                    continue
            spool.add(motion.qpos)
            read[where] = _emptied(motion)
    if not read:
        reason = next(iter(refused.values()))
        raise InputError(
            reason if len(refused) == 1 else f"none of {len(refused)} files can be taken; the first: {reason}"
        )
    frames = zip(read.items(), spool.clips(), strict=True)
    read = {where: replace(motion, qpos=qpos) for (where, motion), qpos in frames}
    kept, duplicates = _without_copies(read, verdicts, config.curate.duplicates)
    return Gathered(_named(kept), refused, duplicates, verdicts, formats, retargets)


def _emptied(motion: Motion) -> Motion:
    """All that is known of a clip but its frames."""
    return replace(motion, qpos=np.empty((0, NQ)))


def _without_copies(
    read: dict[str, Motion], verdicts: dict[str, Verdict], config: DuplicateConfig
) -> tuple[dict[str, Motion], list[list[str]]]:
    """The clips without copies, those that share motion in one recording group, and the copies' groups."""
    places, motions = list(read), list(read.values())
    matches = find_matches(motions, config)

    def worth(index: int) -> tuple[float, bool, int]:
        """The better copy first: moving in all its joints, with a known licence, named first."""
        verdict = verdicts.get(places[index])
        frozen = verdict.figures["frozen_joints"] if verdict else 0.0
        return frozen, motions[index].licence == "unknown", index

    duplicates = []
    left_out: set[int] = set()
    for copies in groups_of(len(motions), [match for match in matches if match.copy]):
        longest = max(motions[index].seconds for index in copies)
        best = min((index for index in copies if motions[index].seconds >= _AS_LONG * longest), key=worth)
        rest = [index for index in copies if index != best]
        left_out |= set(rest)
        duplicates.append([places[best], *(places[index] for index in rest)])
    kept = {places[index]: motion for index, motion in enumerate(motions) if index not in left_out}
    for related in groups_of(len(motions), matches):
        shown = [places[index] for index in related if index not in left_out]
        first, *others = dict.fromkeys(kept[where].group for where in shown)
        # Whoever was recorded with one of them comes along.
        for where, motion in kept.items():
            if motion.group in others:
                kept[where] = replace(motion, group=first)
    return kept, duplicates


def _named(read: dict[str, Motion]) -> dict[str, Motion]:
    """Clips of one name get a number, and keep their recording group."""
    names = Counter(motion.name for motion in read.values())
    seen: dict[str, int] = {}
    found = {}
    for where, motion in read.items():
        if names[motion.name] > 1:
            seen[motion.name] = seen.get(motion.name, 0) + 1
            motion = replace(motion, name=f"{motion.name}#{seen[motion.name]}")
        found[where] = motion
    return found
