"""A sweep whose store is a bucket behind a server that speaks S3: two workers share nothing else."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from scaling.record.shelf import open_shelf
from scaling.record.table import read_table, rows_of


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The store's URL, in the environment of a machine that reaches it and has a cache of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**account, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("lab", exist_ok=True)
    yield f"s3://lab/{tmp_path.name}"
    server.stop()


def test_of_many_that_create_one_object_one_wins(bucket):
    shelf, won = open_shelf(bucket), []

    def create(number: int) -> None:
        if shelf.create("runs/a/0001.json", b"%d" % number * 999):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and shelf.read("runs/a/0001.json") == b"%d" % won[0] * 999


@pytest.mark.slow
def test_two_machines_share_a_sweep_by_a_bucket_alone(bucket, tmp_path):
    def scaling(verb: str, machine: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "scaling", "sweep", verb, "engine_check", "--set", "rounds=20000", "--json"]
        env = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "XDG_CACHE_HOME": str(tmp_path / machine),
        }
        return subprocess.Popen(
            [*command, "--store", bucket],
            env=env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    workers = [scaling("work", machine) for machine in ("one", "two")]
    done = []
    for worker in workers:
        out, err = worker.communicate()
        assert worker.returncode == 0, err
        done.append(json.loads(out)["done"])
    assert sum(done) == 40 and min(done) > 0
    third = scaling("table", "three")
    _, err = third.communicate()
    assert third.returncode == 0, err
    rows = rows_of(read_table(tmp_path / "engine_check.csv"))
    assert len({row["sweep_hash"] for row in rows}) == len({row["digest"] for row in rows}) == len(rows) == 40
