"""The bridge and the twin as processes over DDS: a clip to its end, a killed policy, a killed robot."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from scaling.bridge.recorder import read_log
from scaling.motion.native import write_npz
from scaling.motion.synthetic import generate

pytest.importorskip("cyclonedds")
pytestmark = pytest.mark.slow

SCALING = (sys.executable, "-m", "scaling")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds of squats."""
    return write_npz(generate("squat", 4.0, 3), tmp_path_factory.mktemp("clips") / "squat.npz")


@pytest.fixture
def domain(request):
    """A domain for this test alone, so that no two runs on one machine hear each other."""
    names = ("test_a_clip_to_its_end", "test_a_killed_policy", "test_a_killed_robot", "test_a_second")
    index = next(n for n, name in enumerate(names) if request.node.name.startswith(name))
    return 10 + (os.getpid() * len(names) + index) % 180


@pytest.fixture
def start(tmp_path):
    """`start(*arguments)`: a `scaling bridge` process, which does not outlive the test."""
    running = []

    def run(*arguments):
        process = subprocess.Popen(
            [*SCALING, "bridge", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def twin(start, domain, clip, *more):
    """The twin, once it speaks."""
    process = start("simulate", "--motion", clip, "--assist", 1, "--domain", domain, *more)
    assert "the twin speaks" in process.stderr.readline()
    return process


def until(condition, seconds=30.0):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def read(path):
    """A JSON file that another process renews, None before it is there."""
    return json.loads(path.read_text()) if path.exists() else None


def test_a_clip_to_its_end(start, domain, clip, policy, tmp_path):
    robot = twin(start, domain, clip, "--out", tmp_path / "twin", "--json", tmp_path / "twin.json")
    status = tmp_path / "status.json"
    run = start(
        *("run", policy, "--motion", clip, "--transport", "dds", "--domain", domain, "--backend", "onnx"),
        *("--out", tmp_path / "run", "--status", status, "--json", tmp_path / "run.json"),
    )
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err + out
    report = read(tmp_path / "run.json")
    assert report["faults"] == []
    assert report["ended"] == "the clip has ended"
    assert [t["to"] for t in report["transitions"]] == ["ramp", "stand-by", "track", "damping"]
    assert report["ticks"] + report["skipped"] >= 200
    robot.send_signal(signal.SIGINT)
    robot.communicate(timeout=30)
    simulated = read(tmp_path / "twin.json")
    assert simulated["released"]
    assert simulated["rejected"] == simulated["ignored"] == 0
    assert simulated["obeyed"] > 500
    assert simulated["round_trip_ms"]["median"] > 0
    assert (tmp_path / "twin" / "rollout.npz").is_file()
    # The same numbers in the status and in the flight recorder.
    kept, ticks = read(status), read_log(tmp_path / "run" / "flight")[1]
    assert kept["over"]
    assert kept["ticks"] == report["ticks"] == len(ticks)
    assert kept["ended"] == report["ended"]
    assert kept["latency_ms"]["median"] == pytest.approx(
        1e3 * float(sorted(ticks["latency"])[len(ticks) // 2]), rel=0.2
    )
    replayed = subprocess.run(
        [*SCALING, "bridge", "replay", tmp_path / "run" / "flight", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(replayed.stdout)["identical"]


def tracking(path):
    """Whether the bridge of this status file tracks."""
    status = read(path)
    return status is not None and status["state"] == "track"


def test_a_killed_policy_is_damped_within_a_tenth_of_a_second(start, domain, clip, policy, tmp_path):
    from scaling.bridge.dds import DdsWire
    from scaling.bridge.messages import command_of

    twin(start, domain, clip)
    status = tmp_path / "status.json"
    flags = ("--transport", "dds", "--domain", domain, "--backend", "onnx", "--status", status)
    run = start("run", policy, "--motion", clip, *flags)
    listener = DdsWire(domain, "robot")
    until(lambda: tracking(status))
    until(lambda: listener.latest() is not None and command_of(listener.latest()[1]).kp.any())
    run.kill()
    killed = time.monotonic()
    until(lambda: not command_of(listener.latest()[1]).kp.any())
    assert time.monotonic() - killed < 0.1
    time.sleep(0.5)
    stamp, message = listener.latest()
    assert stamp > killed + 0.4, "the writer lives on"
    assert not command_of(message).kp.any()
    assert (command_of(message).kd == 8).all()
    listener.close()


def test_a_killed_robot_is_a_clear_line(start, domain, clip, policy, tmp_path):
    robot = twin(start, domain, clip)
    status = tmp_path / "status.json"
    flags = ("--transport", "dds", "--domain", domain, "--backend", "onnx", "--status", status)
    run = start("run", policy, "--motion", clip, *flags, "--json", tmp_path / "run.json")
    until(lambda: tracking(status))
    robot.kill()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 1, out + err
    report = read(tmp_path / "run.json")
    assert "the robot's state is 10" in report["ended"]
    assert report["state"] == "damping"
    assert "Traceback" not in err


def test_a_second_without_a_robot_is_one_sentence(start, domain, clip, policy, monkeypatch):
    from scaling.bridge import run
    from scaling.errors import InputError

    monkeypatch.setattr(run, "FIRST_STATE", 1.0)
    with pytest.raises(InputError, match="start the twin first") as caught:
        run.run_bridge(policy, clip, "dds", domain=domain, backend="onnx")
    assert "\n" not in str(caught.value)
