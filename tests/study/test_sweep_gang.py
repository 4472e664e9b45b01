"""Gangs and launchers: a job of two processes is done again when one is lost; every launcher makes the same table."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scaling.errors import InputError
from scaling.record.ledger import PREEMPTED, Ledger
from scaling.record.shelf import LocalShelf
from scaling.study import sweep_follower
from scaling.study.gang import Gang, Place, place_of
from scaling.study.launch import slurm
from scaling.study.launch.command import WorkerCommand
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_rows import rows
from scaling.study.sweep_state import survey
from tests.study.sweeps import SAFE, entries, ledger_of

ROOT = Path(__file__).resolve().parents[2]
SMALL = [("rounds", 1000)]

# One job that both processes of a gang do; FOLDER/kill, made by a test, has the second one killed half-way, once.
TOGETHER = """
import os, signal
from pathlib import Path
from scaling.study.sweep import Job, Sweep, job_key, runs

FOLDER = Path({folder!r})

def add(work, needed):
    import jax
    import jax.numpy as jnp
    from jax.experimental.multihost_utils import process_allgather
    state = work / "turn.txt"
    turn = int(state.read_text()) if state.exists() else 0
    total = 0
    while turn < 4:
        total = int(process_allgather(jnp.asarray(jax.process_index() + 1)).sum())
        turn += 1
        if jax.process_index() == 1:
            if turn == 2 and (FOLDER / "kill").exists():
                (FOLDER / "kill").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        elif turn < 3:
            state.write_text(str(turn))
    with (FOLDER / "did.txt").open("a") as file:
        file.write(f"{{jax.process_index()}} of {{jax.process_count()}}\\n")
    return [dict(total=total, turns=turn)]

def jobs(run):
    yield Job(job_key("together", {{}}, {{}}, 1), "together", "together", 1, add, rows=True)

VERSIONS = {{"": lambda: Sweep("together", runs(1), jobs)}}
"""


def test_a_place_is_read_from_the_environment_of_the_launcher():
    place = Place("a", 1, 2, "host")
    assert place_of(place.variables()) == place
    assert place_of({}) is None and place_of({**place.variables(), "SCALING_GANG_SIZE": "1"}) is None
    with pytest.raises(InputError, match="a gang needs SCALING_GANG_NAME"):
        place_of({"SCALING_GANG_SIZE": "2"})
    with pytest.raises(InputError, match="ranks run from 0"):
        Place("a", 2, 2, "host")


def test_orders_reach_the_others_and_losses_the_leader(tmp_path):
    ledger = Ledger(LocalShelf(tmp_path), SAFE)
    leader, other = (Gang(Place("a", rank, 2, "host"), ledger) for rank in (0, 1))
    assert other.order() is None
    claim = ledger.claim("job", ledger.last("job"), "leader")
    mine = leader.call("job", claim.token, tmp_path / "work", {"bank": tmp_path / "bank"})
    given = other.order()
    assert (given["key"], given["work"], given["needed"]) == (
        "job",
        str(tmp_path / "work"),
        {"bank": str(tmp_path / "bank")},
    )
    theirs = other.joining(given)
    assert {**theirs, "SCALING_GANG_RANK": "0"} == mine  # one coordinator for both
    assert other.order() is None  # seen
    assert leader.lost(None, 0.0) is None and leader.lost({"ok": True}, 0.0) is None
    assert leader.lost({"error": "the knee buckled"}, 0.0) is None
    assert "the loss of a peer" in leader.lost({"error": "Gloo all-reduce failed: Connection reset by peer"}, 0.0)
    other.report("rank 1 is gone")
    assert leader.lost(None, 0.0) == "rank 1 is gone"
    assert leader.lost({"ok": True}, 0.0) is None  # the leader's own result needs nobody any more
    ledger.append("job", claim, PREEMPTED)
    assert not other.current(given) and other.joining(given) is None  # an order of an attempt that is over
    leader.dismiss()
    assert other.order() == {"end": True}


class _Child:
    """Answers once, and remembers that it was stopped."""

    def __init__(self, answer):
        self.answers, self.stopped = [answer], False

    def answer(self, seconds):
        return self.answers.pop() if self.answers else None

    def stop(self):
        self.stopped = True


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"exit": -9}, "rank 1 ended with -9"),
        ({"error": "the knee buckled"}, "raised by rank 1 alone"),
        ({"ok": 1}, None),
    ],
)
def test_a_follower_tells_what_its_leader_would_wait_for_in_vain(tmp_path, monkeypatch, answer, told):
    monkeypatch.setattr(sweep_follower, "_ALONE_S", 0.0)
    ledger = Ledger(LocalShelf(tmp_path), SAFE)
    leader, other = (Gang(Place("a", rank, 2, "host"), ledger) for rank in (0, 1))
    claim = ledger.claim("job", ledger.last("job"), "leader")
    leader.call("job", claim.token, tmp_path, {})
    child, given = _Child(answer), other.order()
    watching = threading.Thread(target=sweep_follower._watch, args=(child, given, ledger, other))
    watching.start()
    for _ in range(200):
        if (lost := leader.lost(None, 0.0)) is not None or (told is None and not child.answers):
            break
        time.sleep(0.01)
    assert lost is None if told is None else told in lost
    assert not child.stopped  # until the attempt is over
    ledger.append("job", claim, PREEMPTED)
    watching.join(10)
    assert child.stopped


def test_a_gang_needs_a_folder_that_all_see(tmp_path):
    class Bucket:
        url = "gs://bucket"

    with pytest.raises(InputError, match="name a folder that all see"):
        Gang(Place("a", 0, 2, "host"), Ledger(Bucket()))


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_do_the_job_again(tmp_path):
    path = tmp_path / "together.py"
    path.write_text(TOGETHER.format(folder=str(tmp_path)))
    (tmp_path / "kill").touch()
    command = [sys.executable, "-m", "scaling", "sweep", "work", str(path), "--store", str(tmp_path / "store")]
    done = subprocess.run([*command, "--gang", "2"], env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    ledger = ledger_of(tmp_path)
    [one] = survey(find_sweep(str(path)).jobs(), ledger)
    assert entries(tmp_path, one.hash) == ["claimed", "preempted", "claimed", "done"]
    [row] = rows([one], ledger)
    assert (row["total"], row["turns"], row["sweep_attempts"]) == (3, 4, 2)
    lost = json.loads((tmp_path / "store" / "runs" / one.hash / "0002.json").read_text())
    assert "the child of rank 1 ended with -9" in lost["error"]
    assert "0 of 2\n" in (tmp_path / "did.txt").read_text()


def environment():
    """That of this process, with this checkout to import from."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}


