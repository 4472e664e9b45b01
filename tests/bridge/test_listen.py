"""Motion comes in over the loopback: UDP, WebSocket and ZeroMQ carry the same message."""

import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.bridge.clock import WallClock
from scaling.bridge.fleet import TWIN
from scaling.bridge.listen import listening, read_address, send_clip, wait_for
from scaling.bridge.motion_message import MotionMessage, pack_message
from scaling.bridge.recorder import RING, replay
from scaling.bridge.run import run_bridge
from scaling.bridge.stream import StreamConfig, StreamReference
from scaling.errors import InputError
from scaling.motion.clip import Motion
from scaling.policy.archive import pack
from scaling.robot.g1 import standing_qpos

STANDING = Motion(np.tile(standing_qpos(), (25, 1)), 50.0, "standing")


def free_port(kind=socket.SOCK_DGRAM):
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as link:
        link.bind(("127.0.0.1", 0))
        return link.getsockname()[1]


def until(condition, seconds=20.0):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def stream():
    return StreamReference("test", WallClock(), StreamConfig())


def packed(sequence):
    return pack_message(MotionMessage(sequence, 50.0, 0.02 * sequence, 0.02 * sequence, STANDING.qpos[:3]))


@pytest.mark.parametrize(
    "text", ["", "7000", "udp://", "udp://host", "tcp://h:1", "udp://h:nan", "ws://h:1/path", "zmq://:5"]
)
def test_what_is_no_address_is_told(text):
    with pytest.raises(InputError, match="give udp://HOST:PORT"):
        read_address(text)


def test_over_udp_one_sender_at_a_time():
    address, taken = read_address(f"udp://127.0.0.1:{free_port()}"), stream()
    with listening(address, taken), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
            one.sendto(packed(0), address[1:])
            until(lambda: taken.ready)
            another.sendto(packed(1000), address[1:])
            one.sendto(b"nonsense", address[1:])
            one.sendto(b'{"qpos":' + b"[" * 50_000, address[1:])
            one.sendto(packed(1), address[1:])
            until(lambda: taken.report()["messages"] == 2)
        report = taken.report()
        assert report["rejected"] == 2
        assert "no JSON" in report["last_error"]
        with pytest.raises(InputError, match="cannot be listened on"), listening(address, stream()):
            pass


def test_over_websocket_each_message_is_answered():
    from websockets.sync.client import connect

    address, taken = read_address(f"ws://127.0.0.1:{free_port(socket.SOCK_STREAM)}"), stream()
    with listening(address, taken), connect(str(address)) as client:
        client.send(packed(0))
        answer = json.loads(client.recv(timeout=10))
        assert (answer["messages"], answer["error"], answer["lost"]) == (1, None, False)
        text = {"version": 1, "sequence": 1, "rate": 50, "time": 0, "sent": 0, "qpos": STANDING.qpos[:2].tolist()}
        client.send(json.dumps(text))
        assert json.loads(client.recv(timeout=10))["messages"] == 2
        client.send("no motion")
        assert json.loads(client.recv(timeout=10))["error"].startswith("no JSON")
    assert taken.ready


def test_over_websocket_one_sender_at_a_time_and_nonsense_ends_nobody():
    from websockets.sync.client import connect

    address, taken = read_address(f"ws://127.0.0.1:{free_port(socket.SOCK_STREAM)}"), stream()
    with listening(address, taken), connect(str(address)) as stranger, connect(str(address)) as one:

        def answer(client, data):
            client.send(data)
            return json.loads(client.recv(timeout=10))["error"]

        assert answer(stranger, '{"version":' * 50_000).startswith("no JSON")
        assert answer(one, packed(0)) is None, "who sends nonsense is followed by nobody"
        assert answer(stranger, packed(1000)) == "another sender is followed"
        assert answer(one, packed(1)) is None
        assert taken.report()["messages"] == 2
        time.sleep(1.1)
        assert answer(stranger, packed(1001)) is None, "and after a second of quiet anybody may send"


def test_over_zeromq_from_a_publisher():
    zmq = pytest.importorskip("zmq")
    taken = stream()
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        sequence = iter(range(10_000))
        with listening(read_address(f"zmq://127.0.0.1:{port}"), taken):
            until(lambda: publisher.send(packed(next(sequence))) or taken.report()["messages"] > 3)


@pytest.mark.parametrize("scheme", ["udp", "ws"])
def test_a_clip_is_sent_as_it_plays(scheme):
    port = free_port(socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM)
    address, taken = read_address(f"{scheme}://127.0.0.1:{port}"), stream()
    with listening(address, taken):
        began = time.monotonic()
        report = send_clip(STANDING, address, ahead=0.2)
        assert time.monotonic() - began > 2.4, "two seconds of its first pose, and half a second of clip"
        assert report["messages"] == 125
        until(lambda: taken.report()["messages"] >= 100)
        assert taken.report()["rejected"] == 0


def test_what_does_not_come_or_answer_is_one_sentence():
    taken = stream()
    address = read_address(f"ws://127.0.0.1:{free_port(socket.SOCK_STREAM)}")
    with pytest.raises(InputError, match="no motion has come"):
        wait_for(taken, address, 0.05)
    taken.take(b"nonsense")
    with pytest.raises(InputError, match="the last message was refused: 8 bytes"):
        wait_for(taken, address, 0.05)
    with pytest.raises(InputError, match="start the bridge first"):
        send_clip(STANDING, address)
    with pytest.raises(InputError, match="name another host"):
        send_clip(STANDING, read_address("udp://no-such-host.invalid:7000"))


def test_send_it_motion_and_it_moves(policy, squats, tmp_path):
    """The whole bridge in the simulation, fed over UDP in real time; it holds its last pose and ends when told."""
    address = f"udp://127.0.0.1:{free_port()}"
    config = StreamConfig(give_up=0.5)
    motion = Motion(squats.qpos[:100], 50.0, "squats")

    def send_once_somebody_listens():
        until(lambda: f":{int(address.rpartition(':')[2]):04X} " in Path("/proc/net/udp").read_text(), 120.0)
        send_clip(motion, read_address(address))

    thread = threading.Thread(target=send_once_somebody_listens)
    thread.start()

    robot = replace(TWIN, stream=config, backend="onnx")
    status = tmp_path / "status.json"
    zipped = pack(policy, tmp_path / "policy.zip")
    report = run_bridge(zipped, stream=address, robot=robot, assist=1.0, out=tmp_path, status=status)
    thread.join()
    assert report["faults"] == [], report
    assert "nothing has been streamed" in report["ended"]
    assert report["reference"]["messages"] > 50
    assert report["clip"] == address
    assert json.loads(status.read_text())["reference"]["source"] == address
    assert report["metrics"]["survival_s"] > 1.0
    with np.load(report["rollout"]) as rollout:
        moved = np.ptp(rollout["reference"][:, 7:], axis=0).max()
        assert moved == pytest.approx(np.ptp(motion.qpos[:, 7:], axis=0).max(), rel=0.2)
        assert np.ptp(rollout["qpos"][:, 7:], axis=0).max() > 0.5 * moved, "and the robot with it"
    replayed = replay(report["flight"])
    assert replayed["identical"] and replayed["ticks"] == report["ticks"]
    ring = np.lib.format.open_memmap(tmp_path / "flight" / RING, "r+")
    ring["action"][np.flatnonzero(ring["answered"])[30:], 2] += 1e-2
    ring.flush()
    assert replay(report["flight"])["first_difference"]["frame"] == 30
