"""A store on a disk that is really full, and on a mount that is really read-only; where nobody may mount, a skip."""

import subprocess

import pytest

from scaling.errors import InputError
from scaling.study.sweep_find import find_sweep
from scaling.study.sweep_state import survey
from scaling.study.sweep_worker import Order, Worker
from tests.study.sweeps import SAFE, ledger_of, write_check


@pytest.fixture
def disk(tmp_path):
    """A file system of half a megabyte in memory."""
    folder = tmp_path / "store"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


def mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def work(folder, sweep, **more):
    return Worker(Order(sweep), ledger_of(folder, SAFE)).run(**more)


def states(folder, sweep):
    return [one.state for one in survey(find_sweep(sweep).jobs(), ledger_of(folder))]


def test_a_full_disk_is_one_sentence_and_freed_space_is_enough(tmp_path, disk):
    sweep = write_check(tmp_path)
    assert work(tmp_path, sweep, max_runs=1).done == 1
    with pytest.raises(OSError, match="No space left"):
        (disk / "filler").write_bytes(b"x" * 1_000_000)
    with pytest.raises(InputError, match="the disk is full"):
        work(tmp_path, sweep)
    assert states(tmp_path, sweep)[0] == "finished"
    (disk / "filler").unlink()
    assert work(tmp_path, sweep).done == 2
    assert states(tmp_path, sweep) == ["finished"] * 3


def test_a_read_only_mount_is_one_sentence_and_can_be_read(tmp_path, disk):
    sweep = write_check(tmp_path)
    assert work(tmp_path, sweep, max_runs=1).done == 1
    mount("-o", "remount,ro", disk)
    with pytest.raises(InputError, match="choose a folder that you may write to"):
        work(tmp_path, sweep)
    assert states(tmp_path, sweep) == ["finished", "new", "new"]
    mount("-o", "remount,rw", disk)
    assert work(tmp_path, sweep).done == 2
