"""The process in which a worker's jobs run, one after the other, so that programs stay compiled between them.

It may die in any way it likes: leases and the record belong to its parent.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from scaling.errors import InputError
from scaling.record import stopping
from scaling.record.files import disk_full, write_json
from scaling.study.gang import join
from scaling.study.sweep import Job, Needed
from scaling.study.sweep_find import find_sweep

RESULT, LOG = "result.json", "log.txt"
REQUEUE = 75


def main(argv: list[str]) -> int:
    """Jobs as JSON lines from standard input until it ends; answers to the file descriptor of the first argument."""
    _die_with_parent(int(argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    signal.signal(signal.SIGTERM, _stop)
    spec = json.loads(argv[1])
    rank = join()
    jobs = find_sweep(spec["sweep"], [tuple(pair) for pair in spec["overrides"]]).jobs()
    with os.fdopen(int(argv[0]), "wb", buffering=0) as answers:
        _say(answers, {"ready": len(jobs)})
        for line in sys.stdin:
            order = json.loads(line)
            try:
                _say(answers, _done(jobs[order["key"]], Path(order["work"]), order["needed"], rank))
            except stopping.Stopped:
                os._exit(REQUEUE)  # JAX would wait for its peers
    return 0


def _done(job: Job, work: Path, needed: dict[str, str], rank: int) -> dict[str, Any]:
    """What became of one job: {"ok", "env_steps"} or {"error", "machine"}; what it prints goes to a log beside it."""
    if rank and not job.together:
        return {"ok": True}
    try:
        with (work / (LOG if rank == 0 else f"log-{rank}.txt")).open("ab", buffering=0) as log, _into(log):
            if not (work / RESULT).exists():  # an earlier attempt may have died between the work and its publication
                inputs = {label: Needed(Path(path), _result(Path(path))) for label, path in needed.items()}
                made = job.action(work, inputs)
                if rank == 0:  # of a gang, the leader alone publishes
                    write_json(work / RESULT, made)
        if rank:
            return {"ok": True}
        found = _result(work)
        steps = found.get("env_steps") if isinstance(found, dict) else None
        return {"ok": True, "env_steps": steps}
    except Exception as error:
        lines = [str(error)] if isinstance(error, InputError) else traceback.format_exc().splitlines()
        return {"error": "\n".join(lines[-12:]), "machine": disk_full(error)}


def _result(folder: Path) -> Any:
    return json.loads((folder / RESULT).read_text())


@contextlib.contextmanager
def _into(log: BinaryIO) -> Any:
    """Standard output and standard error, those of C libraries included, into a file."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


def _say(answers: Any, what: dict[str, Any]) -> None:
    answers.write((json.dumps(what) + "\n").encode())


def _stop(number: int, frame: FrameType | None) -> None:
    if not stopping.ask():
        os._exit(REQUEUE)  # checkpoints are on disk; nothing here is worth a slow farewell
    impatient = threading.Timer(stopping.PATIENCE_S, os._exit, (REQUEUE,))
    impatient.daemon = True
    impatient.start()


def _die_with_parent(parent: int) -> None:
    """A killed worker takes its child along (Linux); elsewhere the child ends when its standard input does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(REQUEUE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
