"""`scaling motions`: look at clips, make a corpus of them, cluster it."""

import argparse
import contextlib
import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.clips import add_given, given_of
from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add, family
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.motion.augment import AugmentConfig
    from scaling.motion.curate import CurateConfig, Verdict
    from scaling.motion.holdout import UnseenConfig

_MANY = 8  # files from which a bar is worth showing
_SET = "override a threshold (limits.foot_slide_m_s=.8, spikes.root_speed=6, duplicates.same_rad=.01)"
_NAMED = 32  # clusters of which the words tell the names; the JSON has all


def add_verbs(verbs: Verbs) -> None:
    """`motions inspect`, `import`, `cluster`, `store`."""
    rooms = family(verbs, "motions", "clips, corpora and their clusters")
    inspect = add(rooms, "inspect", _inspect, "say what motion files hold, and why that is believed")
    import_ = add(rooms, "import", _import, "make a corpus at 50 Hz: curated, cut into segments, split by recording")
    for verb in (inspect, import_):
        verb.add_argument("paths", nargs="+", metavar="PATH", help="file, folder (searched recursively) or glob")
        add_given(verb)
    import_.add_argument("--uncurated", action="store_true", help="take every readable clip as it is")
    import_.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help=_SET)
    import_.add_argument("--out", required=True, metavar="CORPUS", help="folder of the corpus")
    import_.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave these files out")
    import_.add_argument("--min-seconds", type=float, default=4.0, metavar="S", help="shortest segment (default 4)")
    import_.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
    unseen = import_.add_argument_group("families that nobody sees (split test_family)")
    unseen.add_argument("--test-family", action="append", default=[], metavar="NAME", help="family or recording")
    unseen.add_argument("--test-clusters", type=int, default=0, metavar="N", help="so many of 16 clusters")
    copies = import_.add_argument_group("copies of training segments, counted apart")
    copies.add_argument("--speeds", type=float, nargs="+", default=[1.0], metavar="X", help="such as .9 .95 1 1.05 1.1")
    copies.add_argument("--mirror", action="store_true", help="left and right exchanged")
    copies.add_argument("--headings", type=int, default=0, metavar="N", help="so many times turned")
    store = add(rooms, "store", _store, "the corpus in shards with an index: what it amounts to, verified")
    store.add_argument("corpus", metavar="CORPUS")
    store.add_argument(
        "--clusters", metavar="FILE", help="write these labels (JSON of `motions cluster`) into the index"
    )
    cluster = add(rooms, "cluster", _cluster, "K-means of a corpus by what its segments do")
    cluster.add_argument("corpus", metavar="CORPUS")
    cluster.add_argument("--clusters", type=int, nargs="+", required=True, metavar="K", help="one or several")
    cluster.add_argument("--embedding", choices=("spectral", "periodic"), default="spectral", help="what segments do")
    cluster.add_argument("--seed", type=int, default=0)


def _files(paths: Sequence[str], exclude: Sequence[str] = ()) -> list[Path]:
    from scaling.motion.corpus import is_corpus
    from scaling.motion.read import motion_paths

    for path in paths:
        if is_corpus(path):
            raise InputError(f"{path}: a corpus already; give it to `scaling quickstart --motions`, or clips here")
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


# Quality figure -> its heading and what it is multiplied by to be read.
_FIGURES = {
    "float_median_m": ("float cm", 100.0),
    "penetration_max_m": ("sink cm", 100.0),
    "foot_slide_m_s": ("slide m/s", 1.0),
    "joint_speed_worst": ("speed/limit", 1.0),
    "limit_share": ("over limits %", 100.0),
    "root_speed_max_m_s": ("root m/s", 1.0),
    "root_jerk_p95_m_s3": ("jerk m/s3", 1.0),
    "self_collision_share": ("self-touch %", 100.0),
    "frozen_joints": ("frozen", 1.0),
}


def _inspect(arguments: argparse.Namespace) -> Outcome:
    from scaling.motion.read import inspect

    told = vars(given_of(arguments))
    found = [inspect(file, **told) for file in _watched(_files(arguments.paths), "inspecting")]
    rows = [
        (
            one["path"],
            one["ok"],
            one["format"],
            one["rate_hz"],
            one["frames"],
            one["joints"],
            one["joint_order"],
            one["quaternion"],
            "; ".join(one["problems"]) if one["ok"] else one["reason"].removeprefix(f"{one['path']}: "),
        )
        for one in found
    ]
    header = ("file", "ok", "format", "Hz", "frames", "joints", "order", "quaternion", "remarks")
    words = [Grid(header, rows)]
    clips = [clip for one in found if one["ok"] for clip in one.get("clips", [one])]
    if not clips:
        return Outcome(found, words, code=2, complaint=found[0]["reason"])
    figures = [
        (clip["name"], clip["score"], *(factor * clip["quality"][key] for key, (_, factor) in _FIGURES.items()))
        for clip in clips
    ]
    words.append(Grid(("clip", "score", *(heading for heading, _ in _FIGURES.values())), figures, "quality"))
    words.append(
        Grid(("clip", "evidence"), [(clip["name"], line) for clip in clips for line in clip["evidence"]], "why")
    )
    return Outcome(found, words)


