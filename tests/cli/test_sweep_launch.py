"""`scaling sweep work` with workers elsewhere: what each launcher is handed, and what becomes of workers that end."""

import contextlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from scaling.cli import main
from scaling.errors import InputError
from scaling.study import sweep_find
from scaling.study.launch import local, slurm
from scaling.study.launch.command import WorkerCommand
from scaling.study.launch.devices import Devices, held, visible
from scaling.study.launch.k8s import jobset, yaml
from scaling.study.launch.means import Means
from scaling.study.sweep_find import anywhere, find_sweep

WORK = ("sweep", "work", "engine_check", "--launcher")
PODS = (*WORK, "k8s", "--image", "i", "--store", "gs://b/s")


def test_a_store_that_cannot_be_made_is_a_sentence_for_one_worker_and_for_two(capfd):
    words = ("sweep", "work", "engine_check", "--store", "/proc/nowhere", "--set", "rounds=10")
    assert main(words) == 2
    assert "/proc/nowhere cannot be made" in capfd.readouterr().err
    assert main([*words, "--workers", "2"]) == 2
    said = capfd.readouterr().err
    assert said.count("/proc/nowhere cannot be made") == 2 and "Traceback" not in said
    assert "2 of 2 workers ended early (exit code 2, 2)" in said


@pytest.mark.parametrize(
    ("codes", "finished", "code"),
    [([0, 0], False, 0), ([0, -9], True, 0), ([0, -9], False, 1), ([75, 75], False, 75), ([75, 2], False, 2),
     ([1, 0], False, 1), ([75, 1], False, 1)],
)  # fmt: skip
def test_the_worst_end_of_a_worker_is_told_unless_everything_is_finished(
    call, tmp_path, monkeypatch, codes, finished, code
):
    monkeypatch.setattr(local, "launch", lambda *arguments: codes)
    store = ("--store", tmp_path / "store", "--set", "rounds=10")
    if finished:
        call("sweep", "work", "engine_check", *store)
    called = call("sweep", "work", "engine_check", *store, "--workers", 2, "--json")
    assert called.code == code
    assert called.json.get("workers") == (codes if code else None)


@pytest.mark.parametrize("launcher", ["slurm", "ray", "local"])
def test_workers_that_stand_elsewhere_are_given_whole_paths(call, tmp_path, monkeypatch, launcher):
    given = []
    fake = SimpleNamespace(launch=lambda command, *rest, **more: given.append(command) or [])
    monkeypatch.setitem(sys.modules, f"scaling.study.launch.{launcher}", fake)
    monkeypatch.setattr(f"scaling.study.launch.{launcher}", fake, raising=False)
    monkeypatch.chdir(tmp_path)
    mine = "from scaling.study.sweep_find import find_sweep\nVERSIONS = {'': lambda: find_sweep('engine_check')}\n"
    Path("mine.py").write_text(mine)
    call("sweep", "work", "mine.py", "--launcher", launcher, "--workers", 2)
    call("sweep", "work", "engine_check", "--launcher", launcher, "--workers", 2, "--store", "gs://bucket/x")
    assert (given[0].sweep, given[0].store) == (str(tmp_path / "mine.py"), str(tmp_path / "runs" / "sweeps"))
    assert len(given) == 1 or (given[1].sweep, given[1].store) == ("engine_check", "gs://bucket/x")


def test_a_sweep_is_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweeps").mkdir()
    code = "from dataclasses import replace\nfrom scaling.study.sweep_find import find_sweep\n"
    code += "one = lambda name: replace(find_sweep('engine_check'), name=name)\n"
    Path("sweeps/own.py").write_text(code + "VERSIONS = {'tiny': lambda: one('t'), 'paper': lambda: one('p')}\n")
    for spec, whole in {
        "own": "sweeps/own.py",
        "own-paper": "sweeps/own-paper.py",
        "sweeps/own.py": "sweeps/own.py",
        "sweeps/own-paper.py": "sweeps/own-paper.py",
    }.items():
        assert anywhere(spec) == str(tmp_path / whole)
        assert find_sweep(anywhere(spec)).name == find_sweep(spec).name
    assert anywhere("data_size-paper") == "data_size-paper"


