"""Shelves: a file is created once, whole; a store that cannot promise that is refused in a sentence."""

import errno
import os
import subprocess
import threading
import time

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from scaling.errors import InputError
from scaling.record import lease
from scaling.record.lease import LeaseTimes
from scaling.record.ledger import DAMAGED, DONE, RETRY, Ledger
from scaling.record.shelf import LocalShelf, ObjectShelf, check_atomic, open_shelf

FAST = LeaseTimes(heartbeat_s=0.1, stale_s=0.6, poll_s=0.02)


class Bucket(MemoryFileSystem):
    """A bucket with a conditional put, as object stores have it."""

    protocol = "bucket"
    store, pseudo_dirs = {}, [""]  # fsspec keeps the state of a file system on its class
    lock = threading.Lock()

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        with self.lock:
            if mode == "create" and self.exists(path):
                raise FileExistsError(path)
            super().pipe_file(path, value, **kwargs)


@pytest.fixture(params=["local", "bucket"])
def shelf(request, tmp_path):
    """One of each kind."""
    if request.param == "local":
        return LocalShelf(tmp_path / "store")
    Bucket.store.clear()
    return ObjectShelf(Bucket(), "/store", "bucket://store", tmp_path / "cache")


def test_one_of_many_creates_wins_and_its_bytes_are_whole(shelf):
    won = []
    writers = [
        threading.Thread(target=lambda n=n: shelf.create("runs/a/0001.json", b"%d" % n * 9999) and won.append(n))
        for n in range(8)
    ]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert len(won) == 1
    assert shelf.read("runs/a/0001.json") == b"%d" % won[0] * 9999
    assert shelf.names("runs/a") == ["0001.json"]
    check_atomic(shelf)


def test_only_a_beat_changes_the_stamp(shelf):
    shelf.create("runs/a/0001.json", b"{}")
    first = shelf.stamp("runs/a/0001.json")
    assert shelf.stamp("runs/a/0001.json") == first
    shelf.beat("runs/a/0001.json")
    assert shelf.stamp("runs/a/0001.json") != first
    assert shelf.read("runs/a/0001.json") == b"{}"


def test_a_folder_is_kept_fetched_listed_and_removed(shelf):
    work = shelf.scratch("runs/a/out-1")
    (work / "deep").mkdir()
    (work / "deep" / "file").write_text("x")
    shelf.keep(work, "runs/a/out-1")
    shelf.create("runs/b/0001.json", b"{}")
    assert (shelf.fetch("runs/a/out-1") / "deep" / "file").read_text() == "x"
    assert dict(shelf.slots("runs")) == {"a": ["out-1"], "b": ["0001.json"]}
    shelf.remove("runs/a/out-1")
    assert "out-1" not in shelf.names("runs/a") and shelf.read("runs/nowhere") is None
    shelf.remove("runs/nowhere")


def test_a_finished_folder_is_downloaded_by_who_did_not_make_it(tmp_path):
    Bucket.store.clear()
    there, here = (ObjectShelf(Bucket(), "/store", "bucket://store", tmp_path / name) for name in ("there", "here"))
    work = there.scratch("runs/a/out-1")
    (work / "file").write_text("x")
    there.keep(work, "runs/a/out-1")
    assert (here.fetch("runs/a/out-1") / "file").read_text() == "x"
    assert here.fetch("runs/a/out-1").is_relative_to(tmp_path / "here")


def test_of_a_publication_and_a_takeover_one_fails(shelf):
    ledger = Ledger(shelf)
    claim = ledger.claim("a", ledger.last("a"), "first")
    taken = ledger.claim("a", claim, "second")
    assert taken.number == 2 and taken.attempts == 2 and taken.preemptions == 1
    assert ledger.append("a", claim, DONE) is None and not ledger.owned("a", claim.token)
    assert ledger.append("a", taken, DONE).state == DONE
    assert ledger.claim("a", taken, "third") is None
    assert ledger.standing() == {"a": ledger.last("a")} and ledger.last("a").token == taken.token


def test_a_create_that_meets_itself_has_succeeded(shelf, monkeypatch):
    """A network repeats a request whose answer was lost, and the second is told that the file exists."""
    link, put = os.link, Bucket.pipe_file

    def linked_twice(*arguments):
        link(*arguments)
        link(*arguments)

    def put_twice(self, *arguments, **more):
        put(self, *arguments, **more)
        put(self, *arguments, **more)

    monkeypatch.setattr(os, "link", linked_twice)
    monkeypatch.setattr(Bucket, "pipe_file", put_twice)
    assert shelf.create("runs/a/0001.json", b"mine") and not shelf.create("runs/a/0001.json", b"another's")
    ledger = Ledger(shelf)
    claim = ledger.claim("b", ledger.last("b"), "first")
    assert ledger.owned("b", claim.token) and ledger.append("b", claim, DONE).state == DONE
    retries = [ledger.append("b", ledger.last("b"), RETRY), ledger.append("b", claim, DONE)]
    assert retries[0].number == 3 and retries[1] is None