_SHOWN = ("corpus", "hash", "clips", "segments", "recordings", "frames", "augmented_frames", "hours")


def _asked(arguments: argparse.Namespace) -> "tuple[UnseenConfig, AugmentConfig]":
    """The families to hold out and the copies to make."""
    from scaling.motion.augment import AugmentConfig
    from scaling.motion.holdout import UnseenConfig

    try:
        return (
            UnseenConfig(tuple(arguments.test_family), arguments.test_clusters),
            AugmentConfig(tuple(arguments.speeds), arguments.mirror, arguments.headings, seed=arguments.seed),
        )
    except ValueError as error:
        raise InputError(f"{error}; change --test-clusters, --speeds or --headings") from None


def _thresholds(settings: list[str]) -> "CurateConfig":
    """The thresholds of curation, some of them overridden."""
    from scaling.cli.pipeline import overrides
    from scaling.motion.curate import CurateConfig
    from scaling.record.override import override

    config = CurateConfig()
    for path, value in overrides(settings).items():
        config = override(config, path, value)
    return config


def _import(arguments: argparse.Namespace) -> Outcome:
    from scaling.motion.augment import augmented, settings
    from scaling.motion.corpus import CorpusConfig, build_corpus
    from scaling.motion.gather import GatherConfig, gather
    from scaling.motion.holdout import hold_out
    from scaling.motion.segment import SPLITS, SegmentConfig
    from scaling.motion.store.export import STORE, Provenance, write_corpus
    from scaling.record.files import write_json
    from scaling.record.progress import track

    try:
        config = CorpusConfig(SegmentConfig(min_seconds=arguments.min_seconds), seed=arguments.seed)
    except ValueError as error:
        raise InputError(f"{error}; change --min-seconds") from None
    folder = Path(arguments.out)
    unseen, copies = _asked(arguments)
    files = _watched(_files(arguments.paths, arguments.exclude), "reading")
    judged = GatherConfig(_thresholds(arguments.set), not arguments.uncurated)
    gathered = gather(files, given_of(arguments), judged, folder)
    whole = build_corpus(list(gathered.clips.values()), config, folder)
    short = {where: motion.name for where, motion in gathered.clips.items() if motion.name in whole.refused}
    dealt = hold_out(whole, unseen, config)
    strays = {name: reason for name, reason in dealt.refused.items() if name not in whole.refused}
    refused = gathered.refused | {
        where: f"{where}: {whole.refused[name].removeprefix(f'{where}: ')}" for where, name in short.items()
    }
    refused |= strays
    scores = {where: verdict.score for where, verdict in gathered.verdicts.items()}
    takes = {motion.name: Provenance(where, scores.get(where)) for where, motion in gathered.clips.items()}
    with contextlib.closing(track(augmented(dealt, copies), "writing segments")) as segments:
        told = settings(dealt, copies) | judged.told()
        corpus = write_corpus(folder, segments, refused, told, takes, duplicates=gathered.duplicates)
    verdicts = {
        where: {"score": one.score, "figures": one.figures, "done": one.done, "reasons": one.reasons}
        | ({"retarget": gathered.retargets[where]} if where in gathered.retargets else {})
        for where, one in gathered.verdicts.items()
    }
    write_json(folder / "quality.json", verdicts)
    splits = {
        split: {"segments": len(corpus.indices(split)), "hours": corpus.hours(corpus.indices(split))}
        for split in SPLITS
    }
    split_of = dict(zip(corpus.takes, corpus.splits, strict=True))
    came_in = [
        {
            "clip": motion.name,
            "file": where,
            "format": gathered.formats[where],
            "rate_hz": motion.rate_hz,
            "seconds": motion.seconds,
            "recording": motion.group,
            "split": split_of[motion.name],
            "score": scores.get(where),
            "notes": [note for note in motion.notes if note not in _done(gathered.verdicts.get(where))],
        }
        for where, motion in gathered.clips.items()
        if motion.name in split_of
    ]
    mended = {where: list(one.done) for where, one in gathered.verdicts.items() if one.done}
    report = {
        "clips": len(set(corpus.takes)),
        "segments": len(corpus),
        "frames": corpus.frames(),
        "augmented_frames": corpus.augmented_frames(),
        "hours": corpus.hours(),
        "recordings": len(set(corpus.groups)),
        "splits": splits,
        "came_in": came_in,
        "refused": refused,
        "duplicates": gathered.duplicates,
        "mended": mended,
        "corpus": str(folder),
        "store": str(folder / STORE),
        "hash": corpus.content_hash,
    }
    return Outcome(report, _told(report))


