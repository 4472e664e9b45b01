"""`scaling view`: a clip, a rollout, or a policy on a clip as video, picture strip and offline player."""

import argparse
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.clips import add_given, choose_clip, given_of, load_clips
from scaling.cli.output import Outcome, pairs
from scaling.cli.parser import Verbs, add
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.view.rollout import Rollout

_ROLLOUT = "rollout.npz"


def add_verbs(verbs: Verbs) -> None:
    """`view`."""
    view = add(verbs, "view", _view, "write a video, a picture strip and a self-contained HTML player")
    view.add_argument(
        "thing", metavar="RUN_OR_CLIP", help="motion file, corpus, rollout, quickstart, policy, student or bank"
    )
    view.add_argument("--out", metavar="DIR", help="default: out/view/NAME")
    view.add_argument(
        "--clip", metavar="NAME", help="which one, where a file holds several, or the segment of a corpus"
    )
    view.add_argument("--motion", metavar="CLIP", help="what a policy, a student or an expert is to track")
    view.add_argument("--assist", type=float, default=0.0, help="harness of training, 0 to 1, where one plays")
    view.add_argument("--expert", type=int, metavar="K", help="who plays, where RUN_OR_CLIP is a bank")
    view.add_argument("--seconds", type=float, default=6.0, metavar="S", help="longest video (default 6)")
    add_given(view)


def _view(arguments: argparse.Namespace) -> Outcome:
    if not arguments.seconds > 0:
        raise InputError(f"--seconds is {arguments.seconds:g}; give a positive number")
    from scaling.view.render import RenderSettings, view_rollout

    rollout = _rollout(arguments)
    path = Path(arguments.thing)
    out = Path(arguments.out) if arguments.out else Path("out", "view", path.name.split(".")[0] or "clip")
    written = view_rollout(rollout, out, RenderSettings(max_seconds=arguments.seconds))
    report: dict[str, Any] = {name: str(value) for name, value in written.items()}
    report |= {"title": rollout.title, "seconds": rollout.seconds, "assist": rollout.assist}
    return Outcome(report, [pairs(report)])


def _rollout(arguments: argparse.Namespace) -> "Rollout":
    """What there is to see under a path."""
    from scaling.motion.corpus import is_corpus
    from scaling.policy.archive import is_archive
    from scaling.view.rollout import Rollout

    path = Path(arguments.thing)
    if path.is_dir() and arguments.motion is None:
        kept = path / _ROLLOUT if (path / _ROLLOUT).is_file() else _rendered(path)
        if kept is not None:
            return Rollout.load(kept)
        if is_corpus(path):
            return _segment(path, arguments.clip)
        from scaling.cli.actors import find

        kind, folder = find(path)
        raise InputError(f"{folder} is a {kind}: say what it is to track with --motion CLIP")
    if path.is_dir() or is_archive(path):
        return _played(arguments)
    if arguments.motion is not None:
        raise InputError(f"{path} is no policy, student or bank: leave --motion out")
    if _is_rollout(path):
        return Rollout.load(path)
    from scaling.motion.read import motion_paths, read_file

    files = motion_paths(path)
    if len(files) > 1:
        raise InputError(f"{path} matches {len(files)} files and one can be viewed: name one, such as {files[0]}")
    motions = [read.motion for read in read_file(files[0], given_of(arguments))]
    motion = motions[choose_clip([motion.name for motion in motions], arguments.clip, str(files[0]))]
    return Rollout(motion.qpos, None, motion.rate_hz, motion.name)


def _segment(folder: Path, name: str | None) -> "Rollout":
    """One segment of a corpus."""
    from scaling.motion.corpus import Corpus
    from scaling.view.rollout import Rollout

    corpus = Corpus.load(folder)
    index = choose_clip(corpus.names, name, str(folder))
    return Rollout(corpus.segment(index), None, corpus.rate_hz, corpus.names[index])


def _rendered(folder: Path) -> Path | None:
    """The rollout that a quickstart rendered."""
    try:
        rollout = Path(json.loads((folder / "summary.json").read_text())["render"]).parent / _ROLLOUT
    except (OSError, ValueError, KeyError):
        return None
    return rollout if rollout.is_file() else None


def _is_rollout(path: Path) -> bool:
    """Whether it is an npz with the rollout's `meta`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "meta.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _played(arguments: argparse.Namespace) -> "Rollout":
    """An actor on one clip from its first frame, in converged C MuJoCo."""
    if not 0.0 <= arguments.assist <= 1.0:
        raise InputError(f"assist is {arguments.assist}; give a harness strength from 0 to 1")
    import jax.numpy as jnp
    import numpy as np

    from scaling.cli.actors import open_actor
    from scaling.robot.model import CONVERGED
    from scaling.tracking.evaluate import make_player, scores, whole_clips
    from scaling.tracking.physics import CPhysics
    from scaling.tracking.reference import pack
    from scaling.view.rollout import Rollout

    actor = open_actor(Path(arguments.thing), arguments.expert)
    clips = load_clips(arguments.motion, "test", actor.window, given_of(arguments))
    chosen = choose_clip(clips.names, arguments.clip, arguments.motion)
    clip = clips.qpos[chosen]
    store = pack([clip])
    steps = len(clip) - 1
    play = make_player(CPhysics(CONVERGED), actor.policy, "sonic")
    assist = jnp.asarray(arguments.assist, jnp.float32)
    trace = play(actor.params, store, whole_clips(store, np.zeros(1, int)), assist, steps)
    result, failed = scores(trace), np.flatnonzero(np.asarray(trace.failed[:, 0]))
    return Rollout(
        qpos=np.concatenate([clip[:1], np.asarray(trace.qpos[:, 0])]),
        reference=clip,
        rate_hz=50.0,
        title=f"{clips.names[chosen]} by {actor.title}",
        assist=arguments.assist,
        failed_at=int(failed[0]) + 1 if len(failed) else None,
        metrics={"survival_s": float(result.seconds[0]), "mpjpe_l_mm": float(result.mpjpe_l_mm[0])},
    )
