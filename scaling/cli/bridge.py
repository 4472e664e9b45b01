"""`scaling bridge`: a policy on a robot, real or simulated."""

import argparse
from pathlib import Path

from scaling.cli.output import Outcome, pairs
from scaling.cli.parser import Verbs, add, family
from scaling.errors import InputError


def add_verbs(verbs: Verbs) -> None:
    """`bridge run`, and the verbs of the robot's own wire."""
    rooms = family(verbs, "bridge", "a policy on a robot")
    run = add(rooms, "run", _run, "track a clip at 50 Hz (exit 1 where a fault ended it)", on_signal="damp")
    run.add_argument("policy", metavar="POLICY", help="folder that `scaling export` wrote")
    run.add_argument("--motion", required=True, metavar="CLIP")
    run.add_argument("--transport", default="sim", metavar="sim|dds")
    run.add_argument("--assist", type=float, default=0.0, help="harness of training, 0 to 1 (default 0: none)")
    run.add_argument("--backend", default="auto", metavar="auto|xla|onnx")
    run.add_argument("--fast", action="store_true", help="let the simulation run as fast as it can")
    run.add_argument("--out", metavar="DIR", help="write the rollout there (`scaling view` draws it)")
    run.add_argument("--domain", type=int, default=1, help="DDS domain of --transport dds (default 1: the twin's)")
    run.add_argument("--status", metavar="FILE", help="renew this file while it runs (default: one for each user)")
    twin = add(rooms, "simulate", _simulate, "be the robot on the wire, until Ctrl-C", on_signal="damp")
    twin.add_argument("--motion", metavar="CLIP", help="held at its first frame until tracking begins")
    twin.add_argument("--assist", type=float, default=0.0, help="harness along that clip, 0 to 1 (default 0: none)")
    twin.add_argument("--domain", type=int, default=1, help="DDS domain (default 1)")
    twin.add_argument("--seconds", type=float, help="end by itself after this long")
    twin.add_argument("--out", metavar="DIR", help="write what the robot did there (`scaling view` draws it)")
    status = add(rooms, "status", _status, "how the bridge is, or was when it ended")
    status.add_argument("--status", metavar="FILE", help="the file that `bridge run` was told to renew")
    again = add(rooms, "replay", _replay, "recompute the actions of a flight recording (exit 1 where one differs)")
    again.add_argument("log", metavar="LOG", help="the folder `flight` below `bridge run --out`")
    again.add_argument("--policy", metavar="DIR", help="where the policy is now (default: where it was)")
    again.add_argument("--backend", metavar="xla|onnx", help="another one than flew")


def _run(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.run import run_bridge

    report = run_bridge(
        arguments.policy,
        arguments.motion,
        arguments.transport,
        realtime=not arguments.fast,
        assist=arguments.assist,
        out=arguments.out,
        backend=arguments.backend,
        domain=arguments.domain,
        status=arguments.status,
    )
    latency = report["latency_ms"]
    shown = {
        name: report[name] for name in ("state", "ended", "faults", "ticks", "overruns", "assist", "rollout", "flight")
    }
    shown |= {f"latency, {name} (ms)": value for name, value in latency.items()}
    return Outcome(report, [pairs(shown | (report["metrics"] or {}))], code=1 if report["faults"] else 0)


def _simulate(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.reference import ClipReference
    from scaling.bridge.twin import simulate
    from scaling.motion.read import read_motion

    if not 0.0 <= arguments.assist <= 1.0:
        raise InputError(f"assist is {arguments.assist}; give a harness strength from 0 to 1")
    if arguments.assist and not arguments.motion:
        raise InputError("a harness needs a clip to pull along: add --motion CLIP")
    if arguments.seconds is not None and not arguments.seconds > 0:
        raise InputError(f"seconds is {arguments.seconds}; give a time above 0")
    clip = ClipReference(read_motion(arguments.motion)) if arguments.motion else None
    report = simulate(
        arguments.domain,
        clip,
        assist=arguments.assist,
        seconds=arguments.seconds,
        out=arguments.out,
        on_ready=lambda: print(f"the twin speaks on domain {arguments.domain}; Ctrl-C ends it", flush=True),
    )
    return Outcome(report, [pairs(report)])


def _status(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.status import read_status

    status = read_status(Path(arguments.status) if arguments.status else None)
    names = ("running", "age_s", "state", "ended", "faults", "warnings", "ticks", "overruns", "clip", "policy")
    return Outcome(status, [pairs({name: status.get(name) for name in names})])


def _replay(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.recorder import replay

    report = replay(arguments.log, arguments.policy, arguments.backend)
    return Outcome(report, [pairs(report)], code=0 if report["ok"] else 1)
