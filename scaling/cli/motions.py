"""`scaling motions`: look at clips, make a corpus of them, cluster it."""

import argparse
import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add, family
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.motion.clip import Motion

_MANY = 8  # files from which a bar is worth showing
_SAME = 1e-5  # m and rad: what writing a clip as text may cost it


def add_verbs(verbs: Verbs) -> None:
    """`motions inspect`, `import`, `cluster`."""
    rooms = family(verbs, "motions", "clips, corpora and their clusters")
    inspect = add(rooms, "inspect", _inspect, "say what motion files hold, and why that is believed")
    import_ = add(rooms, "import", _import, "make a corpus at 50 Hz: cut into segments, split by recording")
    for verb in (inspect, import_):
        verb.add_argument("paths", nargs="+", metavar="PATH", help="file, folder (searched recursively) or glob")
        verb.add_argument("--rate", type=float, metavar="HZ", help="of files that do not hold theirs")
        verb.add_argument("--quaternion", choices=("xyzw", "wxyz"), help="of CSV files that cannot tell")
    import_.add_argument("--out", required=True, metavar="CORPUS", help="folder of the corpus")
    import_.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave these files out")
    import_.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
    cluster = add(rooms, "cluster", _cluster, "K-means of a corpus by what its segments do")
    cluster.add_argument("corpus", metavar="CORPUS")
    cluster.add_argument("--clusters", type=int, required=True, metavar="K")
    cluster.add_argument("--seed", type=int, default=0)


def _files(paths: Sequence[str], exclude: Sequence[str] = ()) -> list[Path]:
    from scaling.motion.read import motion_paths

    found = dict.fromkeys(file for path in paths for file in motion_paths(path))
    kept = [file for file in found if not any(_matches(file, pattern) for pattern in exclude)]
    if not kept:
        raise InputError(f"{', '.join(paths)}: --exclude leaves no file of {len(found)}; loosen it")
    return kept


def _matches(file: Path, pattern: str) -> bool:
    return fnmatch.fnmatch(str(file), pattern) or fnmatch.fnmatch(file.name, pattern)


def _watched(files: list[Path], title: str) -> Any:
    """The files, under a bar where there are many."""
    from scaling.record.progress import track

    return track(files, title) if len(files) > _MANY else files


def _inspect(arguments: argparse.Namespace) -> Outcome:
    from scaling.motion.read import inspect

    told = {"rate_hz": arguments.rate, "quaternion": arguments.quaternion}
    found = [inspect(file, **told) for file in _watched(_files(arguments.paths), "inspecting")]
    rows = [
        (
            one["path"],
            one["ok"],
            one["format"],
            one["rate_hz"],
            one["frames"],
            one["quaternion"],
            "; ".join(one["problems"]) if one["ok"] else one["reason"].removeprefix(f"{one['path']}: "),
        )
        for one in found
    ]
    words = [Grid(("file", "ok", "format", "Hz", "frames", "quaternion", "remarks"), rows)]
    if any(one["ok"] for one in found):
        return Outcome(found, words)
    return Outcome(found, words, code=2, complaint=found[0]["reason"])


def _import(arguments: argparse.Namespace) -> Outcome:
    from scaling.motion.corpus import CorpusConfig, build_corpus
    from scaling.motion.read import read_motion
    from scaling.motion.segment import SPLITS

    refused: dict[str, str] = {}
    read: list[tuple[str, Motion]] = []
    for file in _watched(_files(arguments.paths, arguments.exclude), "reading"):
        try:
            motion = read_motion(file, rate_hz=arguments.rate, quaternion=arguments.quaternion)
            read.append((str(file), motion))
        except InputError as error:
            refused[str(file)] = str(error)
    if not read:
        reason = next(iter(refused.values()))
        raise InputError(
            reason if len(refused) == 1 else f"none of {len(refused)} files is readable; the first: {reason}"
        )
    duplicates = _duplicates(read)
    copies = {path for group in duplicates for path in group[1:]}
    kept = _named([(path, motion) for path, motion in read if path not in copies])
    corpus = build_corpus(list(kept.values()), CorpusConfig(seed=arguments.seed))
    refused |= {path: corpus.refused[motion.name] for path, motion in kept.items() if motion.name in corpus.refused}
    folder = corpus.save(arguments.out)
    splits = {
        split: {"segments": len(corpus.indices(split)), "hours": corpus.hours(corpus.indices(split))}
        for split in SPLITS
    }
    report = {
        "clips": len(set(corpus.takes)),
        "segments": len(corpus),
        "frames": corpus.frames(),
        "hours": corpus.hours(),
        "recordings": len(set(corpus.groups)),
        "splits": splits,
        "refused": refused,
        "duplicates": duplicates,
        "corpus": str(folder),
        "hash": corpus.content_hash,
    }
    figures = {name: report[name] for name in ("corpus", "hash", "clips", "segments", "recordings", "frames", "hours")}
    words: list[str | Grid] = [pairs(figures | {name: split["segments"] for name, split in splits.items()})]
    if refused:
        words.append(Grid(("refused", "why"), [(path, why.removeprefix(f"{path}: ")) for path, why in refused.items()]))
    if duplicates:
        words.append(Grid(("kept", "left out as the same motion"), [(one[0], one[1:]) for one in duplicates]))
    return Outcome(report, words)


def _duplicates(read: Sequence[tuple[str, "Motion"]]) -> list[list[str]]:
    """Groups of files that hold the same frames, whatever their format, digits or name."""
    import numpy as np

    groups: dict[int, list[tuple[Motion, list[str]]]] = {}
    for path, motion in read:
        alike = groups.setdefault(motion.frames, [])
        same = (paths for first, paths in alike if np.abs(first.qpos - motion.qpos).max() < _SAME)
        found = next(same, None)
        if found is None:
            alike.append((motion, [path]))
        else:
            found.append(path)
    return [paths for alike in groups.values() for _, paths in alike if len(paths) > 1]


def _named(read: Sequence[tuple[str, "Motion"]]) -> dict[str, "Motion"]:
    """Clips by path; those of one name get a number, and keep their recording group."""
    names = [motion.name for _, motion in read]
    seen: dict[str, int] = {}
    found = {}
    for path, motion in read:
        name = motion.name
        if names.count(name) > 1:
            seen[name] = seen.get(name, 0) + 1
            motion = replace(motion, name=f"{name}#{seen[name]}")
        found[path] = motion
    return found


def _cluster(arguments: argparse.Namespace) -> Outcome:
    from scaling.motion.cluster import kmeans
    from scaling.motion.corpus import Corpus
    from scaling.motion.embed import embed_corpus

    corpus = Corpus.load(arguments.corpus)
    found = kmeans(embed_corpus(corpus), arguments.clusters, arguments.seed, fit=corpus.indices("train"))
    report = found.report()
    labels = {name: int(label) for name, label in zip(corpus.names, found.labels, strict=True)}
    return Outcome({**report, "seed": arguments.seed, "labels": labels}, [pairs(report)])
