"""The flight recorder keeps the newest ticks, and the replay finds the first action that is not the policy's."""

import functools
import itertools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from scaling.bridge.clock import VirtualClock
from scaling.bridge.fleet import TWIN
from scaling.bridge.recorder import PHASES, RING, TICK, Recorder, read_log, replay
from scaling.bridge.run import run_bridge
from scaling.bridge.runtime import Runtime, Tick
from scaling.bridge.sim import SimRobot
from scaling.bridge.status import read_status
from scaling.bridge.transport import RobotState
from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.motion.native import write_npz
from scaling.policy.load import load_policy
from scaling.robot.g1 import standing_qpos
from tests.bridge.conftest import OBS


@pytest.fixture(scope="module")
def flight(policy, tmp_path_factory):
    """The recording of 1.2 s of standing in the harness."""
    folder = tmp_path_factory.mktemp("flight")
    motion = write_npz(Motion(np.tile(standing_qpos(), (60, 1)), 50.0, "standing"), folder / "standing.npz")
    report = run_bridge(policy, motion, realtime=False, assist=1.0, out=folder, status=folder / "status.json")
    assert report["faults"] == []
    return folder / "flight"


@pytest.fixture
def copied(flight, tmp_path):
    return shutil.copytree(flight, tmp_path / "flight")


def ring_of(folder):
    """The ring of a recording, and where in it the ticks lie that the policy answered."""
    ring = np.lib.format.open_memmap(folder / RING, "r+")
    return ring, np.flatnonzero(ring["answered"])


def test_every_tick_is_there_and_is_the_same_again(flight):
    about, kept = read_log(flight)
    assert about["clip"] == "standing"
    phases = [PHASES[n] for n in kept["phase"]]
    assert [name for name, _ in itertools.groupby(phases)] == ["damping", "ramp", "stand-by", "track"]
    assert (kept["frame"][~kept["answered"]][:-1] == -1).all() and np.isfinite(kept["quat"]).all()
    ticks = kept[kept["answered"]]
    np.testing.assert_array_equal(ticks["frame"], np.arange(len(ticks)))
    assert (np.diff(ticks["time"]) > 0).all()
    assert (ticks["latency"] > 0).all()
    assert ticks["obs"].any()
    assert np.isnan(ticks["torque"]).all(), "the simulation in process tells no torque"
    report = replay(flight)
    assert report["ok"] and report["identical"]
    assert report["first_difference"] is None
    assert report["compared"] == report["ticks"] == len(ticks)


def test_the_other_backend_is_equal_within_the_tolerance(flight):
    backends = {replay(flight, backend=name)["backend"]: replay(flight, backend=name) for name in ("xla", "onnx")}
    assert all(report["ok"] for report in backends.values())
    assert sum(report["identical"] for report in backends.values()) >= 1


@pytest.mark.parametrize("place", [0, 17, 59])
def test_the_first_changed_action_is_found(copied, place):
    ring, tracked = ring_of(copied)
    ring["action"][tracked[place:], 4] += 1e-3
    ring.flush()
    report = replay(copied)
    assert not report["ok"]
    assert report["first_difference"]["tick"] == ring["number"][tracked[place]]
    assert report["first_difference"]["frame"] == place
    assert report["first_difference"]["by"] == pytest.approx(1e-3, rel=0.05)


def test_a_changed_observation_is_found_where_it_was_seen(copied):
    ring, tracked = ring_of(copied)
    ring["obs"][tracked[30]] += 0.5
    ring.flush()
    assert replay(copied)["first_difference"]["frame"] == 30


def test_an_action_that_is_not_a_number_differs(copied):
    ring, tracked = ring_of(copied)
    ring["action"][tracked[5], 0] = np.nan
    ring.flush()
    assert replay(copied)["first_difference"]["frame"] == 5


def ill_reading(read, late, wait=0.0):
    """A robot whose gyro fails."""
    state = read()
    return state._replace(gyro=np.full(3, np.nan)) if late() else state


def broken_act(act, late, obs, first):
    """A policy that raises."""
    if late():
        raise ZeroDivisionError
    return act(obs, first)


def test_the_tick_that_ends_a_run_is_kept_with_what_was_read(policy, squats, tmp_path):
    """One whose reading is at fault, and one whose policy breaks."""
    for name in ("reading", "policy"):
        loaded = load_policy(policy, backend="onnx")
        recorder = Recorder(tmp_path / name, policy, loaded.manifest_hash, "onnx", squats)
        clock = VirtualClock()
        robot = SimRobot(squats, clock)
        late = functools.partial(lambda clock: clock.now() > 4.0, clock)
        if name == "reading":
            robot.read = functools.partial(ill_reading, robot.read, late)
        else:
            loaded.act = functools.partial(broken_act, loaded.act, late)
        runtime = Runtime(loaded, squats, robot, clock, TWIN, lambda state: True, on_tick=recorder.write)
        [fault] = runtime.run()["faults"]
        recorder.close()
        last = read_log(tmp_path / name)[1][-1]
        assert not last["answered"] and last["frame"] > 0 and np.isnan(last["action"]).all()
        assert PHASES[last["phase"]] == "track"
        assert np.isnan(last["gyro"]).all() == ("gyro is not finite" in fault) == (name == "reading")
        assert np.isnan(last["obs"]).all() == (name == "reading")


