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


def test_what_is_not_built_yet(refused, policy_folder, standing):
    for verb in ("simulate", "status", "replay"):
        assert "not built yet" in refused("bridge", verb)
    assert "dds" in refused("bridge", "run", policy_folder, "--motion", standing, "--transport", "dds")
