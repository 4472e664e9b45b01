"""The artifact store: a stage is built once for one config, inputs and version, whoever asks and whatever is killed."""

import contextlib
import dataclasses
import functools
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record.files import disk_full, told, write_json
from scaling.record.hashing import canonical_json, content_hash, file_hash
from scaling.record.lease import LeaseTimes, owner
from scaling.record.ledger import Entry, Ledger
from scaling.record.progress import say
from scaling.record.shelf import LocalShelf

DONE = "done.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A finished stage: its folder, its key, whether it was there already, and the seconds that all attempts took."""

    name: str
    path: Path
    hash: str
    cached: bool
    seconds: float

    def meta(self) -> dict[str, Any]:
        """What `done.json` records: config, inputs, version, commit, seconds, attempts, files with sizes."""
        return _read_done(self.path)


Input = str | Path | Artifact


class ArtifactStore:
    """Artifacts below `root`: `root/NAME/HASH/` finished, `root/NAME/HASH.wip/` being built, with its ledger."""

    def __init__(self, root: str | Path, times: LeaseTimes | None = None) -> None:
        self.root = Path(root)
        self._ledger = Ledger(LocalShelf(self.root), times, folder=".")

    def key(self, name: str, config: Any, inputs: Mapping[str, Input], version: int) -> str:
        """The content hash of a stage: its name, config, inputs' hashes and semantic version."""
        return self._identify(name, config, inputs, version)[0]

    def find(self, name: str, config: Any, inputs: Mapping[str, Input], version: int) -> Artifact | None:
        """The finished stage, or None; builds and writes nothing."""
        return self._published(name, self.key(name, config, inputs, version))

    def artifacts(self, name: str) -> Iterator[Artifact]:
        """Every finished artifact of a stage."""
        for done in sorted((self.root / name).glob(f"*/{DONE}")):
            if found := self._published(name, done.parent.name):
                yield found

    def stage(
        self, name: str, config: Any, inputs: Mapping[str, Input], version: int, build: Callable[[Path], None]
    ) -> Artifact:
        """The artifact of (name, config, inputs, version), built by `build(work)` unless it is there.

        `work` is a folder that outlives a killed process: `build` finds there whatever an earlier attempt left (its own
        checkpoints), and what it leaves becomes the artifact, in one rename. An input is an Artifact, the Path of an
        artifact, of any file or folder (hashed by content), or a text that is itself a hash. Two processes on one key
        build once: the second waits, and takes over when the first is dead. Raises InputError on a full disk or a
        store that cannot be written; whatever was finished stays.
        """
        key, known = self._identify(name, config, inputs, version)
        while True:
            if artifact := self._published(name, key):
                return artifact
            with _told(self.root):
                claim = self._claim(name, key)
            if claim is None:
                continue
            known["config"] = json.loads(canonical_json(config))
            wip, began = _wip(name, key), time.perf_counter()
            try:
                with self._ledger.beating(wip, claim):
                    if artifact := self._attempt(claim, build, {"name": name, "hash": key, **known}):
                        return artifact
            finally:
                self._ledger.release(wip, claim, claim.seconds + time.perf_counter() - began)

    def _identify(
        self, name: str, config: Any, inputs: Mapping[str, Input], version: int
    ) -> tuple[str, dict[str, Any]]:
        if not _NAME.fullmatch(name):
            raise ValueError(f"stage name {name!r}: only letters, digits, - and _ may stand in it")
        if isinstance(version, bool) or not isinstance(version, int):
            raise TypeError(
                f"stage version {version!r}: must be a whole number, raised when the stage computes otherwise"
            )
        hashes = {label: _input_hash(item) for label, item in inputs.items()}
        known = {"config": config, "inputs": hashes, "version": version}
        return content_hash({"name": name, **known}), known

    def _final(self, name: str, key: str) -> Path:
        return self.root / name / key

    def _published(self, name: str, key: str) -> Artifact | None:
        path = self._final(name, key)
        if not (path / DONE).exists():
            return None
        meta = _read_done(path)
        for file, size in meta["files"].items():
            if not (path / file).is_file() or (path / file).stat().st_size != size:
                raise InputError(f"{path / file} is missing or was cut short: delete {path} to have it rebuilt")
        return Artifact(name, path, key, cached=True, seconds=meta["seconds"])

    def _claim(self, name: str, key: str) -> Entry | None:
        """Waits until the work is ours; None when something changed and the caller should look again."""
        wip, told_so = _wip(name, key), False
        while not (self._final(name, key) / DONE).exists():
            entry = self._ledger.last(wip)
            if self._ledger.claimable(wip, entry):
                try:
                    return self._ledger.claim(wip, entry, "")
                except FileNotFoundError:  # the folder was cleared away: its work has just been published
                    return None
            if not told_so:
                say(f"{name} {key}: being built by {owner(entry.data)}; waiting for it")
                told_so = True
            time.sleep(self._ledger.times.poll_s)
        return None

    def _attempt(self, claim: Entry, build: Callable[[Path], None], known: dict[str, Any]) -> Artifact | None:
        """Runs `build` and publishes what it leaves; None when another process did, or has taken over."""
        name, key = known["name"], known["hash"]
        final, wip = self._final(name, key), _wip(name, key)
        folder = self.root / wip
        if (final / DONE).exists():
            _drop(folder)
            return None
        start = time.perf_counter()
        try:
            with _told(self.root):
                work = _work_folder(folder, claim, final)
            build(work)
            seconds = claim.seconds + time.perf_counter() - start
            bill = {"seconds": seconds, "attempts": claim.attempts, **_circumstances(), "files": _sizes(work)}
            with _told(self.root):
                write_json(work / DONE, {**known, **bill})
                # Asked last: a build that makes its folders anew would else publish what it wrote since it was fenced.
                # Whoever takes over after this line takes the folder away, and the rename fails.
                if not self._ledger.owned(wip, claim.token):
                    raise FileNotFoundError(work)
                work.rename(final)
        except Exception as error:
            if not self._ledger.owned(wip, claim.token):
                say(f"{name} {key}: another process has taken this over; its result is used")
                # What a fenced build went on writing must not be taken for work to resume.
                if (final / DONE).exists():
                    _drop(folder)
                elif self._ledger.last(wip).number > claim.number:
                    _drop(folder / f"work-{claim.token}")
                return None
            if disk_full(error):
                raise InputError(
                    f"the disk is full while building {name} in {self.root}: free some space and run the same command "
                    "again; what is finished stays, and this stage resumes"
                ) from error
            raise
        _drop(folder)
        return Artifact(name, final, key, cached=False, seconds=seconds)


