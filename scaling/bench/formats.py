"""Every file of a folder of formats imports or is refused as its documentation says, and pairs agree; and the pool.

The folder is not the repository's: where it is absent these rows are left out, and said to be.
"""

import csv
import hashlib
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaling.bench.row import Row
from scaling.bench.store import PLAN
from scaling.motion.clip import Motion, resample
from scaling.motion.read import inspect, motion_paths, read_motion
from scaling.record.progress import Progress, say, track
from scaling.record.timing import medians
from scaling.robot.rotations import angle_between

_POOL_CLUSTERS, _POOL_S = 16, 180.0
_HELD_RAD = 4e-3  # the largest turn between two frames that was seen to be held is 3.2e-3
_PART, _HOST_CORES = 20_000_000, 64
_LAFAN, _IMPORT = "csv36_xyzw_30hz", 200_000.0


class Expected(NamedTuple):
    """What a group's files are: format, rates (Hz), joints in the file, quaternion and joint order in the file."""

    format: str
    rates: set[float]
    joints: int = 29
    quaternion: str = "xyzw"
    order: str = "mjcf"


NO_WRISTS = "mjcf without wrists"
GROUPS = {
    "csv36_xyzw_30hz": Expected("csv36", {30.0}),
    "csv36_xyzw_60hz": Expected("csv36", {60.0}),
    "csv36_wxyz_30hz": Expected("csv36", {30.0}, quaternion="wxyz"),
    "npz_beyondmimic_mjcf_order": Expected("beyondmimic", {60.0}, quaternion="wxyz"),
    "npz_beyondmimic_isaac_order": Expected("beyondmimic", {50.0}, quaternion="wxyz", order="isaac"),
    "npz_isaaclab_amp_named": Expected("isaaclab", {30.0, 60.0}, quaternion="wxyz"),
    "npz_holosoma_qpos36_named": Expected("holosoma", {50.0}, quaternion="wxyz"),
    "pkl_gmr_29": Expected("gmr", {29.87626854359289, 29.7623376444417, 30.0}),
    "pkl_gmt_23": Expected("gmr", {29.980814325303772, 33.25062034739454, 59.9999885559082}, 23, order=NO_WRISTS),
    "pkl_joblib_asap_23": Expected("asap", {30.0}, 23, order=NO_WRISTS),
    "torchzip_protomotions": Expected("protomotions", {30.0}),
    "npy_phuma": Expected("phuma", {30.0}),
    "bin_wbc_fsm": Expected("wbc_fsm", {50.0}, quaternion="wxyz", order="isaac"),
    "npz_loco_mujoco_old_g1": Expected("loco-mujoco old", {500.0}, 23, "euler", "by name"),
}  # fmt: skip
PEOPLE = {
    "human_bvh": Expected("bvh", {50.0}, quaternion="none", order="retargeted"),
    "human_amc": Expected("amc", {50.0}, quaternion="none", order="retargeted"),
    "human_smpl_npz": Expected("smpl", {50.0}, quaternion="none", order="retargeted"),
}
# What is refused, by group or by the file's name: a pattern of the sentence.
_ROBOT = "34 columns .*H1_2.*36 are expected"
_REFUSED = {
    "csv_wrong_robot": _ROBOT,
    "11.asf": "skeleton in ASF.*AMC files",
    "body_pos_w.bin": "part of the clip",
    "body_quat_w.bin": "part of the clip",
}
_ORDERS = {"G1_dance.npz": "isaac"}  # by file, where it differs from its group


