"""The store builds a stage once: whatever is killed, raced, paused or full."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scaling.errors import InputError
from scaling.record.lease import LeaseTimes
from scaling.record.ledger import Entry, Ledger
from scaling.record.shelf import LocalShelf
from scaling.record.store import Artifact, ArtifactStore

FAST = LeaseTimes(heartbeat_s=0.1, stale_s=0.6, poll_s=0.02)


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3


class Counter:
    """A build that counts its calls and writes one output."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, work: Path) -> None:
        self.calls += 1
        (work / "out.txt").write_text("result")


def children(store: ArtifactStore) -> list[str]:
    """Names below the stage's folder."""
    return sorted(path.name for path in (store.root / "stage").iterdir())


def test_a_stage_done_is_not_done_again(tmp_path: Path) -> None:
    store, build = ArtifactStore(tmp_path), Counter()
    first = store.stage("stage", Config(), {}, 1, build)
    second = ArtifactStore(tmp_path).stage("stage", Config(), {}, 1, build)
    assert build.calls == 1
    assert (first.cached, second.cached) == (False, True)
    assert first.path == second.path == tmp_path / "stage" / first.hash
    assert second.seconds == first.seconds >= 0
    assert (second.path / "out.txt").read_text() == "result"
    assert children(store) == [first.hash]  # nothing of the building is left


def test_config_inputs_and_version_make_the_key(tmp_path: Path) -> None:
    store, build = ArtifactStore(tmp_path), Counter()
    clips = tmp_path / "clips.csv"
    clips.write_text("1")
    base = store.stage("stage", Config(), {"clips": clips}, 1, build)
    variants = [
        store.stage("stage", Config(steps=4), {"clips": clips}, 1, build),
        store.stage("stage", Config(), {"clips": clips}, 2, build),
        store.stage("stage", Config(), {"clips": clips, "bank": base}, 1, build),
        store.stage("stage", Config(), {"bank": clips}, 1, build),
    ]
    clips.write_text("2")
    variants.append(store.stage("stage", Config(), {"clips": clips}, 1, build))
    assert len({artifact.hash for artifact in [base, *variants]}) == 6
    assert build.calls == 6
    clips.write_text("1")
    assert store.stage("stage", Config(), {"clips": clips}, 1, build).cached
    assert len(list(store.artifacts("stage"))) == 6