def ticks(count, start=0):
    """Ticks whose observations are their own numbers."""
    zero = np.zeros(29)
    for n in range(start, start + count):
        state = RobotState(0.02 * n, np.array([1.0, 0, 0, 0]), np.zeros(3), zero, zero)
        yield Tick(n, 0.02 * n, state, np.full(OBS, n, np.float32), zero + n, zero, 0.001)


def test_the_ring_keeps_the_newest_in_order(policy, squats, tmp_path):
    loaded = load_policy(policy, backend="onnx")
    recorder = Recorder(tmp_path / "log", policy, loaded.manifest_hash, "onnx", squats, capacity=7)
    size = (tmp_path / "log" / RING).stat().st_size
    for tick in ticks(17):
        recorder.write(tick)
    recorder.close()
    _, kept = read_log(tmp_path / "log")
    assert kept["number"].tolist() == list(range(11, 18))
    assert kept["frame"].tolist() == list(range(10, 17))
    assert (tmp_path / "log" / RING).stat().st_size == size


def test_a_ring_that_has_lost_its_beginning_replays_what_it_can(policy, squats, tmp_path):
    """Past what the policy remembers the actions are those of the whole flight."""
    loaded = load_policy(policy, backend="onnx")
    recorder = Recorder(tmp_path / "log", policy, loaded.manifest_hash, "onnx", squats, capacity=60)
    rng = np.random.default_rng(0)
    for n, tick in enumerate(ticks(100)):
        obs = rng.normal(size=OBS).astype(np.float32)
        recorder.write(tick._replace(obs=obs, action=loaded.act(obs, n == 0)))
    recorder.close()
    report = replay(tmp_path / "log")
    assert report["ok"], report
    assert report["ticks"] == 60
    assert report["compared"] == 60 - 32, "one layer of 32 ticks brings the memory back"


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.bridge.test_recorder import Recorder, ticks
from scaling.bridge.reference import ClipReference
from scaling.motion.synthetic import generate
recorder = Recorder(Path(sys.argv[1]), Path("p"), "hash", "onnx", ClipReference(generate("squat", 4.0, 3)), 50)
for tick in ticks(20):
    recorder.write(tick)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_has_written_what_it_has_recorded(tmp_path, request):
    done = subprocess.run(
        [sys.executable, "-c", _KILLED.format(root=str(request.config.rootpath)), tmp_path], check=False
    )
    assert done.returncode == -9
    assert len(read_log(tmp_path)[1]) == 20


def test_what_is_no_recording_is_told(policy, copied, tmp_path, squats):
    with pytest.raises(InputError, match="is no flight recording"):
        replay(tmp_path)
    (copied / "flight.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        replay(copied)
    for spoilt in (b"", b"PK\x03\x04 no zip", (copied / RING).read_bytes()[:-1]):
        (copied / RING).write_bytes(spoilt)
        with pytest.raises(InputError, match="cannot be read"):
            replay(copied)
    Recorder(tmp_path / "empty", policy, "x", "onnx", squats, capacity=3).close()
    with pytest.raises(InputError, match="holds no tick"):
        replay(tmp_path / "empty")


def test_another_policy_than_flew_is_refused(copied):
    about = json.loads((copied / "flight.json").read_text())
    (copied / "flight.json").write_text(json.dumps(about | {"manifest": "0" * 64}))
    with pytest.raises(InputError, match="is not the policy of this recording"):
        replay(copied)
    (copied / "flight.json").write_text(json.dumps(about | {"schema": 99}))
    with pytest.raises(InputError, match="another version"):
        replay(copied)
    (copied / "flight.json").write_text("[1]")
    with pytest.raises(InputError, match="another version"):
        replay(copied)


def test_the_status_of_a_run_that_is_over(flight, tmp_path):
    path = flight.parent / "status.json"
    status = read_status(path)
    assert not status["running"]
    assert status["over"]
    assert status["ended"] == "the clip has ended"
    assert status["age_s"] >= 0
    alive = json.loads(path.read_text()) | {"over": False}
    (tmp_path / "alive.json").write_text(json.dumps(alive))
    assert read_status(tmp_path / "alive.json")["running"]
    (tmp_path / "dead.json").write_text(json.dumps(alive | {"pid": 2**22 + 1}))
    assert not read_status(tmp_path / "dead.json")["running"]
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(InputError, match="not a status"):
        read_status(tmp_path / "bad.json")


def test_a_tick_is_small():
    assert TICK.itemsize < 2500