def listed(folder: Path) -> list[tuple[str, str, str]]:
    """Group, path below the folder and SHA-256 of each file in the manifest; none where there is none."""
    if not (folder / "MANIFEST.tsv").is_file():
        return []
    with (folder / "MANIFEST.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [(row["group"], row["set_path"].removeprefix("public/"), row["sha256"]) for row in rows]


def expected_refusal(group: str, path: Path) -> str | None:
    """The pattern of the sentence by which a file must be refused; None for one that must import."""
    return _REFUSED.get(group) or _REFUSED.get(path.name)


def departure(folder: Path, group: str, file: str, sha256: str) -> str | None:
    """In what a file is read otherwise than documented; None where in nothing."""
    path = folder / file
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        return "it is another file than the manifest lists"
    found, reason = inspect(path), expected_refusal(group, path)
    if reason is not None:
        told = str(found["reason"])
        right = not found["ok"] and told.startswith(f"{path}: ") and "\n" not in told and re.search(reason, told)
        return None if right else f"it should be refused as {reason!r}, not {found['reason']!r}"
    if not found["ok"]:
        return f"it is refused: {found['reason']}"
    expected = (GROUPS | PEOPLE)[group]
    seen: dict[str, Any] = {name: found[name] for name in ("format", "joints", "quaternion", "joint_order")}
    wanted = {
        "format": expected.format,
        "joints": expected.joints,
        "quaternion": expected.quaternion,
        "joint_order": _ORDERS.get(path.name, expected.order),
    }
    if seen != wanted or found["rate_hz"] not in expected.rates:
        return f"{seen} at {found['rate_hz']} Hz instead of {wanted} at {sorted(expected.rates)} Hz"
    if not found["evidence"]:
        return "nothing is said of why that is believed"
    if any("lifted from 23 to 29" in problem for problem in found["problems"]) != (expected.joints == 23):
        return "whether it was lifted from 23 to 29 joints is not said"
    if abs(found["quality"]["float_median_m"]) >= 0.09:
        return f"its feet are {found['quality']['float_median_m']:.3f} m above the floor"
    return None


class Pair(NamedTuple):
    """Two files with one motion: the first, resampled to the second's rate, from a row of its own on.

    Largest (or mean) difference of joints (rad), root position (m) and rotation (rad), and of the root's height where
    one file lifts it frame by frame. The second of a `held` pair was resampled by a tool that keeps the rotation of the
    frame below where the root hardly turns from there to the next one, and so it is read here too.
    """

    first: str
    second: str
    joints: float
    root: float
    turn: float = 1e-4
    held: bool = False
    start: int = 0
    mean: bool = False
    lift: float = 0.0


GANGNAM, TAKE = "G1_gangnam_style_V01.bvh_60hz", "G1_Take_102.bvh_60hz"
DANCE = "csv36_xyzw_30hz/dance1_subject2.csv"
PAIRS = [
    Pair(f"csv36_xyzw_60hz/{GANGNAM}.csv", f"npz_beyondmimic_isaac_order/{GANGNAM}.npz", 2.95e-5, 1e-5, 1.1e-5, True),
    Pair(f"csv36_xyzw_60hz/{TAKE}.csv", f"npz_beyondmimic_isaac_order/{TAKE}.npz", 2.95e-5, 1e-5, 1.1e-5, True),
    Pair(DANCE, "bin_wbc_fsm/dance12/joint_pos.bin", 7.5e-6, 1.35e-5, mean=True),
    Pair("csv36_xyzw_30hz/walk1_subject1.csv", "npz_isaaclab_amp_named/G1_walk.npz", 6.5e-8, 3e-7, start=100),
    Pair(DANCE, "npz_isaaclab_amp_named/g1_dance1_subject2_30.npz", 1.2e-7, 5e-7, start=250),
    Pair("csv36_wxyz_30hz/output_walk.csv", "torchzip_protomotions/output_walk.motion", 1.2e-7, 2e-6, lift=0.01735),
    Pair("csv36_xyzw_60hz/B_HandsUp.csv", "npz_beyondmimic_mjcf_order/B_HandsUp.npz", 1.85e-5, 2e-5),
    Pair("csv36_xyzw_60hz/M_ShortMove14.csv", "npz_beyondmimic_mjcf_order/M_ShortMove14.npz", 1.85e-5, 2e-5),
]  # fmt: skip


def differences(folder: Path, pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the frames that both files have: joints (rad), root position (m) and root rotation (rad).

    ValueError where one of the two goes on, or they share too little.
    """
    first, second = read_motion(folder / pair.first), read_motion(folder / pair.second)
    ours = resample(Motion(first.qpos[pair.start :], first.rate_hz, first.name), second.rate_hz).qpos
    theirs = second.qpos
    count = min(len(ours), len(theirs))
    if count <= 100 or len(theirs) - count > 1:
        raise ValueError(f"{pair.second}: {len(theirs)} frames, of which {pair.first} has {count}")
    ours, theirs = ours[:count], theirs[:count]
    turn = angle_between(ours[:, 3:7], theirs[:, 3:7])
    if pair.held:
        turn = np.minimum(turn, _lag(first.qpos[:, 3:7], theirs[:, 3:7], first.rate_hz / second.rate_hz))
    return np.abs(ours[:, 7:] - theirs[:, 7:]), np.abs(ours[:, :3] - theirs[:, :3]), turn


def _lag(frames: np.ndarray, theirs: np.ndarray, ratio: float) -> np.ndarray:
    """Rotation (rad) of each of their frames from the frame below it, infinite where the root turns on from there."""
    below = np.clip(np.floor(np.arange(len(theirs)) * ratio - 1e-6).astype(int), 0, len(frames) - 2)
    turns_on = angle_between(frames[below], frames[below + 1]) > _HELD_RAD
    return np.where(turns_on, np.inf, angle_between(frames[below], theirs))


def worst_share(folder: Path, pair: Pair) -> float:
    """The largest of a pair's differences over what is allowed of it: at most 1 where they agree."""
    joints, place, turn = differences(folder, pair)
    figure = np.mean if pair.mean else np.max
    shares = (
        figure(joints) / pair.joints,
        figure(place[:, :2]) / pair.root,
        figure(place[:, 2]) / (pair.root + pair.lift),
        figure(turn) / pair.turn,
    )
    return float(max(shares))


def rows(motions: Path) -> Iterator[Row]:
    """Files as documented, pairs that agree, and the pool's seconds; what is absent below `motions` is said to be."""
    folder, pool = motions / "formats", motions / "g1_29dof"
    files = listed(folder)
    if files:
        right = 0
        for group, file, sha256 in track(files, "files as documented"):
            complaint = departure(folder, group, file, sha256)
            right += complaint is None
            if complaint is not None:
                say(f"{file}: {complaint}")
        yield Row("formats_as_documented", right, "files", target=len(files))
        recordings = sorted((folder / _LAFAN).glob("*.csv"))
        frames = sum(resample(read_motion(path)).frames for path in recordings)
        ways = {"read": lambda: [resample(read_motion(path)) for path in recordings]}
        yield Row("import_lafan1", frames / medians(ways, 3, clock=time.process_time)["read"], "frames/s", _IMPORT)
        shares = [worst_share(folder, pair) for pair in track(PAIRS, "pairs with one motion")]
        yield Row("pairs_that_agree", sum(share < 1.0 for share in shares), "pairs", target=len(PAIRS))
        yield Row("pairs_worst_over_allowed", max(shares), "", target=1.0, higher_is_better=False)
    else:
        say(f"{folder}: no files with a MANIFEST.tsv here, so formats and pairs are not checked; give --motions DIR")
    if pool.is_dir():
        yield from _pool(pool)
    else:
        say(f"{pool}: no pool of clips here, so its seconds are not measured; give --motions DIR")


def _pool(pool: Path) -> Iterator[Row]:
    """The pool read, curated, split, stored, embedded and clustered, in seconds by the wall and of cores."""
    from scaling.motion.augment import AugmentConfig, augmented
    from scaling.motion.cluster import kmeans
    from scaling.motion.corpus import build_corpus
    from scaling.motion.describe import cluster_names
    from scaling.motion.duplicates import find_matches
    from scaling.motion.embed import embed_corpus
    from scaling.motion.gather import gather
    from scaling.motion.store.export import write_corpus

    wall, marks = time.perf_counter(), [time.process_time()]
    with tempfile.TemporaryDirectory() as scratch, Progress("pool", 4) as progress:
        files = motion_paths(str(pool))
        progress.update(0, message=f"curating {len(files)} clips")
        gathered = gather(files, scratch=scratch)
        marks.append(time.process_time())
        progress.update(1, message="cutting and splitting")
        corpus = build_corpus(list(gathered.clips.values()), scratch=scratch)
        corpus = write_corpus(Path(scratch) / "corpus", augmented(corpus, AugmentConfig()), {}, corpus.config)
        marks.append(time.process_time())
        progress.update(2, message=f"embedding {len(corpus)} segments")
        features = embed_corpus(corpus)
        marks.append(time.process_time())
        progress.update(3, message=f"clustering, K = {_POOL_CLUSTERS}")
        found = kmeans(features, _POOL_CLUSTERS, 0, fit=corpus.indices("train"))
        cluster_names(corpus, features, found)
        progress.update(4)
        wall = time.perf_counter() - wall
        marks.append(time.process_time())
        find_matches(list(gathered.clips.values()))
        copies = time.process_time() - marks[-1]
        yield Row("pool_curated_clustered_split", wall, "s", target=_POOL_S, higher_is_better=False)
        yield Row("pool_core_seconds", marks[-1] - marks[0], "s", higher_is_better=False)
        yield Row("pool_clips", len(files), "clips")
        for split in ("train", "val", "test"):
            share = corpus.frames(corpus.indices(split)) / corpus.frames()
            yield Row(f"pool_share_{split}", share, "of frames")
        gathering, cutting, embedding, _ = np.diff(marks).tolist()
        spent = {"curate": gathering - copies, "cut": cutting, "embed": embedding, "duplicates": copies}
        yield from plan(spent, corpus.frames())


def plan(spent: dict[str, float], frames: int) -> Iterator[Row]:
    """What stages that took these core seconds for so many frames take for 2 billion, and the hosts for that.

    Each grows with the frames, but looking for duplicates with their square: every clip is laid over every other.
    Looked for within parts of 20 M frames alone, it takes a hundredth.
    """
    times = PLAN / frames
    hours = {stage: seconds * times ** (2 if stage == "duplicates" else 1) / 3600 for stage, seconds in spent.items()}
    hours["duplicates_in_parts"] = hours["duplicates"] * _PART / PLAN
    for stage, seconds in spent.items():
        yield Row(f"pool_core_{stage}", seconds, "s", higher_is_better=False)
    for stage, each in hours.items():
        yield Row(f"plan_2B_{stage}", each, "core-hours", higher_is_better=False)
    parts = sum(each for stage, each in hours.items() if stage != "duplicates")
    whole = parts - hours["duplicates_in_parts"] + hours["duplicates"]
    for name, each in (("hosts", whole), ("hosts_in_parts", parts)):
        yield Row(
            f"plan_2B_{name}", float(np.ceil(each / (24 * _HOST_CORES))), "hosts for a day", higher_is_better=False
        )
