"""Shelves: a file is created once, whole; a store that cannot promise that is refused in a sentence."""

import threading

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from scaling.errors import InputError
from scaling.record.ledger import DAMAGED, DONE, Ledger
from scaling.record.shelf import LocalShelf, ObjectShelf, check_atomic, open_shelf


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
    assert ledger.append("a", claim, DONE) is None and not ledger.owned("a", claim)
    assert ledger.append("a", taken, DONE).state == DONE
    assert ledger.claim("a", taken, "third") is None
    assert ledger.standing() == {"a": ledger.last("a")} and ledger.last("a").token == taken.token


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
