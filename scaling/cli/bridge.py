"""`scaling bridge`: a policy on a robot, real or simulated."""

import argparse

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
    for name, what in (
        ("simulate", "the twin on the wire"),
        ("status", "how the bridge is"),
        ("replay", "a log again"),
    ):
        later = add(rooms, name, _later, f"{what} (not built yet)")
        later.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
        later.set_defaults(name=name)


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
    )
    latency = report["latency_ms"]
    shown = {name: report[name] for name in ("state", "ended", "faults", "ticks", "overruns", "assist", "rollout")}
    shown |= {f"latency, {name} (ms)": value for name, value in latency.items()}
    return Outcome(report, [pairs(shown | (report["metrics"] or {}))], code=1 if report["faults"] else 0)


def _later(arguments: argparse.Namespace) -> Outcome:
    raise InputError(f"bridge {arguments.name} is not built yet: bridge run --transport sim is what there is")
