"""Devices and processes change nothing but the time: students, losses, and what a stopped training comes to."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from scaling.distill.mesh import Layout
from tests.distill import spread

SCRIPT = Path(spread.__file__)


def start(mode, work, devices=1, processes=1):
    """The script in processes of their own."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(SCRIPT.parents[2]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), mode, str(work)]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ranks = [[str(rank), str(processes), str(port)] for rank in range(processes)] if processes > 1 else [[]]
    return [subprocess.Popen([*command, *rank], env=env, stderr=subprocess.PIPE, text=True) for rank in ranks]


def finish(processes):
    try:
        for process in processes:
            _, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors[:6000]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def read(path):
    with np.load(path) as held:
        return dict(held)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "processes"), [(2, 1), (1, 2)], ids=["two devices", "two processes"])
def test_updates_are_the_same_on_one_device_two_devices_and_two_processes(devices, processes, tmp_path):
    finish(start("stream", tmp_path, devices, processes))
    for name, shape in spread.SHAPES.items():
        alone = spread.stream(*shape)
        assert alone["share"] == 1.0
        assert alone["losses"][-1].max() < 0.8 * alone["losses"][0].min()  # it learns
        for process in range(processes):
            found = read(tmp_path / f"{name}-{process}.npz")
            assert found["share"] < 0.6  # parameters are not whole anywhere
            np.testing.assert_allclose(found["losses"], alone["losses"], atol=1e-3, rtol=0)
            for leaf in (key for key in alone if key.isdigit()):
                np.testing.assert_allclose(found[leaf], alone[leaf], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "processes"), [(2, 1), (1, 2)], ids=["two devices", "two processes"])
def test_two_train_the_group_that_one_trains(group, straight, devices, processes, tmp_path):
    """Two devices also act by themselves, each for its own run."""
    finish(start("group", tmp_path, devices, processes))
    assert not list(tmp_path.glob("not-finite*"))
    acted = sorted(path.name for path in tmp_path.glob("round-*"))
    assert acted == ([f"round-{number}-by-2" for number in range(3)] if devices == 2 else [])
    for student in straight:
        name = f"student-{student.columns['student_frames']}-{student.columns['unique_frames']}"
        for process in range(processes):
            found = read(tmp_path / f"{name}-{process}.npz")
            for place, leaf in enumerate(jax.tree.leaves(student.params)):
                np.testing.assert_allclose(found[str(place)], leaf, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_by_sigterm_it_exits_75_and_goes_on_to_the_same_students(processes, group, straight, train, tmp_path):
    """In the middle of an interval; of two processes the signal reaches one alone, and both save and end."""
    running = start("slow", tmp_path, 1, processes)
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and not (tmp_path / f"stepping-{processes - 1}").exists():
        assert all(process.poll() is None for process in running), running[0].communicate()[1][-2000:]
        time.sleep(0.02)
    running[-1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=120)[1] for process in running]
    for process, said in zip(running, errors, strict=True):
        assert process.returncode == 75, said[-2000:]
        assert "state saved" in said
    [kept] = (tmp_path / "rounds").glob("state-*")
    assert kept.name in ("state-0002", "state-0003")  # the first round's first update or the second
    assert not list(tmp_path.glob("student-*"))
    atol = 1e-6 if processes == 1 else 1e-4
    for found, wanted in zip(train(tmp_path), straight, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=0), found.params, wanted.params)
        if processes == 1:
            assert found.curve == wanted.curve


def test_one_device_holds_everything():
    layout = Layout(2, 3)
    assert layout.one
    tree = {"a": np.ones((2, 4))}
    assert layout.whole(layout.place(tree))["a"].shape == (2, 4)