def test_a_figure_that_is_nothing_or_a_text_reaches_the_worker_as_such():
    words = WorkerCommand("s", "store", [("bank", None), ("name", "ann"), ("on", True)]).words()
    assert [word.split("=")[1] for word in words if "=" in word] == ["null", '"ann"', "true"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(gpus, chips)`: a folder of device files, and no NVIDIA program, nor any choice in the environment."""

    def make(gpus=0, chips=0):
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        for name in [f"nvidia{index}" for index in range(gpus)] + [f"accel{index}" for index in range(chips)]:
            (tmp_path / name).touch()
        for name in ("nvidiactl", "nvidia-uvm"):
            (tmp_path / name).touch()
        return tmp_path

    return make


def test_devices_are_those_that_the_environment_names_or_the_machine_shows(machine):
    dev = machine(gpus=2, chips=4)
    assert visible({}, dev) == Devices("CUDA_VISIBLE_DEVICES", ("0", "1"))
    assert visible({"CUDA_VISIBLE_DEVICES": "3, GPU-a"}, dev).names == ("3", "GPU-a")
    assert visible({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, dev).names == ("1",)
    assert visible({"CUDA_VISIBLE_DEVICES": ""}, dev) == Devices("TPU_VISIBLE_CHIPS", ("0", "1", "2", "3"))
    assert visible({"CUDA_VISIBLE_DEVICES": "", "TPU_VISIBLE_CHIPS": "2"}, dev).names == ("2",)
    assert visible({"JAX_PLATFORMS": "cpu"}, dev) == Devices()
    (dev / "bin").mkdir()
    listing = dev / "bin" / "nvidia-smi"
    listing.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-a)'\necho '  MIG 1g.10gb Device 0: (UUID: MIG)'\n"
    )
    listing.chmod(0o755)
    assert visible({}, dev).names == ("0",)  # of the two on the machine, the container may use one


def test_gpus_and_chips_are_shared_out_whole():
    def gpus(count, workers):
        return Devices("CUDA_VISIBLE_DEVICES", tuple(map(str, range(count)))).shared_out(workers)

    assert [one["CUDA_VISIBLE_DEVICES"] for one in gpus(8, 3)] == ["0,1,2", "3,4", "5,6,7"]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in gpus(2, 3)] == ["0", "1", "0"]
    assert {one["XLA_PYTHON_CLIENT_MEM_FRACTION"] for one in gpus(2, 3)} == {"0.375"}
    assert gpus(4, 1) == [{}] and gpus(0, 2) == [{}, {}]
    chips = Devices("TPU_VISIBLE_CHIPS", ("0", "1", "2", "3"))
    assert chips.shared_out(2)[1] == {
        "TPU_VISIBLE_CHIPS": "2,3", "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,2,1", "TPU_PROCESS_BOUNDS": "1,1,1",
    }  # fmt: skip
    with pytest.raises(InputError, match="5 processes on 4 TPU chips"):
        chips.shared_out(5)
    with pytest.raises(InputError, match="each gets 1, 2 or 4"):
        Devices("TPU_VISIBLE_CHIPS", tuple("01234567")).shared_out(3)


class _Tells(WorkerCommand):
    """Writes down which GPUs it was given."""

    def words(self, python=()):
        code = f"import os, sys; open({self.store!r}, 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' ')"
        return [sys.executable, "-c", code]


def test_workers_of_this_machine_get_their_gpus_and_a_remark_where_these_are_few(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert local.launch(_Tells("sweep", str(tmp_path / "two")), 2) == [0, 0]
    assert sorted((tmp_path / "two").read_text().split()) == ["4", "5"]
    assert "share" not in capsys.readouterr().err
    assert local.launch(_Tells("sweep", str(tmp_path / "three")), 3) == [0, 0, 0]
    assert sorted((tmp_path / "three").read_text().split()) == ["4", "4", "5"]
    assert "3 processes share 2 GPUs" in capsys.readouterr().err


def test_what_a_worker_holds_is_counted_over_its_gang(machine):
    from scaling.study.gang import Place

    assert held(None, {"CUDA_VISIBLE_DEVICES": "", "TPU_VISIBLE_CHIPS": ""}) == 1  # a CPU
    assert held(None, {"CUDA_VISIBLE_DEVICES": "0,1"}) == 2
    assert held(Place("a", 0, 3, "host"), {"CUDA_VISIBLE_DEVICES": "0,1"}) == 6


def test_pods_get_what_the_flags_say(call):
    read = pytest.importorskip("yaml")
    flags = ("--cpus", 8, "--gpus", 2, "--accelerator", "google.com/tpu=4")
    label = "cloud.google.com/gke-tpu-topology"
    manifest = read.safe_load(call(*PODS, *flags, "--node-selector", f"{label}=2x4").out)
    pod = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    wanted = {"cpu": "8", "nvidia.com/gpu": "2", "google.com/tpu": "4"}
    assert pod["containers"][0]["resources"] == {"requests": wanted, "limits": wanted}
    assert pod["nodeSelector"] == {label: "2x4"}
    assert "nodeSelector" not in call(*PODS).out


def test_a_pod_that_ends_badly_leaves_the_others_at_work():
    read = pytest.importorskip("yaml")
    manifest = jobset(WorkerCommand("s", "gs://b/s"), 8, "image", means=Means(gpus=1))
    assert read.safe_load(yaml(manifest)) == manifest
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert "backoffLimit" not in job and job["backoffLimitPerIndex"] > 0 and job["completionMode"] == "Indexed"
    put_back, lost, ended = job["podFailurePolicy"]["rules"]
    assert (put_back["action"], put_back["onExitCodes"]["values"]) == ("Ignore", [75, 134])
    assert lost == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert (ended["action"], ended["onExitCodes"]["values"]) == ("FailIndex", [1, 2])


def _kubectl(folder: Path, code: int) -> None:
    path = folder / "kubectl"
    said = "echo jobset created" if code == 0 else "echo 'no matches for kind \"JobSet\"' >&2"
    path.write_text(f'#!/bin/sh\necho "$@" > {folder}/words\n/bin/cat > {folder}/applied.yaml\n{said}\nexit {code}\n')
    path.chmod(0o755)


def test_the_manifest_is_applied_by_kubectl(call, refused, tmp_path, monkeypatch):
    read = pytest.importorskip("yaml")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "--apply needs kubectl" in refused(*PODS, "--apply")
    _kubectl(tmp_path, 0)
    printed = call(*PODS, "--json").json
    assert not (tmp_path / "words").exists()
    assert call(*PODS, "--apply").out.strip() == "jobset created"
    assert (tmp_path / "words").read_text().split() == ["apply", "-f", "-"]
    assert read.safe_load((tmp_path / "applied.yaml").read_text()) == printed
    _kubectl(tmp_path, 1)
    assert 'kubectl apply ended with 1: no matches for kind "JobSet"' in refused(*PODS, "--apply")


class _Ray:
    """What the launcher asks of ray, written down."""

    def __init__(self, gpus):
        self.asked, self.address, self._gpus = [], None, gpus

    def is_initialized(self):
        return False

    def init(self, address, **more):
        self.address = address

    def cluster_resources(self):
        return {"CPU": 8.0, **({"GPU": 4.0} if self._gpus else {})}

    def remote(self, **options):
        self.asked.append(options)
        return lambda call: SimpleNamespace(remote=lambda command, place: 3)

    def wait(self, tasks, num_returns):
        return tasks, []

    def get(self, tasks):
        return tasks


@pytest.mark.parametrize(
    ("flags", "options", "remark"),
    [
        ((), {"num_cpus": 1.0, "num_gpus": 0.0}, True),
        (("--cpus", "4", "--gpus", "1"), {"num_cpus": 4.0, "num_gpus": 1.0}, False),
        (("--gpus", "0.5"), {"num_cpus": 1.0, "num_gpus": 0.5}, False),
        (("--accelerator", "TPU=4"), {"num_cpus": 1.0, "num_gpus": 0.0, "resources": {"TPU": 4.0}}, True),
    ],
)
def test_ray_is_asked_for_what_the_flags_say(call, tmp_path, monkeypatch, flags, options, remark):
    ray = _Ray(gpus=True)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", SimpleNamespace(RayTaskError=ZeroDivisionError))
    called = call(*WORK, "ray", "--store", tmp_path, "--workers", 2, "--address", "ray://head:10001", *flags)
    assert called.code == 0 and ray.address == "ray://head:10001"
    assert ray.asked == [options | {"max_retries": -1}]
    assert ("this Ray cluster has GPUs" in called.err) is remark


def test_a_gang_on_ray_asks_for_the_same_in_every_place():
    means = Means(cpus=2, gpus=1, accelerators={"TPU": 4})
    assert means.ray_bundle() == {"CPU": 2, "GPU": 1, "TPU": 4.0}
    assert Means().ray_bundle() == {"CPU": 1.0}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*PODS, "--gpus", "0.5"), "k8s gives whole GPUs"),
        ((*PODS, "--gpus", "-1"), "give 0 or more"),
        ((*PODS, "--cpus", "0"), "give more than 0"),
        ((*PODS, "--accelerator", "tpu"), "NAME=VALUE"),
        ((*PODS, "--accelerator", "google.com/tpu=many"), "with a whole number"),
        ((*PODS, "--accelerator", "google.com/tpu=0"), "at least 1"),
        ((*PODS, "--node-selector", "x"), "NAME=VALUE"),
        ((*PODS, "--address", "auto"), "--address is for --launcher ray"),
        ((*WORK, "slurm", "--accelerator", "TPU=4"), "--accelerator is for --launcher ray or k8s"),
        ((*WORK, "slurm", "--cpus", "1.5"), "slurm gives whole cores"),
        ((*WORK, "local", "--gpus", "1"), "the launcher here is local"),
        ((*WORK, "ray", "--apply"), "--apply is for --launcher k8s"),
    ],
)
def test_wrong_flags_are_one_sentence(refused, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(*words)


class _Waits(WorkerCommand):
    """A worker that runs until it is told to end, and says that it was."""

    def words(self, python=()):
        code = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(75))\n"
        return [sys.executable, "-c", f"{code}open({self.store!r}, 'w').write('here')\nwhile True: time.sleep(0.05)"]


def test_an_element_that_slurm_takes_back_ends_its_worker_and_is_submitted_again(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    import threading
    import time

    monkeypatch.setattr(slurm, "_place", dict)
    began, ended = tmp_path / "began", []
    element = slurm.ArrayWorker(_Waits("sweep", str(began)))
    running = threading.Thread(target=lambda: ended.append(element()))
    running.start()
    while not (began.exists() and began.read_text()):
        time.sleep(0.01)
    again = element.checkpoint()
    running.join(30)
    assert ended == [75]  # gently: its lease was given back
    assert isinstance(again.function, slurm.ArrayWorker) and again.function.command == element.command
    path = tmp_path / "submission.pkl"
    again.dump(path)  # as submitit keeps it for the next turn
    assert type(again).load(path).function.command == element.command


def test_slurm_is_asked_for_what_the_flags_say_and_never_tires_of_timeouts(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit")
    made = []

    class Executor(submitit.AutoExecutor):
        def __init__(self, **more):
            made.append((more, {}))
            super().__init__(**{**more, "cluster": "debug"})

        def update_parameters(self, **given):
            made[-1][1].update(given)

        def batch(self, **more):
            return contextlib.nullcontext()

        def submit(self, function, *arguments):
            return function.command

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    command = WorkerCommand("engine_check", "store")
    options = {"slurm_partition": "a", "cpus_per_task": "3"}
    assert slurm.launch(command, 2, tmp_path, options, gang=4, means=Means(8, 2)) == [command] * 2
    [(constructed, given)] = made
    assert constructed["slurm_max_num_timeout"] * 4 > 24 * 365  # turns of four hours
    assert (given["nodes"], given["tasks_per_node"], given["gpus_per_node"]) == (4, 1, 2)
    assert (given["cpus_per_task"], given["slurm_partition"]) == (3, "a")  # what is said in submitit's words stands


def test_an_installation_finds_the_shipped_sweeps_where_the_wheel_has_them(tmp_path):
    root = Path(sweep_find.__file__).resolve().parents[2]
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    [(packed, inside)] = wheel["force-include"].items()
    shutil.copytree(root / "scaling", tmp_path / "scaling", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / packed, tmp_path / inside)
    code = "from scaling.study.sweep_find import find_sweep, names; print(find_sweep('engine_check').name, *names())"
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert {"engine_check", "data_size", "isoflop"} <= set(done.stdout.split()), done.stderr
