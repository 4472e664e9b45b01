"""`scaling eval`: an actor on whole clips by a named protocol, open-loop playback beside it."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add
from scaling.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from scaling.cli.actors import Actor
    from scaling.tracking.evaluate import Scores

PROTOCOLS = {"sonic": "success_sonic", "humanoid-gpt": "success_hgpt"}
_ERRORS = ("mpjpe_l_mm", "mpjpe_l_whole_mm", "mpkpe_hgpt_mm", "mpjpe_rad", "mpjve_rad_s", "root_vel_err")


def add_verbs(verbs: Verbs) -> None:
    """`eval`."""
    evaluate = add(verbs, "eval", _eval, "play a policy, a student or an expert along clips and score it")
    evaluate.add_argument("actor", metavar="RUN_OR_POLICY")
    evaluate.add_argument("--clips", required=True, metavar="PATH", help="motion files, or a corpus (see --split)")
    evaluate.add_argument("--protocol", required=True, choices=tuple(PROTOCOLS))
    evaluate.add_argument("--physics", default="mujoco", choices=("mujoco", "mjx", "dream"))
    evaluate.add_argument("--assist", type=float, default=0.0, help="harness, 0 to 1; 0 is measured beside any other")
    evaluate.add_argument("--split", default="test", help="of a corpus: train, val or test (default)")
    evaluate.add_argument("--expert", type=int, metavar="K", help="who plays, where RUN_OR_POLICY is a bank")
    evaluate.add_argument("--seconds", type=float, metavar="S", help="play at most so much of each clip")


@dataclass(frozen=True)
class Clips:
    """Whole clips at 50 Hz, packed, with their names and families, and what was refused."""

    qpos: "np.ndarray"
    start: "np.ndarray"
    length: "np.ndarray"
    names: Sequence[str]
    families: Sequence[str]
    refused: dict[str, str]


def load_clips(path: str, split: str, frames: int) -> Clips:
    """Motion files, or one split of a corpus; a clip of fewer than `frames` frames at 50 Hz is refused by name."""
    import numpy as np

    from scaling.motion.clip import resample
    from scaling.motion.corpus import Corpus
    from scaling.motion.read import read_motions

    if (Path(path) / "corpus.npz").is_file():
        corpus = Corpus.load(path)
        chosen = [int(index) for index in corpus.indices(split)]
        if not chosen:
            raise InputError(f"{path}: its split {split!r} is empty; choose another --split")
        found = [(corpus.names[i], corpus.families[i], corpus.segment(i)) for i in chosen]
        refused: dict[str, str] = {}
    else:
        motions = read_motions(path)
        refused = dict(motions.refused)
        steady = [resample(motion) for motion in motions.motions]
        found = [(motion.name, motion.family, motion.qpos) for motion in steady]
    needed = max(frames, 2)
    for name, _, qpos in found:
        if len(qpos) < needed:
            refused[name] = (
                f"{name}: {len(qpos)} frames at 50 Hz, fewer than the student's context of {needed}; give a longer clip"
            )
    kept = [one for one in found if one[0] not in refused]
    if not kept:
        raise InputError(f"{path}: no clip can be played; {next(iter(refused.values()))}")
    names, families, frames_of = zip(*kept, strict=True)
    length = np.array([len(qpos) for qpos in frames_of], np.int32)
    start = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.int32)
    return Clips(np.concatenate(frames_of).astype(np.float32), start, length, names, families, refused)


def _eval(arguments: argparse.Namespace) -> Outcome:
    if arguments.physics == "dream":
        raise InputError("physics 'dream' (the learned simulator) is not built yet: use --physics mujoco or mjx")
    if not 0.0 <= arguments.assist <= 1.0:
        raise InputError(f"assist is {arguments.assist}; give a harness strength from 0 to 1")
    if arguments.seconds is not None and not arguments.seconds > 0:
        raise InputError(f"--seconds is {arguments.seconds:g}; give a positive number")
    from scaling.cli.actors import open_actor

    actor = open_actor(Path(arguments.actor), arguments.expert)
    clips = load_clips(arguments.clips, arguments.split, actor.window)
    report: dict[str, Any] = {
        "actor": {"kind": actor.kind, "folder": str(actor.folder), "title": actor.title, "row": actor.row},
        "protocol": arguments.protocol,
        "physics": arguments.physics,
        "physics_options": None,
        "max_seconds": arguments.seconds,
        "refused": clips.refused,
    }
    levels = list(dict.fromkeys((arguments.assist, 0.0)))
    measured = _measure(actor, clips, arguments, levels, report)
    report |= measured[0]
    if len(levels) > 1:
        report["at_assist_0"] = measured[1]
    return Outcome(report, _words(report, arguments.protocol))


def _measure(
    actor: "Actor", clips: Clips, arguments: argparse.Namespace, levels: Sequence[float], report: dict[str, Any]
) -> list[dict[str, Any]]:
    """Figures of the actor and of open-loop playback at each level of assist."""
    from dataclasses import asdict

    import jax.numpy as jnp
    import numpy as np

    from scaling.record.progress import Progress
    from scaling.robot.model import CONVERGED
    from scaling.tracking.evaluate import OPEN_LOOP, make_player, scores, whole_clips
    from scaling.tracking.physics import make_physics
    from scaling.tracking.reference import make_store

    report["physics_options"] = asdict(CONVERGED)
    store = make_store(clips.qpos, clips.start, clips.length)
    starts = whole_clips(store, np.arange(len(clips.length)))
    if arguments.seconds is not None:
        starts = starts._replace(steps=jnp.minimum(starts.steps, max(1, round(50 * arguments.seconds))))
    horizon = int(starts.steps.max())
    physics = make_physics(arguments.physics, CONVERGED)
    players = {
        "actor": (make_player(physics, actor.policy, arguments.protocol), actor.params),
        "open_loop": (make_player(physics, OPEN_LOOP, arguments.protocol), jnp.zeros(())),
    }
    found: list[dict[str, Any]] = []
    with Progress(f"{len(clips.names)} clips in {physics.name}", len(levels) * len(players)) as progress:
        progress.update(0)
        for level in levels:
            result = {}
            for name, (play, params) in players.items():
                trace = play(params, store, starts, jnp.asarray(level, jnp.float32), horizon)
                result[name] = scores(trace)
                progress.update(len(found) * len(players) + len(result))
            found.append(_figures(result["actor"], result["open_loop"], clips, arguments.protocol, level))
    return found


def _figures(actor: "Scores", open_loop: "Scores", clips: Clips, protocol: str, assist: float) -> dict[str, Any]:
    import numpy as np

    families = np.array(clips.families)
    everything = np.ones(len(families), bool)
    return {
        "assist": assist,
        "clips": _per_clip(actor, clips, protocol),
        "metrics": aggregate(actor, everything, protocol),
        "families": {
            name or "unknown": aggregate(actor, families == name, protocol) for name in sorted(set(clips.families))
        },
        "baselines": {
            "open_loop": {
                **aggregate(open_loop, everything, protocol),
                "clips": _per_clip(open_loop, clips, protocol),
            }
        },
    }


def _per_clip(scores: "Scores", clips: Clips, protocol: str) -> list[dict[str, Any]]:
    return [
        {
            "clip": name,
            "family": family,
            "seconds": float(scores.wanted[index]),
            "survival_s": float(scores.seconds[index]),
            PROTOCOLS[protocol]: bool(scores.success[index]),
            **{error: float(getattr(scores, error)[index]) for error in _ERRORS},
        }
        for index, (name, family) in enumerate(zip(clips.names, clips.families, strict=True))
    ]


def aggregate(scores: "Scores", mask: "np.ndarray", protocol: str) -> dict[str, Any]:
    """Means over clips, each with a 95 % interval (`NAME_interval`): Wilson on success, bootstrap over clips elsewhere.

    `mpjpe_l_mm` and the other errors are up to failure, `mpjpe_l_whole_mm` over the whole clip.
    """
    import numpy as np

    from scaling.tracking.intervals import bootstrap_mean, wilson

    success = wilson(scores.success[mask])
    found: dict[str, Any] = {"episodes": int(mask.sum()), PROTOCOLS[protocol]: success.value}
    found[f"{PROTOCOLS[protocol]}_interval"] = [success.low, success.high]
    columns = {"survival_s": scores.seconds, **{error: getattr(scores, error) for error in _ERRORS}}
    for name, values in columns.items():
        mean = bootstrap_mean(values[mask])
        # One episode says nothing of the spread.
        interval = [mean.low, mean.high] if np.isfinite(values[mask]).sum() > 1 else [None, None]
        found |= {name: mean.value, f"{name}_interval": interval}
    return found


def _words(report: dict[str, Any], protocol: str) -> list[str | Grid]:
    levels = [report, *([report["at_assist_0"]] if "at_assist_0" in report else [])]
    rows = []
    for level in levels:
        for who, figures in (("actor", level["metrics"]), ("open loop", level["baselines"]["open_loop"])):
            for name in (PROTOCOLS[protocol], "survival_s", "mpjpe_l_mm", "mpjpe_rad"):
                low, high = figures[f"{name}_interval"]
                rows.append((level["assist"], who, name, figures[name], low, high))
    head = {name: report[name] for name in ("protocol", "physics")} | {"actor": report["actor"]["title"]}
    head |= {"clips": len(report["clips"]), "refused": len(report["refused"])}
    return [pairs(head), Grid(("assist", "who", "figure", "mean", "95 % from", "to"), rows)]
