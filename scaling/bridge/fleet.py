"""The robots of a house in one YAML: by name, how each is reached and what it may do."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from scaling.bridge.dds import ROBOT_DOMAIN, TWIN_DOMAIN, check_domain
from scaling.bridge.runtime import RuntimeConfig
from scaling.bridge.stream import StreamConfig
from scaling.bridge.writer import WriterConfig
from scaling.errors import InputError

Start = Literal["at_once", "remote"]
Backend = Literal["auto", "xla", "onnx"]


@dataclass(frozen=True)
class RobotConfig(RuntimeConfig):
    """One robot: its DDS `domain` (0 is a real one) and the network `interface` that leads to it (None: loopback).

    `start`: whether each step towards tracking waits for the remote (Start for the ramp, A for tracking) or is taken at
    once, which only a twin may. `backend` and `providers` run the policy. Times are the control loop's, but for `hold`,
    which is the command writer's. `limits` go to both watchdogs, the control loop's and the writer's.
    """

    domain: int = TWIN_DOMAIN
    interface: str | None = None
    start: Start = "at_once"
    backend: Backend = "auto"
    providers: tuple[str, ...] = ("cpu",)
    hold: float = WriterConfig.hold
    stream: StreamConfig = StreamConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in get_args(Start):
            raise ValueError(f"start is {self.start!r}; use one of {', '.join(get_args(Start))}")
        if self.backend not in get_args(Backend):
            raise ValueError(f"backend is {self.backend!r}; use one of {', '.join(get_args(Backend))}")
        if self.real and self.start != "remote":
            raise ValueError("domain 0 is a real robot, which starts by its remote alone: give start: remote")
        self.writer()

    @property
    def real(self) -> bool:
        """Whether it can hurt somebody."""
        return self.domain == ROBOT_DOMAIN

    def writer(self) -> WriterConfig:
        """What the command writer keeps to."""
        return WriterConfig(
            hold=self.hold,
            damping=self.damping,
            limits=self.limits,
            command_limits=self.command_limits,
            twin=not self.real,
        )


# The twin already stands at the start pose and nobody waits beside it: `bridge run` is the person's command.
TWIN = RobotConfig(ramp=0.5, standby=0.5)
ROBOT = RobotConfig(domain=ROBOT_DOMAIN, start="remote")


def read_fleet(path: Path | str) -> dict[str, RobotConfig]:
    """Every robot of a fleet file by its name. Raises InputError that says which entry of which robot is wrong."""
    import yaml

    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: name a fleet file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}): mend it") from None
    robots = raw.get("robots") if isinstance(raw, dict) and raw.keys() == {"robots"} else None
    if not isinstance(robots, dict) or not robots:
        raise InputError(f"{path} names no robots: begin it with `robots:` and one entry for each")
    fleet = {}
    for name, entry in robots.items():
        if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"{path}: a robot is called {name!r}; use letters, digits, - and _")
        fleet[name] = _made(RobotConfig, {} if entry is None else entry, f"{path}: robots.{name}")
    return fleet


def pick(path: Path | str, name: str) -> RobotConfig:
    """One robot of a fleet file, whose domain and interface are here. Raises InputError for what is not."""
    fleet = read_fleet(path)
    if name not in fleet:
        raise InputError(f"{path} has no robot {name!r}: it has {', '.join(fleet)}")
    robot = fleet[name]
    check_domain(robot.domain, "bridge", robot.interface)
    return robot


def _made(cls: Any, raw: Any, where: str) -> Any:
    """A frozen config of nested mappings, each entry of its declared type."""
    if not isinstance(raw, Mapping):
        raise InputError(f"{where} is {raw!r}; it must be a mapping")
    types = get_type_hints(cls)
    known = {field.name for field in fields(cls)}
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in known:
            raise InputError(f"{where} has the unknown entry {name!r}; it may have {', '.join(sorted(known))}")
        values[name] = _entry(types[name], value, f"{where}.{name}")
    try:
        return cls(**values)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _entry(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _made(kind, value, where)
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InputError(f"{where} is {value!r}; it must be a list of names")
        return tuple(value)
    allowed = {int: int, float: (int, float), str | None: (str, type(None)), float | None: (int, float, type(None))}
    wanted: Any = allowed.get(kind, str)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise InputError(f"{where} is {value!r}; it must be {getattr(kind, '__name__', kind)}")
    return float(value) if kind in (float, float | None) and value is not None else value
