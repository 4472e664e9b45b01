"""One YAML for all robots: read into the configs that the bridge keeps to, or refused by entry."""

import json

import pytest

from scaling.bridge.fleet import ROBOT, TWIN, RobotConfig, pick, read_fleet
from scaling.bridge.runtime import RuntimeConfig
from scaling.bridge.status import default_path
from scaling.errors import InputError

FLEET = """
robots:
  twin:
  tina:
    domain: 0
    interface: lo
    start: remote
    backend: onnx
    providers: [tensorrt, cuda, cpu]
    ramp: 4
    hold: 0.08
    limits: {battery: 40, tilt: 0.8}
    command_limits: {target_rate: 50}
    stream: {delay: 0.1, give_up: 5}
"""


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_what_is_written_is_what_the_bridge_keeps_to(fleet):
    robots = read_fleet(fleet)
    assert robots["twin"] == RobotConfig()
    tina = robots["tina"]
    assert tina.real
    assert (tina.domain, tina.interface, tina.start, tina.providers) == (0, "lo", "remote", ("tensorrt", "cuda", "cpu"))
    assert tina.ramp == 4
    assert (tina.standby, tina.linger, tina.hold) == (RuntimeConfig().standby, RuntimeConfig().linger, 0.08)
    assert tina.limits == tina.writer().limits
    assert (tina.writer().limits.battery, tina.writer().limits.tilt, tina.writer().limits.winding) == (40, 0.8, 120)
    assert tina.command_limits.target_rate == tina.writer().command_limits.target_rate == 50
    assert tina.writer().hold == 0.08
    assert not tina.writer().twin
    assert robots["twin"].writer().twin
    assert tina.stream.give_up == 5
    assert not TWIN.real
    assert ROBOT.start == "remote"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("robots:", "robot:", "names no robots"),
        ("tina:", "7:", "a robot is called 7"),
        ("domain: 0", "domain: zero", "robots.tina.domain is 'zero'; it must be int"),
        ("domain: 0", "domain: true", "robots.tina.domain is True"),
        ("start: remote", "start: now", "robots.tina: start is 'now'; use one of"),
        ("start: remote", "start: at_once", "a real robot, which starts by its remote alone"),
        ("backend: onnx", "backend: tpu", "backend is 'tpu'"),
        ("providers: [tensorrt, cuda, cpu]", "providers: cuda", "must be a list of names"),
        ("tilt: 0.8", "tlit: 0.8", "robots.tina.limits has the unknown entry 'tlit'"),
        ("tilt: 0.8", "tilt: -1", "robots.tina.limits: limit tilt is -1"),
        ("limits: {battery: 40, tilt: 0.8}", "limits: 3", "robots.tina.limits is 3; it must be a mapping"),
        ("hold: 0.08", "hold: 0.001", "robots.tina: hold is 0.001"),
        ("ramp: 4", "ramp: -4", "robots.tina: ramp is -4"),
        ("ramp: 4", "limit: {}", "robots.tina has the unknown entry 'limit'"),
        ("delay: 0.1", "delay: .nan", "delay is nan"),
        ("ramp: 4", "ramp: [", "cannot be read"),
    ],
)
def test_a_wrong_entry_is_named(fleet, old, new, said):
    assert old in FLEET
    fleet.write_text(FLEET.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_fleet(fleet)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_robot_that_cannot_be_reached_is_refused(fleet):
    assert pick(fleet, "twin").domain == 1
    with pytest.raises(InputError, match="no robot 'tony': it has twin, tina"):
        pick(fleet, "tony")
    with pytest.raises(InputError, match="name the network interface that leads to it"):
        pick(fleet, "tina")  # the loopback leads to no robot
    fleet.write_text(FLEET.replace("interface: lo", "interface: eth77"))
    with pytest.raises(InputError, match="no network interface 'eth77' here"):
        pick(fleet, "tina")
    with pytest.raises(InputError, match="does not exist"):
        pick(fleet.with_name("other.yaml"), "tina")


def test_the_status_of_a_fleet_is_that_of_each_robot(fleet, tmp_path, monkeypatch):
    from scaling.bridge.status import fleet_status

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    kept = {"pid": 1, "written": 0.0, "over": True, "state": "damping", "faults": ["the battery is at 19 %"]}
    default_path("tina").write_text(json.dumps(kept))
    report = fleet_status(read_fleet(fleet))
    assert report["robots"]["twin"] is None
    assert report["robots"]["tina"]["state"] == "damping"
    assert report["running"] == []
    assert report["faults"] == {"tina": ["the battery is at 19 %"]}
