"""`scaling bridge`: a policy on a robot, real or simulated."""

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.output import Grid, Outcome, pairs
from scaling.cli.parser import Verbs, add, family
from scaling.errors import InputError

if TYPE_CHECKING:
    from scaling.bridge.fleet import RobotConfig
    from scaling.bridge.window import Window


def add_verbs(verbs: Verbs) -> None:
    """`bridge run`, and the verbs of the robot's own wire."""
    rooms = family(verbs, "bridge", "a policy on a robot")
    run = add(rooms, "run", _run, "track a clip at 50 Hz (exit 1 where a fault ended it)", on_signal="damp")
    run.add_argument("policy", metavar="POLICY", help="what `scaling export` wrote, a folder or a zip")
    run.add_argument("--motion", metavar="CLIP", help="the clip to track")
    run.add_argument("--stream", metavar="ADDRESS", help="or motion that comes live: udp://, ws:// or zmq://HOST:PORT")
    run.add_argument("--transport", metavar="sim|dds", help="default sim; dds with --robot")
    run.add_argument("--fleet", metavar="YAML", help="robots by name: interface, domain, limits, start, backend")
    run.add_argument("--robot", metavar="NAME", help="which robot of the fleet")
    run.add_argument("--assist", type=float, default=0.0, help="harness of training, 0 to 1 (default 0: none)")
    run.add_argument("--backend", metavar="auto|xla|onnx", help="default auto: XLA where JAX is installed")
    run.add_argument("--providers", metavar="LIST", help="of ONNX Runtime, in order, such as tensorrt,cuda,cpu")
    run.add_argument("--fast", action="store_true", help="let the simulation run as fast as it can")
    run.add_argument("--out", metavar="DIR", help="write the rollout there (`scaling view` draws it)")
    run.add_argument("--domain", type=int, help="DDS domain of --transport dds (default 1: the twin's; 0: the robot)")
    run.add_argument("--interface", metavar="NAME", help="network interface that leads to the robot (default loopback)")
    run.add_argument("--release", action="store_true", help="release the robot's own motion service: it GOES LIMP")
    run.add_argument("--status", metavar="FILE", help="renew this file while it runs (default: one for each user)")
    twin = add(rooms, "simulate", _simulate, "be the robot on the wire, until Ctrl-C", on_signal="damp")
    twin.add_argument("--motion", metavar="CLIP", help="held at its first frame until tracking begins")
    twin.add_argument("--assist", type=float, default=0.0, help="harness along that clip, 0 to 1 (default 0: none)")
    twin.add_argument("--domain", type=int, default=1, help="DDS domain (default 1)")
    twin.add_argument("--interface", metavar="NAME", help="network interface to speak on (default loopback)")
    twin.add_argument("--battery", type=float, default=100.0, metavar="PERCENT", help="its charge (default 100)")
    twin.add_argument("--service", default="", metavar="NAME", help="a motion service that holds it until --release")
    twin.add_argument("--seconds", type=float, help="end by itself after this long")
    twin.add_argument("--out", metavar="DIR", help="write what the robot did there (`scaling view` draws it)")
    twin.add_argument("--viewer", action="store_true", help="open a window on it (MuJoCo's own; needs a screen)")
    status = add(rooms, "status", _status, "how the bridge is, or was when it ended")
    status.add_argument("--status", metavar="FILE", help="the file that `bridge run` was told to renew")
    status.add_argument("--fleet", metavar="YAML", help="all robots of a fleet")
    status.add_argument("--robot", metavar="NAME", help="one of them")
    send = add(rooms, "send", _send, "send a clip as a live stream to a bridge that runs with --stream")
    send.add_argument("motion", metavar="CLIP")
    send.add_argument("--to", required=True, metavar="ADDRESS", help="udp://HOST:PORT or ws://HOST:PORT")
    send.add_argument("--ahead", type=float, default=0.0, metavar="S", help="send so much of the future (default 0)")
    send.add_argument("--repeat", action="store_true", help="over and over, until Ctrl-C")
    again = add(rooms, "replay", _replay, "recompute the actions of a flight recording (exit 1 where one differs)")
    again.add_argument("log", metavar="LOG", help="the folder `flight` below `bridge run --out`")
    again.add_argument("--policy", metavar="DIR", help="where the policy is now (default: where it was)")
    again.add_argument("--backend", metavar="xla|onnx", help="another one than flew")


