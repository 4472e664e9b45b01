"""`scaling eval`: an actor along clips by a named protocol, as it is and perturbed, open-loop playback beside it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.clips import Clips, load_clips
from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add
from scaling.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from scaling.cli.actors import Actor
    from scaling.dynamics.physics import DreamPhysics
    from scaling.tracking.evaluate import Scores, Starts
    from scaling.tracking.perturb import Level
    from scaling.tracking.physics import Physics
    from scaling.tracking.reference import ClipStore

    Found = dict[str, Scores]  # of "actor" and "open_loop"

PROTOCOLS = {"sonic": "success_sonic", "humanoid-gpt": "success_hgpt"}
_STARTS_SECONDS = 10.0
_SHOWN = ("survival_s", "mpjpe_l_mm", "mpjpe_rad")


def add_verbs(verbs: Verbs) -> None:
    """`eval`."""
    evaluate = add(verbs, "eval", _eval, "play a policy, a student or an expert along clips and score it")
    evaluate.add_argument("actor", metavar="RUN_OR_POLICY")
    evaluate.add_argument("--clips", required=True, metavar="PATH", help="motion files, or a corpus (see --split)")
    evaluate.add_argument("--protocol", required=True, choices=tuple(PROTOCOLS))
    evaluate.add_argument(
        "--physics", default="mujoco", choices=("mujoco", "mjx", "dream"), help="default: C MuJoCo, converged"
    )
    evaluate.add_argument(
        "--simulator", metavar="DIR", help="the learned one of --physics dream (default: that of the bank that plays)"
    )
    evaluate.add_argument("--assist", type=float, default=0.0, help="harness, 0 to 1; 0 is measured beside any other")
    evaluate.add_argument("--split", default="test", help="of a corpus: train, val or test (default)")
    evaluate.add_argument("--expert", type=int, metavar="K", help="who plays, where RUN_OR_POLICY is a bank")
    evaluate.add_argument("--starts", type=int, metavar="N", help="N random starts over the clips, not each clip once")
    evaluate.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="play at most so long (default: to the clip's end, or 10 of --starts)",
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of --starts and of what is random in --perturb (0)")
    evaluate.add_argument(
        "--perturb",
        nargs="?",
        const="all",
        metavar="NAME,NAME...",
        help="play also perturbed: push, friction, mass, latency, encoder_bias, sensor_noise, roughness, slope, rugs; "
        "terrain for the last three, all (or nothing) for everything",
    )


def _eval(arguments: argparse.Namespace) -> Outcome:
    if arguments.physics == "dream":
        if arguments.assist or arguments.perturb is not None:
            raise InputError(
                "a learned simulator knows neither harness nor perturbation: leave --assist and --perturb out"
            )
    elif arguments.simulator is not None:
        raise InputError("--simulator is for --physics dream: leave it out or add that")
    if not 0.0 <= arguments.assist <= 1.0:
        raise InputError(f"assist is {arguments.assist}; give a harness strength from 0 to 1")
    if arguments.seconds is not None and not 0 < arguments.seconds < float("inf"):
        raise InputError(f"--seconds is {arguments.seconds:g}; give a positive number")
    if arguments.starts is not None and arguments.starts < 1:
        raise InputError(f"--starts is {arguments.starts}; give at least 1, or leave it out to play each clip once")
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}; give a number that is not below 0")
    from dataclasses import asdict

    from scaling.cli.actors import open_actor
    from scaling.robot.model import CONVERGED
    from scaling.tracking.physics import widen_pool

    if arguments.physics == "mjx":
        widen_pool()
    from scaling.tracking.perturb import choose

    levels = choose(arguments.perturb) if arguments.perturb is not None else ()
    actor = open_actor(Path(arguments.actor), arguments.expert)
    clips = load_clips(arguments.clips, arguments.split, actor.window)
    seconds = _STARTS_SECONDS if arguments.starts is not None and arguments.seconds is None else arguments.seconds
    report: dict[str, Any] = {
        "actor": {"kind": actor.kind, "folder": str(actor.folder), "title": actor.title, "row": actor.row},
        "protocol": arguments.protocol,
        "physics": arguments.physics,
        "physics_options": asdict(CONVERGED),
        "starts": arguments.starts,
        "seed": arguments.seed,
        "max_seconds": seconds,
        "refused": clips.refused,
    }
    if arguments.physics == "dream":
        physics = _simulator(actor, arguments.simulator)
        report["simulator"] = str(physics.path)
        [dreamed] = _measure(actor, clips, arguments, seconds, (), physics)
        [true] = _measure(actor, clips, arguments, seconds, (), "mujoco")
        report |= dreamed | {"mujoco": true}
        return Outcome(report, [*_words(report, arguments.protocol), _departure(dreamed, true)])
    measured = _measure(actor, clips, arguments, seconds, levels, arguments.physics)
    report |= measured[0]
    if len(measured) > 1:
        report["at_assist_0"] = measured[1]
    return Outcome(report, _words(report, arguments.protocol))


def _simulator(actor: "Actor", given: str | None) -> "DreamPhysics":
    """The learned simulator that was named, or the one that a bank was trained in."""
    from scaling.dynamics.artifact import FOLDER
    from scaling.dynamics.physics import DreamPhysics

    if given is None and not (actor.folder / FOLDER).is_dir():
        raise InputError(
            f"{actor.folder} was not trained in a learned simulator: name that of a bank of dreamed experts with "
            f"--simulator BANK/{FOLDER}"
        )
    return DreamPhysics.read(Path(given) if given is not None else actor.folder / FOLDER)


def _departure(dreamed: dict[str, Any], true: dict[str, Any]) -> Grid:
    """Clip by clip, what the learned simulator promises beside what MuJoCo gives; the widest apart first."""
    rows = [
        (mine["clip"], *(one[name] for name in ("survival_s", "mpjpe_rad") for one in (mine, other)))
        for mine, other in zip(dreamed["clips"], true["clips"], strict=True)
    ]
    rows.sort(key=lambda row: -abs(row[1] - row[2]))
    header = ("clip", "survival_s dreamed", "in MuJoCo", "mpjpe_rad dreamed", "in MuJoCo")
    return Grid(header, rows, title="where it departs from C MuJoCo")


def _measure(
    actor: "Actor",
    clips: Clips,
    arguments: argparse.Namespace,
    seconds: float | None,
    levels: Sequence["Level"],
    physics: "str | Physics",
) -> list[dict[str, Any]]:
    """Figures of the actor and of open-loop playback, with the harness in force and then without."""
    import jax.numpy as jnp
    import numpy as np

    from scaling.record.progress import Progress
    from scaling.robot.model import CONVERGED
    from scaling.tracking.evaluate import OPEN_LOOP
    from scaling.tracking.perturb import NOMINAL, played
    from scaling.tracking.reference import pack

    store = pack(clips.qpos)
    starts = _starts(store, arguments.starts, seconds, arguments.seed)
    contestants = {"actor": (actor.policy, actor.params), "open_loop": (OPEN_LOOP, jnp.zeros(()))}
    everything, assists = (NOMINAL, *levels), tuple(dict.fromkeys((arguments.assist, 0.0)))
    found: dict[tuple[Level, float], Found] = {}
    horizon = int(starts.steps.max())
    title = f"{len(starts.clip)} episodes in {physics if isinstance(physics, str) else physics.name}"
    with Progress(title, horizon * len(everything) * len(assists) * len(contestants)) as progress:

        def told(level: "Level", who: str, steps: int) -> None:
            done = horizon * sum(len(both) for both in found.values())
            progress.update(done + steps, message=f"{_named(level.name, level.level)}, {who.replace('_', ' ')}")

        progress.update(0, message="compiling")
        for level, assist, who, result in played(
            everything, contestants, store, starts, assists,
            protocol=arguments.protocol, physics=physics, options=CONVERGED, seed=arguments.seed, told=told,
        ):  # fmt: skip
            found.setdefault((level, assist), {})[who] = result
    clip = np.asarray(starts.clip)
    measured = [_figures(found[NOMINAL, assist], clip, clips, arguments.protocol, assist) for assist in assists]
    if levels:
        for figures, assist in zip(measured, assists, strict=True):
            figures["perturbations"] = [
                _perturbed(level, found[level, assist], arguments.protocol) for level in everything
            ]
    return measured


def _starts(store: "ClipStore", count: int | None, seconds: float | None, seed: int) -> "Starts":
    """Every clip once, or `count` random starts; each at most so long."""
    import jax.numpy as jnp
    import numpy as np

    from scaling.tracking.evaluate import random_starts, whole_clips

    clips = np.arange(len(store.length))
    steps = None if seconds is None else max(1, round(50 * seconds))
    if count is not None and steps is not None:
        return random_starts(store, clips, count, steps, seed)
    starts = whole_clips(store, clips)
    return starts if steps is None else starts._replace(steps=jnp.minimum(starts.steps, steps))


def _figures(found: "Found", clip: "np.ndarray", clips: Clips, protocol: str, assist: float) -> dict[str, Any]:
    import numpy as np

    from scaling.tracking.scores import aggregate

    families = np.array(clips.families)[clip]
    return {
        "assist": assist,
        "clips": _per_clip(found["actor"], clip, clips, protocol),
        "metrics": aggregate(found["actor"], protocol),
        "families": {
            name or "unknown": aggregate(found["actor"], protocol, families == name) for name in sorted(set(families))
        },
        "baselines": {
            "open_loop": {
                **aggregate(found["open_loop"], protocol),
                "clips": _per_clip(found["open_loop"], clip, clips, protocol),
            }
        },
    }


def _per_clip(scores: "Scores", clip: "np.ndarray", clips: Clips, protocol: str) -> list[dict[str, Any]]:
    """Figures of each clip that was played: of its one episode, or where it was started from often their means."""
    import numpy as np

    from scaling.tracking.scores import ERRORS, aggregate

    rows: list[dict[str, Any]] = []
    for index in np.unique(clip):
        mine = clip == index
        row = {
            "clip": clips.names[index],
            "family": clips.families[index],
            "seconds": float(scores.wanted[mine].mean()),
        }
        if mine.sum() > 1:
            rows.append(row | aggregate(scores, protocol, mine))
            continue
        (only,) = np.flatnonzero(mine)
        row |= {"survival_s": float(scores.seconds[only]), PROTOCOLS[protocol]: bool(scores.success[only])}
        rows.append(row | {error: float(getattr(scores, error)[only]) for error in ERRORS})
    return rows


def _perturbed(level: "Level", found: "Found", protocol: str) -> dict[str, Any]:
    from scaling.tracking.scores import aggregate

    return {
        "name": level.name,
        "level": level.level,
        "unit": level.unit,
        **aggregate(found["actor"], protocol),
        "open_loop": aggregate(found["open_loop"], protocol),
    }


def _named(name: str, level: float | None) -> str:
    return name.replace("_", " ") if level is None else f"{name.replace('_', ' ')} {level:g}"


def _words(report: dict[str, Any], protocol: str) -> list[str | Grid]:
    levels = [report, *([report["at_assist_0"]] if "at_assist_0" in report else [])]
    rows = []
    for level in levels:
        for who, figures in (("actor", level["metrics"]), ("open loop", level["baselines"]["open_loop"])):
            for name in (PROTOCOLS[protocol], *_SHOWN):
                low, high = figures[f"{name}_interval"]
                rows.append((level["assist"], who, name, figures[name], low, high))
    head = {name: report[name] for name in ("protocol", "physics")} | {"actor": report["actor"]["title"]}
    head |= {
        "clips": len(report["clips"]),
        "episodes": report["metrics"]["episodes"],
        "refused": len(report["refused"]),
    }
    words: list[str | Grid] = [pairs(head), Grid(("assist", "who", "figure", "mean", "95 % from", "to"), rows)]
    if "perturbations" in report:
        success = PROTOCOLS[protocol]
        header = (
            "assist",
            "perturbed",
            "unit",
            success,
            "from",
            "to",
            "survival_s",
            "from",
            "to",
            "open loop",
            "from",
            "to",
        )
        lines = [
            (
                level["assist"],
                _named(one["name"], one["level"]),
                one["unit"],
                one[success],
                *one[f"{success}_interval"],
                one["survival_s"],
                *one["survival_s_interval"],
                one["open_loop"]["survival_s"],
                *one["open_loop"]["survival_s_interval"],
            )
            for level in levels
            for one in level["perturbations"]
        ]
        words.append(Grid(header, lines, title=f"perturbed: {success}, survival (s), and that of open loop; 95 %"))
    return words