def test_of_two_who_say_the_same_at_the_same_moment_one_is_told_that_it_was_the_other(shelf, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1e9)
    ledger = Ledger(shelf)
    claim = ledger.claim("a", ledger.last("a"), "first")
    assert [ledger.append("a", claim, RETRY) is None for _ in range(2)] == [False, True]


def test_what_was_withdrawn_is_fenced_and_nothing_before_it_counts(shelf):
    ledger = Ledger(shelf)
    assert ledger.withdraw("a") is None and ledger.last("a").number == 0
    claim = ledger.claim("a", ledger.last("a"), "first")
    assert ledger.withdraw("a").since == 2 and ledger.withdraw("a") is None
    assert ledger.append("a", claim, DONE) is None and not ledger.owned("a", claim.token)
    again = ledger.claim("a", ledger.last("a"), "second")
    assert again.since == 2 and ledger.append("a", again, DONE).since == 2


def test_a_store_that_is_away_for_a_moment_is_asked_again_and_one_that_stays_away_is_an_error(tmp_path, monkeypatch):
    ledger, read, calls = Ledger(LocalShelf(tmp_path), FAST), LocalShelf.names, []

    def names(self, folder):
        calls.append(folder)
        if len(calls) % 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(self, folder)

    monkeypatch.setattr(LocalShelf, "names", names)
    claim = ledger.claim("a", ledger.last("a"), "first")
    assert ledger.owned("a", claim.token) and len(calls) == 6
    monkeypatch.setattr(time, "monotonic", (0.25 * turn for turn in range(1000)).__next__)
    for trouble, asked in ((errno.EIO, 3), (errno.EACCES, 1)):
        calls.clear()

        def away(self, folder, trouble=trouble):
            calls.append(folder)
            raise OSError(trouble, "away")

        monkeypatch.setattr(LocalShelf, "names", away)
        with pytest.raises(OSError, match="away"):
            ledger.last("a")
        assert len(calls) == asked


def test_an_owner_whom_proc_hides_is_alive_and_one_that_is_no_more_is_gone(monkeypatch):
    mine = lease.identity()
    with subprocess.Popen(["true"]) as other:
        theirs = mine | {"pid": other.pid, "ticks": 1}
        other.wait()
    assert not lease.process_gone(mine) and lease.process_gone(mine | {"ticks": mine["ticks"] - 1})
    assert lease.process_gone(theirs) and not lease.process_gone(theirs | {"world": "another machine"})
    with subprocess.Popen(["true"]) as unburied:
        os.waitid(os.P_PID, unburied.pid, os.WEXITED | os.WNOWAIT)
        assert lease.process_gone(mine | {"pid": unburied.pid})
    monkeypatch.setattr(lease, "_start_ticks", lambda pid: None)  # as with hidepid
    assert not lease.process_gone(mine | {"pid": 1}) and lease.process_gone(theirs)


def test_an_entry_that_cannot_be_read_keeps_the_counts_of_the_one_before(shelf):
    ledger = Ledger(shelf)
    claim = ledger.claim("a", ledger.last("a"), "first")
    shelf.create("runs/a/0002.json", b'{"state": "do')
    torn = ledger.last("a")
    assert (torn.number, torn.state, torn.attempts) == (2, DAMAGED, claim.attempts)


def test_a_store_whose_create_is_not_atomic_is_refused(tmp_path):
    for url in ("http://host/store", "memory://store", "sftp://host/store"):
        with pytest.raises(InputError, match="two workers could do the same run; name a folder"):
            open_shelf(url)

    class Careless(Bucket):
        def pipe_file(self, path, value, mode="overwrite", **kwargs):
            super().pipe_file(path, value)

    with pytest.raises(InputError, match="does not refuse a second create"):
        check_atomic(ObjectShelf(Careless(), "/store", "careless://store", tmp_path))
    assert isinstance(open_shelf(f"file://{tmp_path}"), LocalShelf)
    assert isinstance(open_shelf(str(tmp_path / "a folder")), LocalShelf)


def test_a_file_in_the_way_of_a_store_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="in the way"):
        LocalShelf(tmp_path / "file").create("runs/a/0001.json", b"")
