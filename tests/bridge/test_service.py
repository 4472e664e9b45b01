"""The robot's own motion service is asked, released where that is allowed, and refused where it holds on."""

import os
import subprocess
import sys
import time

import pytest

from scaling.errors import InputError

pytest.importorskip("cyclonedds")

# The robot's side is a process of its own, for DDS keeps one domain for each process.
_ROBOT = """
import sys, time
from scaling.bridge import service
from scaling.bridge.dds import join
domain, participant = join(int(sys.argv[1]), "robot", None)
simulated = service.SimulatedService(participant, sys.argv[2])
if sys.argv[3] == "stubborn":
    service.RELEASE = -1
print("up", flush=True)
while True:
    simulated.step()
    time.sleep(0.005)
"""


@pytest.fixture
def robot(request):
    """`robot(name, manner)`: the domain of a robot whose service `name` holds the motors."""
    running = []

    def start(name, manner="willing"):
        domain = 10 + (os.getpid() * 3 + len(running)) % 180
        process = subprocess.Popen(
            [sys.executable, "-c", _ROBOT, str(domain), name, manner], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout.readline() == "up\n"
        return domain

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_it_is_released_only_where_that_is_allowed(robot):
    from scaling.bridge.service import take_over

    domain = robot("ai")
    with pytest.raises(InputError, match="the robot's own service 'ai' holds the motors") as caught:
        take_over(domain, None, release=False)
    assert "--release" in str(caught.value)
    assert take_over(domain, None, release=True) == "ai"
    assert take_over(domain, None, release=False) == "", "and it stays released"


def test_a_service_that_does_not_let_go_or_is_not_there_is_told(robot, monkeypatch):
    from scaling.bridge import service

    domain = robot("ai", "stubborn")
    with pytest.raises(InputError, match=r"cannot be taken over: function 1003 .* failed with code 3203"):
        service.take_over(domain, None, release=True)
    client = service.MotionService(domain + 1 if domain < 189 else 10)
    began = time.monotonic()
    with pytest.raises(service.ServiceError, match="no motion service answers"):
        client.holder(0.2)
    assert time.monotonic() - began < 10
    client.close()


def test_the_type_information_is_that_of_the_robots_own_software():
    from scaling.bridge import idl

    for cls in (idl.BmsState_, idl.IMUState_, idl.Request_, idl.Response_):
        idl.check_blobs(cls)
    assert len(idl._BLOBS) == 6


def test_a_real_robot_is_asked_before_anything_is_sent(monkeypatch, policy, tmp_path):
    """On domain 0 nothing moves a motor before the service has been asked, whether or not it was to be released."""
    from scaling.bridge import dds, link, run, service
    from scaling.bridge.fleet import ROBOT
    from scaling.motion.native import write_npz
    from scaling.motion.synthetic import generate

    asked = []

    def refuse(domain, interface, release):
        asked.append((domain, interface, release))
        raise InputError("the robot's own service holds the motors")

    monkeypatch.setattr(run, "check_domain", lambda *_: None)
    monkeypatch.setattr(dds, "join", lambda *_: pytest.fail("nothing joins the robot's domain"))
    monkeypatch.setattr(service, "take_over", refuse)
    monkeypatch.setattr(link, "WriterLink", lambda *_: pytest.fail("no writer is started"))
    clip = write_npz(generate("squat", 4.0, 3), tmp_path / "clip.npz")
    for release in (False, True):
        with pytest.raises(InputError, match="holds the motors"):
            run.run_bridge(policy, clip, "dds", robot=ROBOT, release=release, status=tmp_path / "status.json")
    assert asked == [(0, None, False), (0, None, True)]