def _done(verdict: "Verdict | None") -> tuple[str, ...]:
    return () if verdict is None else verdict.done


def _told(report: dict[str, Any]) -> list[str | Grid]:
    """What an import did, in words."""
    words: list[str | Grid] = [pairs({name: report[name] for name in _SHOWN})]
    rows: list[tuple[Any, ...]] = [(name, part["segments"], part["hours"]) for name, part in report["splits"].items()]
    words.append(Grid(("split", "segments", "hours"), [row for row in rows if row[1]]))
    by_format: dict[str, list[dict[str, Any]]] = {}
    for clip in report["came_in"]:
        by_format.setdefault(clip["format"], []).append(clip)
    rows = [(name, len(clips), _rates(clips), _minutes(clips)) for name, clips in sorted(by_format.items())]
    words.append(Grid(("came in as", "clips", "Hz", "minutes"), rows))
    rows = [(clip["clip"], "; ".join(clip["notes"])) for clip in report["came_in"] if clip["notes"]]
    if rows:
        words.append(Grid(("clip", "remarks"), rows))
    if report["refused"]:
        rows = [(path, why.removeprefix(f"{path}: ")) for path, why in report["refused"].items()]
        words.append(Grid(("refused", "why"), rows))
    if report["duplicates"]:
        words.append(
            Grid(("kept", "left out as the same motion"), [(kept, copies) for kept, *copies in report["duplicates"]])
        )
    if report["mended"]:
        words.append(Grid(("mended", "how"), [(path, "; ".join(done)) for path, done in report["mended"].items()]))
    return words


def _rates(clips: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{rate:.4g}" for rate in sorted({clip["rate_hz"] for clip in clips}))


def _minutes(clips: Sequence[dict[str, Any]]) -> float:
    return sum(float(clip["seconds"]) for clip in clips) / 60.0


def _cluster(arguments: argparse.Namespace) -> Outcome:
    from scaling.motion.cluster import kmeans
    from scaling.motion.corpus import Corpus
    from scaling.motion.describe import Yardstick, cluster_names
    from scaling.motion.embed import EmbedConfig, embed_corpus

    corpus = Corpus.load(arguments.corpus)
    features = embed_corpus(corpus, EmbedConfig(arguments.embedding))
    train = corpus.indices("train")
    diversity = vars(Yardstick(features[train]).measure(features[train]))
    reports: list[dict[str, Any]] = []
    words: list[str | Grid] = []
    for k in arguments.clusters:
        found = kmeans(features, k, arguments.seed, fit=train)
        names = cluster_names(corpus, features, found)
        labels = {name: int(label) for name, label in zip(corpus.names, found.labels, strict=True)}
        shared = {"embedding": arguments.embedding, "seed": arguments.seed, "diversity": diversity}
        figures = found.report()
        reports.append(figures | shared | {"names": names, "labels": labels})
        words.append(pairs({name: value for name, value in figures.items() if name != "sizes"} | diversity))
        rows = list(zip(found.sizes.tolist(), names, strict=True))
        words.append(Grid(("segments", f"the {min(k, _NAMED)} largest clusters"), rows[:_NAMED]))
    return Outcome(reports[0] if len(reports) == 1 else reports, words)


def _store(arguments: argparse.Namespace) -> Outcome:
    from scaling.motion.store.export import read_labels, store_of
    from scaling.motion.store.store import set_clusters, verify_store

    store = store_of(arguments.corpus)
    if arguments.clusters:
        store = set_clusters(store, read_labels(arguments.clusters))
    verify_store(store)
    report = {"store": str(store.folder), **store.report()}
    parts = {**report["splits"], **report["licences"]}
    header = ("clips", "unique_frames", "augmented_frames", "unique_hours", "augmented_hours")
    rows = [(name, *(part[column] for column in header)) for name, part in parts.items()]
    words = [pairs({name: value for name, value in report.items() if not isinstance(value, dict)})]
    return Outcome(report, [*words, Grid(("of which", *(name.replace("_", " ") for name in header)), rows)])
