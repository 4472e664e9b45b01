"""A peer of cyclonedds 0.10.2, which the robot's own software bundles, hears the twin and lives.

Needs a Python that has that version (3.10 or older): name it in `SCALING_CYCLONEDDS_010`.
"""

import os
import subprocess

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