def test_an_artifact_its_path_and_its_hash_are_one_input(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    bank = store.stage("bank", None, {}, 1, Counter())
    keys = {store.key("stage", None, {"bank": item}, 1) for item in (bank, bank.path, bank.hash)}
    assert len(keys) == 1


def test_find_neither_builds_nor_writes(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    assert store.find("stage", None, {}, 1) is None
    assert not store.root.exists()
    built = store.stage("stage", None, {}, 1, Counter())
    assert store.find("stage", None, {}, 1) == dataclasses.replace(built, cached=True)


def test_done_json_tells_what_was_made_from_what(tmp_path: Path) -> None:
    artifact = ArtifactStore(tmp_path).stage("stage", Config(), {"clips": "abc"}, 7, Counter())
    meta = json.loads((artifact.path / "done.json").read_text())
    assert meta == artifact.meta()
    assert meta["config"] == {"_type": "Config", "steps": 3}
    assert meta["inputs"] == {"clips": "abc"}
    assert (meta["name"], meta["hash"], meta["version"], meta["attempts"]) == ("stage", artifact.hash, 7, 1)
    assert meta["files"] == {"out.txt": 6}
    assert {"commit", "host", "finished", "seconds"} <= meta.keys()


def test_a_failed_build_publishes_nothing_and_resumes_from_what_it_left(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def failing(work: Path) -> None:
        (work / "checkpoint").write_text("1")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        store.stage("stage", None, {}, 1, failing)
    assert store.find("stage", None, {}, 1) is None
    seen: list[str] = []

    def resuming(work: Path) -> None:
        seen.append((work / "checkpoint").read_text())

    artifact = store.stage("stage", None, {}, 1, resuming)
    assert seen == ["1"]
    assert artifact.meta()["attempts"] == 2


SLOW_BUILD = """
import sys, time
from pathlib import Path
from scaling.record.store import ArtifactStore
from scaling.record.lease import LeaseTimes

root, pause = Path(sys.argv[1]), float(sys.argv[2])

def build(work):
    steps = work / "steps.txt"
    while len(done := steps.read_text().split() if steps.exists() else []) < 5:
        time.sleep(pause)
        with steps.open("a") as file:
            file.write(f"{len(done)} ")
        with (root / "trace.txt").open("a") as file:
            file.write(f"{len(done)} ")
    with (root / "built.txt").open("a") as file:
        file.write("x")

times = LeaseTimes(heartbeat_s=0.1, stale_s=float(sys.argv[3]), poll_s=0.02)
artifact = ArtifactStore(root / "store", times).stage("stage", {"a": 1}, {}, 1, build)
print("cached" if artifact.cached else "built", (artifact.path / "steps.txt").read_text())
"""


def start(root: Path, pause: float = 0.1, stale: float = 60.0) -> "subprocess.Popen[str]":
    """A process that builds one stage of five steps."""
    command = [sys.executable, "-c", SLOW_BUILD, str(root), str(pause), str(stale)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, length: int = 1) -> None:
    """Until `path` has `length` characters."""
    for _ in range(1000):
        if path.exists() and path.stat().st_size >= length:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def finish(process: "subprocess.Popen[str]") -> str:
    """The first line of a process that must end well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def test_killed_twice_mid_build_it_resumes_and_publishes_once(tmp_path: Path) -> None:
    for steps in (1, 2):
        victim = start(tmp_path)
        wait_for(tmp_path / "trace.txt", 2 * steps)
        victim.kill()
        victim.communicate()
        assert not list(tmp_path.glob("store/stage/*/done.json"))
    began = time.monotonic()
    # The lease is 60 s from stale: a dead process of this machine is seen at once.
    assert finish(start(tmp_path)) == "built 0 1 2 3 4"
    assert time.monotonic() - began < 30
    assert (tmp_path / "built.txt").read_text() == "x"
    assert finish(start(tmp_path)) == "cached 0 1 2 3 4"
    meta = json.loads(next(tmp_path.glob("store/stage/*/done.json")).read_text())
    assert meta["attempts"] == 3


def test_processes_racing_on_one_key_build_once(tmp_path: Path) -> None:
    racers = [start(tmp_path, pause=0.05) for _ in range(3)]
    answers = sorted(finish(racer) for racer in racers)
    assert answers == ["built 0 1 2 3 4", "cached 0 1 2 3 4", "cached 0 1 2 3 4"]
    assert (tmp_path / "built.txt").read_text() == "x"


def test_a_paused_process_that_wakes_up_late_cannot_publish(tmp_path: Path) -> None:
    paused = start(tmp_path, pause=0.2, stale=0.6)
    wait_for(tmp_path / "trace.txt", 2)
    os.kill(paused.pid, signal.SIGSTOP)
    try:
        assert finish(start(tmp_path, pause=0.05, stale=0.6)) == "built 0 1 2 3 4"
    finally:
        os.kill(paused.pid, signal.SIGCONT)
    assert finish(paused) == "cached 0 1 2 3 4"
    assert json.loads(next(tmp_path.glob("store/stage/*/done.json")).read_text())["attempts"] == 2


def test_a_fenced_attempt_cannot_publish_before_the_one_that_took_over(tmp_path: Path) -> None:
    slow = ArtifactStore(tmp_path, LeaseTimes(heartbeat_s=30, stale_s=90))  # its heartbeat looks dead to the other
    fast = ArtifactStore(tmp_path, FAST)
    taken, left = threading.Event(), threading.Event()
    found: list[Artifact] = []

    def fenced(work: Path) -> None:
        (work / "out.txt").write_text("fenced")
        other.start()
        assert taken.wait(30)
        threading.Timer(0.5, left.set).start()  # the other goes on building while this one tries to publish

    def taking(work: Path) -> None:
        assert (work / "out.txt").read_text() == "fenced"
        taken.set()
        assert left.wait(30)
        (work / "out.txt").write_text("taken")

    other = threading.Thread(target=lambda: found.append(fast.stage("stage", None, {}, 1, taking)))
    late = slow.stage("stage", None, {}, 1, fenced)
    other.join(30)
    assert (late.cached, found[0].cached) == (True, False)
    assert (late.path / "out.txt").read_text() == "taken"
    assert children(slow) == [late.hash]


def test_threads_racing_on_one_key_build_once(tmp_path: Path) -> None:
    store, build, found = ArtifactStore(tmp_path, FAST), Counter(), list[Artifact]()
    threads = [
        threading.Thread(target=lambda: found.append(store.stage("stage", None, {}, 1, build))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(found) == 8
    assert build.calls == 1
    assert sum(not artifact.cached for artifact in found) == 1


def test_only_one_observer_takes_over(tmp_path: Path) -> None:
    ledger = Ledger(LocalShelf(tmp_path), FAST)
    takers = [ledger.claim("wip", Entry(4), "") for _ in range(5)]
    assert sum(claim is not None for claim in takers) == 1
    assert ledger.last("wip").number == 5


def test_a_heartbeat_out_of_sight_keeps_the_lease_whatever_the_clock_says(tmp_path: Path) -> None:
    """An owner on another machine whose clock is an hour behind is alive as long as its heartbeat changes."""
    store = ArtifactStore(tmp_path, FAST)
    key = store.key("stage", None, {}, 1)
    wip = tmp_path / "stage" / f"{key}.wip"
    wip.mkdir(parents=True)
    lease = wip / "0001.json"
    lease.write_text('{"host": "elsew')  # and its file is half-written
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            hour_ago = time.time() - 3600
            os.utime(lease, (hour_ago, hour_ago))

    owner = threading.Thread(target=beat)
    owner.start()
    build = Counter()
    waiter = threading.Thread(target=store.stage, args=("stage", None, {}, 1, build))
    waiter.start()
    time.sleep(3 * FAST.stale_s)
    assert build.calls == 0
    stop.set()
    owner.join()
    waiter.join(timeout=30)
    assert build.calls == 1


def fill_the_disk(work: Path) -> None:
    """A build that meets a real ENOSPC."""
    (work / "partial").write_text("kept")
    with open("/dev/full", "w") as file:
        file.write("x" * 100_000)


def test_a_full_disk_in_build_is_one_sentence_and_harms_nothing_finished(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    other = store.stage("other", None, {}, 1, Counter())
    with pytest.raises(InputError, match=r"the disk is full while building stage in .*: free some space") as caught:
        store.stage("stage", None, {}, 1, fill_the_disk)
    assert "\n" not in str(caught.value)
    assert store.find("stage", None, {}, 1) is None
    assert store.stage("other", None, {}, 1, fill_the_disk) == dataclasses.replace(other, cached=True)
    build = Counter()
    artifact = store.stage("stage", None, {}, 1, build)
    assert build.calls == 1
    assert (artifact.path / "partial").read_text() == "kept"


def test_a_full_disk_that_a_c_library_reports_in_words_is_understood(tmp_path: Path) -> None:
    def build(work: Path) -> None:
        try:
            raise ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device [tensorstore]")
        except ValueError as error:
            raise RuntimeError("checkpoint failed") from error

    with pytest.raises(InputError, match="disk is full"):
        ArtifactStore(tmp_path).stage("stage", None, {}, 1, build)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_in_publication_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store, build = ArtifactStore(tmp_path), Counter()
    owner = os if call == "fsync" else Path
    real = getattr(owner, call)

    def full(first: object, *rest: object) -> object:
        if call == "fsync" or Path(str(first)).name.startswith("work-"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(first, *rest)

    with monkeypatch.context() as patch:

        def filling(work: Path) -> None:
            build(work)
            patch.setattr(owner, call, full)

        with pytest.raises(InputError, match="disk is full"):
            store.stage("stage", None, {}, 1, filling)
    assert store.find("stage", None, {}, 1) is None
    assert store.stage("stage", None, {}, 1, build).meta()["files"] == {"out.txt": 6}


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="in the way"):
        ArtifactStore(tmp_path / "file").stage("stage", None, {}, 1, Counter())

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    finished = ArtifactStore(tmp_path / "store").stage("stage", None, {}, 1, Counter())
    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(InputError, match="choose a folder that you may write to"):
        ArtifactStore(tmp_path / "store").stage("stage", None, {}, 2, Counter())
    assert ArtifactStore(tmp_path / "store").stage("stage", None, {}, 1, Counter()).path == finished.path


def test_a_damaged_artifact_is_named_and_not_used(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    artifact = store.stage("stage", None, {}, 1, Counter())
    (artifact.path / "out.txt").write_text("res")
    with pytest.raises(InputError, match=r"out\.txt is missing or was cut short: delete .* to have it rebuilt"):
        store.stage("stage", None, {}, 1, Counter())
    (artifact.path / "done.json").write_text('{"hash": ')
    with pytest.raises(InputError, match=r"done\.json cannot be read"):
        store.stage("stage", None, {}, 1, Counter())
    (artifact.path / "done.json").unlink()
    assert not store.stage("stage", None, {}, 1, Counter()).cached


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.wip"])
def test_a_stage_name_is_one_plain_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="stage name"):
        ArtifactStore(tmp_path).stage(name, None, {}, 1, Counter())


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        ArtifactStore(tmp_path).stage("stage", None, {"clips": tmp_path / "nowhere.csv"}, 1, Counter())