def _wip(name: str, key: str) -> str:
    """What the ledger calls an artifact that is being built: its folder below the root."""
    return f"{name}/{key}.wip"


def _work_folder(folder: Path, claim: Entry, final: Path) -> Path:
    """This attempt's folder, with what earlier attempts left; taking it away from them is what fences them."""
    work = folder / f"work-{claim.token}"
    earlier = sorted(path for path in folder.glob("work-*") if int(path.name.split("-")[1]) <= claim.number)
    if final.exists():  # a folder whose done.json was deleted: unfinished work like any other
        final.rename(folder / f"work-0000-{final.name}" if not earlier else folder / f"aside-{claim.token}")
        earlier = earlier or [folder / f"work-0000-{final.name}"]
    if earlier:
        earlier[-1].rename(work)
    else:
        work.mkdir()
    return work


@contextlib.contextmanager
def _told(root: Path) -> Iterator[None]:
    """Turns what the machine refuses (a full disk, a read-only mount) into the user's sentence."""
    try:
        yield
    except OSError as error:
        if sentence := told(error, root, "storing results in"):
            raise sentence from error
        raise


def _input_hash(item: Input) -> str:
    if isinstance(item, Artifact):
        return item.hash
    if isinstance(item, str):
        return item
    if (item / DONE).exists():
        return str(_read_done(item)["hash"])
    return file_hash(item)


def _read_done(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads((path / DONE).read_text())
        if not isinstance(meta, dict) or not {"hash", "seconds", "files"} <= meta.keys():
            raise ValueError("a field is missing")
    except (OSError, ValueError):
        raise InputError(f"{path / DONE} cannot be read: delete {path} to have it rebuilt") from None
    return meta


def _sizes(work: Path) -> dict[str, int]:
    """Bytes of each file, by its path in the artifact."""
    files = sorted(path for path in work.rglob("*") if path.is_file() and path != work / DONE)
    return {path.relative_to(work).as_posix(): path.stat().st_size for path in files}


def _drop(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _circumstances() -> dict[str, Any]:
    return {
        "commit": git_commit(),
        "host": socket.gethostname(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def git_commit() -> str | None:
    """The commit of this code, with "-dirty" where it was changed since; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answers = [
            subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0].stdout.strip() + ("-dirty" if answers[1].stdout.strip() else "")
