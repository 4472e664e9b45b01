"""`scaling sweep` as a person and a launcher call it."""

import json
import os
import sys
from pathlib import Path

import pytest

from scaling.laws.table import read_table as read_laws_table
from scaling.record.table import read_table, rows_of
from scaling.study.gang import Place, place_of
from scaling.study.launch.command import WorkerCommand
from scaling.study.launch.k8s import jobset, yaml
from scaling.study.launch.local import own_cores, shares, start
from scaling.study.launch.means import Means

SMALL = ("--set", "rounds=1000")


@pytest.fixture
def sweep(call, tmp_path, monkeypatch):
    """`sweep(verb, ...)` on the engine's check with a store in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    return lambda verb, *more: call("sweep", verb, "engine_check", "--store", tmp_path / "store", *SMALL, *more)


def test_plan_work_status_table_and_back(sweep, tmp_path):
    before = sweep("plan", "--json").json
    assert {name: before[name] for name in ("new", "cached", "running", "failed", "blocked")} == {
        "new": 40, "cached": 0, "running": 0, "failed": 0, "blocked": 0,
    }  # fmt: skip
    assert before["device_hours"] > 0 and not (tmp_path / "store").exists()
    assert sweep("work", "--max-runs", 3, "--json").json["done"] == 3
    status = sweep("status", "--json").json
    assert status["finished"] == 3 and status["new"] == 37 and len(status["runs"]) == 40
    first = status["runs"][0]
    assert {"hash", "state", "attempts", "seconds", "error"} <= first.keys()
    assert (first["state"], first["attempts"], first["error"]) == ("finished", 1, None)
    table = sweep("table", "--json").json
    assert {**table, "stages": 0} == {"table": "engine_check.csv", "rows": 3, "unfinished": 37, "stages": 0}
    assert table["stages"] == status["stages"] and table["stages"]["engine_check"]["share"] == 1.0
    lines = [json.loads(line) for line in Path("engine_check.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1, 2]
    pytest.importorskip("pyarrow")
    sweep("table", "--out", "same.parquet")
    assert [row["seed"] for row in rows_of(read_table("engine_check.csv"))] == read_laws_table("same.parquet").numeric(
        "seed"
    )[0].tolist()
    assert sweep("invalidate", first["hash"], "--json").json == {"invalidated": [first["hash"]]}
    assert sweep("plan", "--json").json["cached"] == 2
    assert sweep("gc", "--json").json == {"removed": []}
    assert sweep("retry", "--json").json == {"retried": []}


def test_words_for_a_person(sweep):
    assert "device hours" in sweep("plan").out
    assert sweep("work", "--max-runs", 1).code == 0
    assert "seed=0" in sweep("status").out


def test_a_page_of_the_state_that_needs_no_network(call, tmp_path):
    code = "from scaling.study.sweep import *\n"
    code += "def work(config, folder):\n    assert config != 2, 'the <knee> buckled'\n    return {}\n"
    code += "VERSIONS = {'': lambda: Sweep('page', runs([1, 2]), simple_jobs('page', 1, work, 1.0))}\n"
    (tmp_path / "page.py").write_text(code)
    call("sweep", "work", tmp_path / "page.py", "--store", tmp_path / "store")
    told = call("sweep", "status", tmp_path / "page.py", "--store", tmp_path / "store", "--html").out
    page = (tmp_path / "store" / "page.html").read_text()
    assert f"page: {tmp_path / 'store' / 'page.html'}" in told
    assert "1 of 2 finished" in page and "the &lt;knee&gt; buckled" in page and "<knee>" not in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    call("sweep", "status", tmp_path / "page.py", "--store", tmp_path / "store", "--html", tmp_path / "other.html")
    assert (tmp_path / "other.html").exists()


def test_several_workers_of_one_machine(sweep):
    done = sweep("work", "--workers", 2, "--json").json
    assert done["counts"]["finished"] == 40 and done["failures"] == []


def test_a_failed_run_is_exit_code_1_and_named(call, tmp_path):
    code = "import pathlib\nfrom scaling.study.sweep import *\n"
    code += "def work(config, folder):\n    raise RuntimeError('the knee buckled')\n"
    code += "VERSIONS = {'': lambda: Sweep('bad', runs(1), simple_jobs('bad', 1, work, 1.0))}\n"
    (tmp_path / "bad.py").write_text(code)
    called = call("sweep", "work", tmp_path / "bad.py", "--store", tmp_path / "store", "--json")
    assert called.code == 1
    [failure] = called.json["failures"]
    assert failure["state"] == "failed" and failure["error"].endswith("the knee buckled")


def test_diff_of_two_runs_and_of_two_sweeps(sweep, call, tmp_path):
    sweep("work", "--max-runs", 2)
    one, other = (run["hash"] for run in sweep("status", "--json").json["runs"][:2])
    found = call("sweep", "diff", one, other, "--store", tmp_path / "store", "--json").json
    assert found["config.seed"] == [0, 1]
    assert call("sweep", "diff", "engine_check", "engine_check", "--json").json == {"removed": [], "added": []}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("plan", "engine_chek"), "did you mean engine_check?"),
        (("plan", "engine_check", "--store", "http://host/x"), "name a folder"),
        (("plan", "engine_check", "--set", "round=5"), "did you mean rounds"),
        (("work", "engine_check", "--max-runs", "0"), "give at least 1"),
        (("work", "engine_check", "--stale", "10"), "at least twice heartbeat_s"),
        (("work", "engine_check", "--workers", "0"), "--workers 0"),
        (("work", "engine_check", "--gang", "2", "--launcher", "k8s", "--image", "x"), "share by --volume"),
        (("work", "engine_check", "--launcher", "k8s", "--image", "x", "--volume", "a"), "NAME=VALUE"),
        (("work", "engine_check", "--launcher", "k8s", "--image", "x", "--volume", "a=b"), "write it as CLAIM=/PATH"),
        (("work", "engine_check", "--launcher", "k8s", "--image", "x", "--volume", "a=/b"), "name a folder below /b"),
        (("work", "engine_check", "--mirrors", "wandbb"), "one or more of tensorboard, wandb, mlflow"),
        (("work", "engine_check", "--launcher", "k8s", "--store", "gs://bucket/x"), "needs --image"),
        (("work", "engine_check", "--launcher", "k8s", "--image", "x"), "pods share no folder"),
        (("table", "engine_check", "--out", "x.xlsx"), "written as .csv"),
        (("diff", "zz", "yy"), "no run begins with 'zz'"),
        (("suggest", "engine_check", "--target", "size", "--budget", "1"), "NAME=VALUE"),
        (("work", "engine_check", "--only", "zz"), "no run of this sweep has the hash 'zz'"),
    ],
)
def test_bad_input_is_one_sentence(refused, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused("sweep", *arguments)


def test_cores_are_shared_out_whole():
    assert shares([0, 1, 2, 3], 2) == [[0, 1], [2, 3]]
    assert shares([0, 1, 2, 3, 4], 3) == [[0, 1], [2], [3, 4]]
    assert shares([5, 7], 3) == [[5], [7], [5]]


class _Asks(WorkerCommand):
    """Ends with 0 where it is held to the first core that this process has, with one thread for its libraries."""

    def words(self, python=()):
        held = f"os.sched_getaffinity(0) == {{{own_cores()[0]}}} and os.environ['OMP_NUM_THREADS'] == '1'"
        return [sys.executable, "-c", f"import os, sys; sys.exit(0 if {held} else 1)"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_worker_is_held_to_its_cores():
    assert start(_Asks("sweep", "store"), own_cores()[:1]).wait() == 0


def test_the_jobset_is_yaml_of_independent_workers_that_are_restarted(call):
    read = pytest.importorskip("yaml")
    command = WorkerCommand("data_size-paper", "gs://bucket/sweeps", [("seeds", 2)])
    manifest = jobset(command, 8, "image:1", "queue", means=Means(gpus=1))
    assert read.safe_load(yaml(manifest)) == manifest
    [workers] = manifest["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    assert (job["parallelism"], job["completionMode"]) == (8, "Indexed")
    [container] = job["template"]["spec"]["containers"]
    assert container["command"][:5] == ["scaling", "sweep", "work", "data_size-paper", "--store"]
    assert container["command"][-2:] == ["--set", "seeds=2"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert manifest["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "queue"}
    printed = call("sweep", "work", "engine_check", "--launcher", "k8s", "--image", "i", "--store", "gs://b/s").out
    assert read.safe_load(printed)["kind"] == "JobSet"


def test_a_gang_on_kubernetes_is_a_jobset_whose_pods_find_their_first(call):
    read = pytest.importorskip("yaml")
    flags = ("--workers", 2, "--gang", 4, "--launcher", "k8s", "--image", "i", "--queue", "q", "--volume", "all=/all")
    printed = call("sweep", "work", "engine_check", "--store", "/all/sweeps", "--mirrors", "tensorboard", *flags).out
    first, second = read.safe_load(printed)["items"]
    assert (first["metadata"]["name"], second["metadata"]["name"]) == (
        "scaling-engine-check-0",
        "scaling-engine-check-1",
    )
    assert first["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "q"}
    assert first["spec"]["network"]["enableDNSHostnames"] and first["spec"]["failurePolicy"]["maxRestarts"] > 0
    [workers] = first["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    assert (workers["replicas"], job["parallelism"], job["completions"], job["backoffLimit"]) == (1, 4, 4, 0)
    # One lost pod ends the gang, which begins anew under another name, unless a process says that it is through.
    [ended] = job["podFailurePolicy"]["rules"]
    assert (ended["action"], ended["onExitCodes"]["values"]) == ("FailJob", [1, 2])
    [over] = first["spec"]["failurePolicy"]["rules"]
    assert (over["action"], over["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert container["volumeMounts"][0]["mountPath"] == "/all"
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "all"}
    assert container["command"][-2:] == ["--mirrors", "tensorboard"]
    # What Kubernetes fills in makes the place that a worker reads.
    labels = {"batch.kubernetes.io/controller-uid": "a1"}
    annotations = {"batch.kubernetes.io/job-completion-index": "3"}
    filled = {}
    for one in container["env"]:
        path = one.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        known = labels if path.startswith("metadata.labels") else annotations
        filled[one["name"]] = one["value"] if "value" in one else known[path.split("'")[1]]
    host = "scaling-engine-check-0-workers-0-0.scaling-engine-check-0"
    assert place_of(filled) == Place("a1", 3, 4, host)
