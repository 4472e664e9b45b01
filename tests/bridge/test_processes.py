"""The bridge and the twin as processes over DDS: a clip to its end, a killed policy, a killed robot."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.bridge.fleet import TWIN
from scaling.bridge.messages import command_of
from scaling.bridge.recorder import read_log
from scaling.bridge.twin import simulate
from scaling.motion.native import write_npz
from scaling.motion.synthetic import generate

pytest.importorskip("cyclonedds")
pytestmark = pytest.mark.slow

STALE = 3.0  # s
SCALING = (sys.executable, "-m", "scaling")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds of squats."""
    return write_npz(generate("squat", 4.0, 3), tmp_path_factory.mktemp("clips") / "squat.npz")


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """More of them than any test takes to kill somebody."""
    return write_npz(generate("squat", 60.0, 3), tmp_path_factory.mktemp("clips") / "long.npz")


@pytest.fixture
def domain(request):
    """A domain for this test alone, so that no two runs on one machine hear each other."""
    names = (
        "test_a_clip_to_its_end",
        "test_a_killed_policy",
        "test_a_killed_robot",
        "test_a_killed_writer",
        "test_a_second",
        "test_one_bridge",
    )
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


@pytest.fixture
def fleet(tmp_path, domain):
    """Flags of a twin whose watchdogs bear with a machine that has much else to do; what they do is tested elsewhere.

    The faults are injected with the limits as they are in test_faults.py and test_writer.py, on clocks of their own.
    """
    patient = {"stale": STALE, "gap": 20.0, "overrun": 10.0, "late_ticks": 5000}
    patient |= {"tilt": 3.0, "velocity_share": 9.0, "torque_share": 9.0}  # a robot that is commanded late stumbles
    robot = {"domain": domain, "ramp": 0.5, "standby": 0.5, "hold": 2 * STALE, "backend": "onnx", "limits": patient}
    (tmp_path / "fleet.yaml").write_text(json.dumps({"robots": {"twin": robot}}))
    return "--fleet", tmp_path / "fleet.yaml", "--robot", "twin"


_TORSO = """
import os, time
import numpy as np
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from scaling.bridge import idl
from scaling.bridge.dds import DdsWire
from scaling.bridge.messages import Imu, imu_message
wire = DdsWire(10 + os.getpid() % 180, "robot")
reader = DataReader(wire.participant, Topic(wire.participant, "rt/secondary_imu", idl.IMUState_))
message = imu_message(Imu(np.array([0.6, 0.0, 0.8, 0.0]), np.arange(3.0), np.array([1.0, 2.0, 9.0])))
end, heard = time.monotonic() + 30, None
while heard is None and time.monotonic() < end:
    wire.send_torso(message)
    heard = next(iter(reader.take()), None)
    time.sleep(0.01)
print(*heard.quaternion, *heard.gyroscope, *heard.accelerometer, *heard.rpy, heard.temperature)
wire.close()
"""


