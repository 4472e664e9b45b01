"""A peer of CycloneDDS 0.10.2, which the robot's own software bundles, talks with the bridge and lives.

In C it needs a compiler and Debian's packages of that version (apt install cyclonedds-dev cyclonedds-tools
libddsc0debian); in Python, an interpreter that has it (3.10 or older), named in `SCALING_CYCLONEDDS_010`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds")

_PEER = """
import sys, time
from dataclasses import dataclass
import cyclonedds.idl as idl, cyclonedds.idl.annotations as annotate, cyclonedds.idl.types as types
from cyclonedds.domain import DomainParticipant
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
source = open(sys.argv[1]).read().replace("t.byte", "types.uint8")
for name in ("array", "float32", "uint32", "int16"):
    source = source.replace(f"t.{name}", f"types.{name}")
exec(source[source.index("@dataclass"):source.index("# SHA-256")].replace("(IdlStruct", "(idl.IdlStruct"))
reader = DataReader(participant := DomainParticipant(198), Topic(participant, "rt/lowcmd", LowCmd_))
end = time.monotonic() + 10
while not (heard := reader.take()) and time.monotonic() < end:
    time.sleep(0.05)
print(len(heard) > 0 and heard[0].motor_cmd[3].q, flush=True)
"""


def test_it_reads_our_commands_and_does_not_crash(tmp_path):
    python = os.environ.get("SCALING_CYCLONEDDS_010")
    if python is None:
        pytest.skip("SCALING_CYCLONEDDS_010 names no Python with cyclonedds 0.10.2")
    from scaling.bridge import dds, idl
    from scaling.bridge.messages import command_message
    from scaling.bridge.transport import position_command
    from scaling.robot.g1 import KNEES_BENT_JOINTS

    (tmp_path / "lo.xml").write_text(dds._LOOPBACK)
    wire = dds.DdsWire(198, "bridge")
    environment = {**os.environ, "CYCLONEDDS_URI": f"file://{tmp_path}/lo.xml"}
    environment.pop("PYTHONPATH", None)
    peer = subprocess.Popen([python, "-c", _PEER, idl.__file__], env=environment, stdout=subprocess.PIPE, text=True)
    while peer.poll() is None:
        wire.send(command_message(position_command(KNEES_BENT_JOINTS), 5))
    wire.close()
    assert peer.returncode == 0
    assert float(peer.communicate()[0]) == pytest.approx(KNEES_BENT_JOINTS[3])


HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """`peer.c`, compiled against the library of that version where it is installed."""
    header = Path("/usr/include/dds/version.h")
    if (
        not header.is_file()
        or '"0.10.2"' not in header.read_text()
        or not (shutil.which("idlc") and shutil.which("cc"))
    ):
        pytest.skip("no C compiler, idlc and development files of CycloneDDS 0.10.2")
    folder = tmp_path_factory.mktemp("peer")
    subprocess.run(["idlc", "-l", "c", str(HERE / "peer.idl")], cwd=folder, check=True)
    sources = [str(HERE / "peer.c"), str(folder / "peer.c")]
    subprocess.run(["cc", f"-I{folder}", *sources, "-lddsc", "-o", str(folder / "peer")], cwd=folder, check=True)
    return folder / "peer"


def test_the_type_information_is_what_the_robots_own_compiler_makes(peer):
    """Each type mapping byte for byte, by the `idlc` of CycloneDDS 0.10.2."""
    from scaling.bridge import idl

    source = (peer.parent / "peer.c").read_text()
    for cls, (_, mapping) in idl._BLOBS.items():
        name = cls.__idl_typename__.replace(".", "_")
        found = re.search(rf"#define TYPE_MAP_CDR_{name} \(unsigned char \[\]\)\{{(.*?)\}}", source, re.DOTALL)
        blob = bytes(int(byte, 16) for byte in re.findall("0x([0-9a-f]{2})", found[1]))
        assert hashlib.sha256(blob).hexdigest() == mapping, name


def test_a_robot_in_c_hears_commands_tells_its_battery_and_answers(peer, tmp_path):
    from scaling.bridge import dds, service
    from scaling.bridge.messages import command_message
    from scaling.bridge.transport import position_command
    from scaling.robot.g1 import KNEES_BENT_JOINTS

    domain = 10 + os.getpid() % 180
    (tmp_path / "lo.xml").write_text(dds._LOOPBACK)
    wire = dds.DdsWire(domain, "bridge")
    client = service.MotionService.__new__(service.MotionService)  # on the participant that this process has already
    client._pair = service._Pair(wire.participant, "request", "response")
    process = subprocess.Popen(
        [peer, str(domain)],
        env={**os.environ, "CYCLONEDDS_URI": f"file://{tmp_path}/lo.xml"},
        stdout=subprocess.PIPE,
        text=True,
    )
    over = threading.Event()

    def command():
        while not over.wait(0.01):
            wire.send(command_message(position_command(KNEES_BENT_JOINTS), 5))

    thread = threading.Thread(target=command)
    thread.start()
    try:
        assert client.holder(60.0) == "ai"
        end = time.monotonic() + 60
        while wire.battery() is None and time.monotonic() < end:
            time.sleep(0.05)
        assert wire.battery()[0] == 63
        assert wire.rejected > 0, "its states are heard, and refused for their CRC"
        assert float(process.stdout.readline()) == pytest.approx(KNEES_BENT_JOINTS[3], abs=1e-6)
        assert process.poll() is None, "and it lives"
    finally:
        over.set()
        thread.join()
        process.kill()
        process.communicate()
        client._pair = None
        wire.close()
