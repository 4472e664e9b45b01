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

# One job that both processes of a gang do, once nobody has FOLDER/wait; FOLDER/kill has the second one killed
# half-way, once.
TOGETHER = """
import os, signal, time
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
    while (FOLDER / "wait").exists():
        time.sleep(0.05)
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


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory):
    """What the script below did on a cluster of three nodes, in a process of its own: Ray leaves threads behind."""
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("ray")
    (folder / "cluster.py").write_text(CLUSTER)
    (folder / "together.py").write_text(TOGETHER.format(folder=str(folder)))
    env = environment() | {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300", "RAY_gcs_server_port_wait_time_s": "120"}
    env["RAY_agent_register_timeout_ms"] = "300000"
    command = [sys.executable, str(folder / "cluster.py"), str(folder)]
    with (folder / "log.txt").open("w") as log:
        code = subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT, timeout=580).returncode
    assert code == 0, (folder / "log.txt").read_text()[-3000:]
    return folder


@pytest.mark.slow
def test_ray_loses_a_node_and_the_table_is_the_same(ray_cluster, tmp_path):
    local = tmp_path / "local"
    work = [sys.executable, "-m", "scaling", "sweep", "work", "engine_check", "--store", str(local)]
    subprocess.run([*work, "--set", "rounds=1000"], env=environment(), check=True, capture_output=True)
    assert table(ray_cluster / "alone") == table(local) and len(table(local)) == 40


@pytest.mark.slow
def test_a_gang_on_ray_loses_a_node_and_does_the_job_again(ray_cluster):
    ledger = Ledger(LocalShelf(ray_cluster / "gang"), SAFE)
    [one] = survey(find_sweep(str(ray_cluster / "together.py")).jobs(), ledger)
    [row] = rows([one], ledger)
    assert (row["total"], row["turns"]) == (3, 4)
    assert "0 of 2\n" in (ray_cluster / "did.txt").read_text()
    assert row["sweep_attempts"] == 2 and not (ray_cluster / "wait").exists()


CLUSTER = """
import contextlib, socket, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from scaling.errors import InputError
from scaling.record.lease import LeaseTimes
from scaling.record.ledger import Ledger
from scaling.record.shelf import LocalShelf
from scaling.study.launch import ray as launcher
from scaling.study.launch.command import WorkerCommand

folder = Path(sys.argv[1])
# Ray ends where an agent that chooses its port takes more than 15 s, as on a busy machine.
PORTS = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port", "metrics_export_port")
def small():
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in PORTS]
        for one in sockets:
            one.bind(("", 0))
        ports = {name: one.getsockname()[1] for name, one in zip(PORTS, sockets)}
    return {"num_cpus": 1, "object_store_memory": 100_000_000, "wait": False, **ports}
for attempt in range(8):  # a node gets 30 s to start in
    cluster = Cluster()
    try:
        cluster.add_node(**small() | {"include_dashboard": False, "wait": True})
        nodes = [cluster.add_node(**small()) for _ in range(2)]
        cluster.wait_for_nodes(timeout=120)
        break
    except Exception as error:
        print("once more:", error)
        cluster.shutdown()
ray.init(address=cluster.address, log_to_driver=False)
times = LeaseTimes(0.5, 20.0, 0.05)

def once(ledger, state, act):
    def wait():
        while not any(entry.state == state for entry in ledger.standing().values()):
            time.sleep(0.05)
        act()
    threading.Thread(target=wait, daemon=True).start()

# Three workers, of whose nodes one is taken away once a run is done.
ledger = Ledger(LocalShelf(folder / "alone"), times)
once(ledger, "done", lambda: cluster.remove_node(nodes.pop(), allow_graceful=False))
alone = WorkerCommand("engine_check", str(folder / "alone"), [("rounds", 1000)], times)
print("alone", launcher.launch(alone, 3), flush=True)
nodes.append(cluster.add_node(**small() | {"wait": True}))

# A gang of two, of whose nodes one is taken away while it works; the two that are left do it again.
(folder / "wait").touch()
ledger = Ledger(LocalShelf(folder / "gang"), times)

def busy():
    groups = ray.util.placement_group_table().values()
    held = [group["bundles_to_node_id"].values() for group in groups if group["state"] == "CREATED"]
    here = {node for bundles in held for node in bundles}
    return [node for node in nodes if node.node_id in here]

def lose_one_of_the_gang():
    while not (found := busy()):
        time.sleep(0.05)
    cluster.remove_node(found[0], allow_graceful=False)
    (folder / "wait").unlink()

once(ledger, "claimed", lose_one_of_the_gang)
command = WorkerCommand(str(folder / "together.py"), str(folder / "gang"), (), times)
print("gang", launcher.launch(command, 1, gang=2), flush=True)
try:
    launcher.launch(command, 1, gang=9)
except InputError as error:
    print(error)
ray.shutdown()
cluster.shutdown()
"""