def test_a_twin_that_nobody_commands_says_how_it_was(tmp_path):
    """`simulate --seconds` before any bridge: no round trip, and no traceback for want of one."""
    domain = 10 + (os.getpid() + 90) % 180
    report = simulate(domain, seconds=2.0)
    assert report["round_trip_ms"] is None and report["obeyed"] == 0
    assert report["states"] > 10


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="no Xvfb to open a window on")
def test_the_viewer_opens_closes_and_leaves_a_clean_end():
    arguments = ["simulate", "--viewer", "--seconds", "1", "--domain", str(10 + (os.getpid() + 91) % 180), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    command = ["xvfb-run", "-a", *SCALING, "bridge", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["obeyed"]) == (0, 0), done.stderr


def test_the_torsos_imu_is_read_by_the_robots_own_type():
    """Through DDS, as an object of fields: pitched by more than a right angle, rpy is (pi, pi - that, pi)."""
    done = subprocess.run([sys.executable, "-c", _TORSO], capture_output=True, text=True, check=True)
    pitch = np.pi - 2 * np.arccos(0.6)
    expected = [0.6, 0.0, 0.8, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0, 9.0, np.pi, pitch, np.pi, 40]
    np.testing.assert_allclose(np.array(done.stdout.split(), float), expected, atol=1e-5)


def twin(start, domain, clip, *more):
    """The twin, once it speaks."""
    process = start("simulate", "--motion", clip, "--assist", 1, "--domain", domain, *more)
    assert "the twin speaks" in process.stderr.readline()
    return process


def until(condition, seconds=200.0):
    """Wait for it: a machine with much else to do takes minutes to start two processes."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def read(path):
    """A JSON file that another process renews, None before it is there."""
    return json.loads(path.read_text()) if path.exists() else None


def test_a_clip_to_its_end(start, domain, fleet, clip, policy, tmp_path):
    """With the robot's own service in the way, which is released, and a battery that is told."""
    held = ("--service", "ai", "--battery", 77)
    robot = twin(start, domain, clip, *held, "--out", tmp_path / "twin", "--json", tmp_path / "twin.json")
    status = tmp_path / "status.json"
    run = start(
        *("run", policy, "--motion", clip, *fleet, "--release"),
        *("--out", tmp_path / "run", "--status", status, "--json", tmp_path / "run.json"),
    )
    out, err = run.communicate(timeout=400)
    report = read(tmp_path / "run.json")
    assert run.returncode == 0, (err + out, report and report["ended"])
    assert report["faults"] == []
    assert report["ended"] == "the clip has ended"
    assert [t["to"] for t in report["transitions"]] == ["ramp", "stand-by", "track", "damping"]
    assert report["ticks"] + report["skipped"] >= 200
    robot.send_signal(signal.SIGINT)
    robot.communicate(timeout=200)
    simulated = read(tmp_path / "twin.json")
    assert simulated["released"]
    assert simulated["rejected"] == simulated["ignored"] == 0
    assert simulated["obeyed"] > 100
    assert simulated["holder"] == ""
    assert simulated["round_trip_ms"]["median"] > 0
    assert (tmp_path / "twin" / "rollout.npz").is_file()
    # The same numbers in the status and in the flight recorder.
    kept, flown = read(status), read_log(tmp_path / "run" / "flight")[1]
    ticks = flown[flown["answered"]]
    assert kept["over"]
    assert kept["battery"] == report["battery"] == 77
    assert (kept["robot"], kept["domain"]) == ("twin", domain)
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


def tracking(run, path):
    """Whether the bridge of this status file tracks."""
    assert run.poll() is None, run.communicate()
    status = read(path)
    return status is not None and status["state"] == "track"


@contextlib.contextmanager
def stalls():
    """A function that tells the longest time (s) for which this machine let a thread wait that wanted to run."""
    over, late = threading.Event(), [0.0]

    def probe():
        while not over.is_set():
            before = time.monotonic()
            time.sleep(0.002)
            late.append(time.monotonic() - before - 0.002)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield lambda: max(late)
    finally:
        over.set()
        thread.join()


class Listener:
    """Hears the commands as the robot does: when each came, and whether it was stiff."""

    def __init__(self, domain):
        from scaling.bridge.dds import DdsWire

        self.wire, self.heard = DdsWire(domain, "robot"), []

    def listen(self):
        newest = self.wire.latest()
        if newest is not None and (not self.heard or newest[0] != self.heard[-1][0]):
            self.heard.append((newest[0], bool(command_of(newest[1]).kp.any())))
        return self.heard and self.heard[-1][1]


def test_a_killed_policy_is_damped_within_a_tenth_of_a_second(start, domain, fleet, long, policy, tmp_path):
    """Beyond what the machine itself stands still meanwhile, twice: the writer's process has to wake, and this one."""
    twin(start, domain, long)
    status = tmp_path / "status.json"
    run = start("run", policy, "--motion", long, *fleet, "--status", status)
    listener = Listener(domain)
    until(lambda: tracking(run, status))
    until(listener.listen)
    with stalls() as stall:
        run.kill()
        killed = time.monotonic()
        until(lambda: not listener.listen())
    damped = listener.heard[-1][0]
    assert damped - killed < 0.1 + 2 * stall()
    until(lambda: listener.listen() or listener.heard[-1][0] > killed + 0.5)
    assert not listener.heard[-1][1], "the writer lives on, and damps"
    assert (command_of(listener.wire.latest()[1]).kd == 8).all()
    listener.wire.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_writer_leaves_nobody_stiff(how, start, domain, fleet, long, policy, tmp_path):
    """The policy's process damps by a voice of its own: at once, or where the writer hangs once states are old."""
    twin(start, domain, long)
    status = tmp_path / "status.json"
    run = start("run", policy, "--motion", long, *fleet, "--status", status, "--json", tmp_path / "run.json")
    listener = Listener(domain)
    until(lambda: tracking(run, status))
    until(listener.listen)
    [writer] = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    with stalls() as stall:
        os.kill(int(writer), how)
        killed = time.monotonic()
        until(lambda: not listener.listen())
    soon = 0.1 if how == signal.SIGKILL else STALE + 0.1
    assert listener.heard[-1][0] - killed < soon + 2 * stall()
    assert (command_of(listener.wire.latest()[1]).kd == 8).all()
    _, err = run.communicate(timeout=200)
    assert run.returncode == 1 and "Traceback" not in err
    ended = read(tmp_path / "run.json")["ended"]
    hangs = ("the command writer takes no more commands", "ms old")  # its socket is full, or its states are old
    assert any(words in ended for words in (("the command writer has ended",) if how == signal.SIGKILL else hangs))
    assert not Path(f"/proc/{writer}").exists()
    listener.wire.close()


def test_a_killed_robot_is_a_clear_line(start, domain, fleet, long, policy, tmp_path):
    robot = twin(start, domain, long)
    status = tmp_path / "status.json"
    run = start("run", policy, "--motion", long, *fleet, "--status", status, "--json", tmp_path / "run.json")
    until(lambda: tracking(run, status))
    robot.kill()
    out, err = run.communicate(timeout=200)
    assert run.returncode == 1, out + err
    report = read(tmp_path / "run.json")
    assert f"ms old (limit {1e3 * STALE:.0f} ms)" in report["ended"]
    assert report["state"] == "damping"
    assert "Traceback" not in err


def test_one_bridge_for_a_robot_and_one_robot_for_a_domain(start, domain, fleet, long, policy, tmp_path):
    """Whoever comes second is refused by a sentence, before it has said anything; who was first goes on."""
    twin(start, domain, long)
    other = start("simulate", "--domain", domain)
    assert other.wait(timeout=200) == 2
    assert "another robot speaks on domain" in other.stderr.read()
    status = tmp_path / "status.json"
    run = start("run", policy, "--motion", long, *fleet, "--status", status)
    until(lambda: tracking(run, status))
    other = start("run", policy, "--motion", long, *fleet, "--status", tmp_path / "other.json")
    assert other.wait(timeout=200) == 2
    assert "another bridge commands this robot already" in other.stderr.read()
    assert not (tmp_path / "other.json").exists()
    assert tracking(run, status)
    assert read(status)["ended"] is None
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, out + err
    assert "stopped by the operator" in out


def test_a_second_without_a_robot_is_one_sentence(start, domain, clip, policy, monkeypatch):
    from scaling.bridge import run
    from scaling.errors import InputError

    monkeypatch.setattr(run, "FIRST_STATE", 1.0)
    with pytest.raises(InputError, match="start the twin first") as caught:
        run.run_bridge(policy, clip, "dds", robot=replace(TWIN, domain=domain, backend="onnx"))
    assert "\n" not in str(caught.value)