def table(store):
    """What the rows of the engine's check say, whoever made them."""
    ledger = Ledger(LocalShelf(store))
    found = rows(survey(find_sweep("engine_check", SMALL).jobs(), ledger), ledger)
    return [(row["seed"], row["digest"]) for row in found]


@pytest.mark.slow
def test_submitit_starts_workers_and_gangs(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = WorkerCommand("engine_check", str(tmp_path / "store"), SMALL, SAFE)
    jobs = slurm.launch(command, 2, tmp_path / "slurm", {"timeout_min": "5"}, cluster="local")
    assert [job.result() for job in jobs] == [0, 0]
    assert len(table(tmp_path / "store")) == 40
    path = tmp_path / "together.py"
    path.write_text(TOGETHER.format(folder=str(tmp_path)))
    command = WorkerCommand(str(path), str(tmp_path / "store"), (), SAFE)
    [job] = slurm.launch(command, 1, tmp_path / "slurm", {"timeout_min": 5}, cluster="local", gang=2)
    assert job.results() == [0, 0]
    assert sorted((tmp_path / "did.txt").read_text().splitlines()) == ["0 of 2", "1 of 2"]
    with pytest.raises(InputError, match="--slurm"):
        slurm.launch(command, 1, tmp_path / "slurm", {"timeout_mni": "5"}, cluster="local")


@pytest.mark.slow
def test_ray_loses_a_node_and_the_table_is_the_same(tmp_path):
    """In a process of its own: Ray's clusters leave threads and warnings behind."""
    pytest.importorskip("ray")
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "ray")], env=environment(), capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip(f"Ray's own services did not start in the seconds that it gives them: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr[-3000:]
    local = tmp_path / "local"
    work = [sys.executable, "-m", "scaling", "sweep", "work", "engine_check", "--store", str(local)]
    subprocess.run([*work, "--set", "rounds=1000"], env=environment(), check=True, capture_output=True)
    assert table(tmp_path / "ray") == table(local) and len(table(local)) == 40


CLUSTER = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from scaling.record.lease import LeaseTimes
from scaling.record.ledger import PREEMPTED, Ledger
from scaling.record.shelf import LocalShelf
from scaling.study.launch import ray as launcher
from scaling.study.launch.command import WorkerCommand

store = Path(sys.argv[1])
small = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
try:
    cluster = Cluster(initialize_head=True, head_node_args=small)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100_000_000) for _ in range(2)]
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(77)
ray.init(address=cluster.address, log_to_driver=False)
ledger = Ledger(LocalShelf(store))

def lose_a_node():
    while not any(entry.state == "done" for entry in ledger.standing().values()):
        time.sleep(0.05)
    cluster.remove_node(nodes[0], allow_graceful=False)

threading.Thread(target=lose_a_node, daemon=True).start()
command = WorkerCommand("engine_check", str(store), [("rounds", 1000)], LeaseTimes(0.5, 5.0, 0.05))
launcher.launch(command, 3)
ray.shutdown()
cluster.shutdown()
"""