def _run(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.run import run_bridge

    robot, name = _robot(arguments)
    report = run_bridge(
        arguments.policy,
        arguments.motion,
        arguments.transport or ("sim" if name is None else "dds"),
        stream=arguments.stream,
        robot=robot,
        name=name,
        release=arguments.release,
        realtime=not arguments.fast,
        assist=arguments.assist,
        out=arguments.out,
        status=arguments.status,
    )
    latency = report["latency_ms"]
    shown = {
        name: report[name] for name in ("state", "ended", "faults", "ticks", "overruns", "assist", "rollout", "flight")
    }
    shown |= {f"latency, {name} (ms)": value for name, value in latency.items()}
    return Outcome(report, [pairs(shown | (report["metrics"] or {}))], code=1 if report["faults"] else 0)


def _robot(arguments: argparse.Namespace) -> tuple["RobotConfig", str | None]:
    """The robot that the flags mean, and its name where it is one of a fleet."""
    from scaling.bridge.fleet import ROBOT, TWIN, pick

    if (arguments.fleet is None) != (arguments.robot is None):
        raise InputError("a robot of a fleet is named by both: give --fleet YAML and --robot NAME")
    given: dict[str, Any] = {}
    if arguments.robot is not None:
        if arguments.domain is not None or arguments.interface is not None:
            raise InputError("the fleet says where its robots are: leave out --domain and --interface")
        robot = pick(arguments.fleet, arguments.robot)
    else:
        robot = ROBOT if arguments.domain == ROBOT.domain else TWIN
        given = {"domain": robot.domain if arguments.domain is None else arguments.domain}
        given["interface"] = arguments.interface
    if arguments.backend is not None:
        if arguments.backend not in ("auto", "xla", "onnx"):
            raise InputError(f"policy backend is {arguments.backend!r}; use one of auto, xla, onnx")
        given["backend"] = arguments.backend
    if arguments.providers is not None:
        given["providers"] = tuple(arguments.providers.split(","))
    return replace(robot, **given), arguments.robot


def _send(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.listen import read_address, send_clip
    from scaling.motion.clip import clean
    from scaling.motion.read import read_motion

    if not arguments.ahead >= 0:
        raise InputError(f"ahead is {arguments.ahead}; give seconds from 0 on")
    motion = clean(read_motion(arguments.motion))
    report = send_clip(motion, read_address(arguments.to), ahead=arguments.ahead, repeat=arguments.repeat)
    return Outcome(report, [pairs(report)])


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
    if not 0 <= arguments.battery <= 100:
        raise InputError(f"battery is {arguments.battery}; give a charge from 0 to 100")
    clip = ClipReference(read_motion(arguments.motion)) if arguments.motion else None
    with _window() if arguments.viewer else contextlib.nullcontext() as window:
        report = simulate(
            arguments.domain,
            clip,
            assist=arguments.assist,
            seconds=arguments.seconds,
            out=arguments.out,
            battery=arguments.battery,
            holder=arguments.service,
            interface=arguments.interface,
            on_ready=lambda: print(f"the twin speaks on domain {arguments.domain}; Ctrl-C ends it", flush=True),
            on_pose=None if window is None else window.show,
        )
    return Outcome(report, [pairs(report)])


def _window() -> "contextlib.closing[Window]":
    from scaling.bridge.window import Window

    return contextlib.closing(Window())


def _status(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.fleet import read_fleet
    from scaling.bridge.status import default_path, fleet_status, read_status

    if arguments.robot is not None and arguments.fleet is None:
        raise InputError("a robot of a fleet is named by both: give --fleet YAML and --robot NAME")
    fleet = None if arguments.fleet is None else read_fleet(arguments.fleet)
    if fleet is not None and arguments.robot is None:
        report = fleet_status(fleet)
        columns = ("running", "state", "ended", "battery", "age_s")
        rows = [(name, *((one or {}).get(column, "") for column in columns)) for name, one in report["robots"].items()]
        return Outcome(report, [Grid(("robot", *columns), rows, f"{len(rows)} robots")])
    if fleet is not None and arguments.robot not in fleet:
        raise InputError(f"{arguments.fleet} has no robot {arguments.robot!r}: it has {', '.join(fleet)}")
    path = default_path(arguments.robot) if arguments.robot else None
    status = read_status(Path(arguments.status) if arguments.status else path)
    names = (
        "running",
        "age_s",
        "state",
        "ended",
        "faults",
        "warnings",
        "ticks",
        "overruns",
        "battery",
        "clip",
        "policy",
    )
    return Outcome(status, [pairs({name: status.get(name) for name in names})])


def _replay(arguments: argparse.Namespace) -> Outcome:
    from scaling.bridge.recorder import replay

    report = replay(arguments.log, arguments.policy, arguments.backend)
    return Outcome(report, [pairs(report)], code=0 if report["ok"] else 1)
