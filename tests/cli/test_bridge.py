"""`scaling bridge`: a clip tracked in the twin, a fault as exit code 1, and a signal that ends in damping."""

import os
import signal
import threading

import numpy as np
import pytest

from scaling.bridge.sim import SimRobot
from scaling.motion.clip import Motion
from scaling.motion.native import write_npz
from scaling.robot.g1 import standing_qpos

KEYS = {"state", "ticks", "overruns", "latency_ms", "faults"}


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A minute of standing: longer than servos alone stand, and than any signal takes."""
    motion = Motion(np.tile(standing_qpos(), (3000, 1)), 50.0, "long")
    return write_npz(motion, tmp_path_factory.mktemp("long") / "long.npz")


def test_a_clip_to_its_end(call, policy_folder, standing, tmp_path):
    flags = ("--motion", standing, "--transport", "sim", "--assist", "1", "--fast", "--out", tmp_path)
    called = call("bridge", "run", policy_folder, *flags, "--json", "-")
    assert called.code == 0, called.err
    assert called.json.keys() >= KEYS
    assert called.json["state"] == "damping"
    assert called.json["faults"] == []
    assert called.json["ticks"] >= 50
    assert (tmp_path / "rollout.npz").is_file()


def test_a_fall_is_a_failed_check(call, policy_folder, long):
    called = call("bridge", "run", policy_folder, "--motion", long, "--fast")
    assert called.code == 1
    assert "tilted" in called.out


def test_sigterm_while_tracking_ends_in_damping(call, policy_folder, long, monkeypatch):
    release = SimRobot.release

    def and_then_sigterm(robot):
        release(robot)
        for seconds in (0.5, 1.0):  # the second falls into the damping
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()

    monkeypatch.setattr(SimRobot, "release", and_then_sigterm)
    called = call("bridge", "run", policy_folder, "--motion", long, "--assist", "1", "--json", "-")
    assert called.code == 0, called.err
    assert called.json["state"] == "damping"
    assert called.json["ended"] == "stopped by the operator"
    assert 1 <= called.json["ticks"] <= 60  # a busy machine tracks fewer ticks in half a second
    times = {change["to"]: change["time_s"] for change in called.json["transitions"]}
    assert times["damping"] - times["track"] < 1.0, "the first signal was obeyed, not the second"


def test_a_flight_is_replayed_and_its_status_read(call, refused, policy_folder, standing, tmp_path):
    flags = ("--motion", standing, "--assist", "1", "--fast", "--out", tmp_path, "--status", tmp_path / "status.json")
    run = call("bridge", "run", policy_folder, *flags, "--json", "-").json
    status = call("bridge", "status", "--status", tmp_path / "status.json", "--json", "-").json
    assert status.keys() >= KEYS
    assert {name: status[name] for name in KEYS} == {name: run[name] for name in KEYS}
    assert status["running"] is False
    again = call("bridge", "replay", tmp_path / "flight", "--json", "-")
    assert again.code == 0, again.err
    assert again.json.keys() >= KEYS
    assert again.json["ticks"] == again.json["compared"] == run["ticks"]
    assert again.json["identical"]
    assert "is no flight recording" in refused("bridge", "replay", tmp_path)
    assert "no bridge has run here" in refused("bridge", "status", "--status", tmp_path / "other.json")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--assist", "2"), "assist is 2"),
        (("--assist", "1"), "add --motion CLIP"),
        (("--seconds", "0"), "seconds is 0"),
        (("--domain", "0"), "domain 0 is the robot itself"),
        (("--domain", "9999"), "domain is 9999"),
        (("--motion", "nothing.csv"), "nothing.csv"),
        (("--viewer",), "there is no screen here to open a window on"),
    ],
)
def test_what_no_twin_can_be(refused, flags, said, monkeypatch):
    for screen in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(screen, raising=False)
    assert said in refused("bridge", "simulate", *flags)


def test_dds_refuses_what_the_wire_cannot_do(refused, policy_folder, standing):
    run = ("bridge", "run", policy_folder, "--motion", standing, "--transport", "dds")
    assert "leave out --fast" in refused(*run, "--fast")
    assert "--assist to bridge simulate" in refused(*run, "--assist", "1")
    assert "domain 0 is the robot itself" in refused(*run, "--domain", "0")


def test_a_robot_of_a_fleet(call, refused, policy_folder, standing, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("robots:\n  twin: {backend: onnx, ramp: 0.5}\n  tina: {domain: 0, start: remote, interface: lo}\n")
    run = ("bridge", "run", policy_folder, "--motion", standing, "--fleet", fleet)
    report = call(*run, "--robot", "twin", "--transport", "sim", "--assist", "1", "--fast", "--json", "-").json
    assert (report["robot"], report["policy_backend"], report["providers"]) == ("twin", "onnx", ["cpu"])
    status = call("bridge", "status", "--fleet", fleet, "--json", "-").json
    assert status["robots"]["twin"]["ticks"] == report["ticks"]
    assert status["robots"]["tina"] is None
    one = call("bridge", "status", "--fleet", fleet, "--robot", "twin", "--json", "-").json
    assert one["ended"] == report["ended"]
    assert "give --fleet YAML and --robot NAME" in refused(*run)
    assert "no robot 'tom'" in refused(*run, "--robot", "tom")
    assert "leave out --domain" in refused(*run, "--robot", "twin", "--domain", "3")
    assert "name the network interface" in refused(*run, "--robot", "tina")
    assert "no bridge has run here" in refused("bridge", "status", "--fleet", fleet, "--robot", "tina")


def test_what_no_stream_can_be(refused, policy_folder, standing):
    run = ("bridge", "run", policy_folder)
    assert "either --motion CLIP or --stream" in refused(*run)
    assert "give udp://HOST:PORT" in refused(*run, "--stream", "here")
    assert "policy backend is 'tpu'" in refused(*run, "--motion", standing, "--backend", "tpu")
    assert "'npu'" in refused(*run, "--motion", standing, "--backend", "onnx", "--providers", "npu")
    assert "start the bridge first" in refused("bridge", "send", standing, "--to", "ws://127.0.0.1:9")
