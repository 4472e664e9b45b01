"""One finished study for all tests that ask for one, whichever process they run in."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scaling.record.table import read_table, rows_of
from scaling.study.quickstart import run_study
from tests.study.tiny import small_pictures, tiny


class Finished(NamedTuple):
    """A study's folder, its summary, and its rows as they were then."""

    out: Path
    summary: dict[str, Any]
    rows: list[dict[str, Any]]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny study, its pictures by MuJoCo where it can; the first process that wants it runs it, others wait."""
    temporary = tmp_path_factory.getbasetemp()
    out = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "study"
    kept = out.with_suffix(".json")
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with pytest.MonkeyPatch.context() as patch:
                small_pictures(patch)
                # as a newcomer gives it: relative to where they stand
                summary = run_study(tiny(reference=True), Path(os.path.relpath(out)), "a command")
            kept.write_text(json.dumps([summary, rows_of(read_table(summary["table"]))]))
    summary, rows = json.loads(kept.read_text())
    return Finished(out, summary, rows)


@pytest.fixture(autouse=True)
def thumbnails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of studies are small and drawn, without a process of MuJoCo's renderer for each."""
    monkeypatch.setenv("MUJOCO_GL", "off")
    small_pictures(monkeypatch)
