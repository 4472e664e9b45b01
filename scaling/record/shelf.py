"""Where a sweep keeps its records: a local folder, or an object store whose create-if-absent is atomic."""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from scaling.errors import InputError
from scaling.record.files import told

ATOMIC = ("gcs", "gs", "s3", "s3a")  # a conditional put: If-None-Match, or a generation of 0


class Shelf(Protocol):
    """Small files by relative name; `create` is the one step on which all agreement between machines rests."""

    url: str

    def create(self, name: str, data: bytes) -> bool:
        """Writes a new file whole; False, and nothing changed, where there is one with other bytes.

        A network may carry one create twice, and its second half then meets the first. So whoever has to be the only
        one writes what nobody else would.
        """

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is none."""

    def beat(self, name: str) -> None:
        """Makes `stamp` of a file another one."""

    def stamp(self, name: str) -> Any:
        """Something that only `beat` changes; None where there is no file."""

    def names(self, folder: str) -> list[str]:
        """Names (files and folders) in a folder; none where it is missing."""

    def slots(self, folder: str) -> Iterator[tuple[str, list[str]]]:
        """Every folder in `folder` with the names in it."""

    def remove(self, name: str) -> None:
        """Removes a file or a folder with all that is in it."""

    def keep(self, local: Path, name: str) -> None:
        """Makes the files of a local folder the folder `name`."""

    def fetch(self, name: str) -> Path:
        """A local folder with the files of the folder `name`."""

    def scratch(self, name: str) -> Path:
        """The local folder in which `name` is made, and where `keep` costs nothing if that can be had."""


class LocalShelf:
    """A folder that all workers see (a disk, or a network file system with hard links)."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = str(self.root)

    def create(self, name: str, data: bytes) -> bool:
        """By a hard link, which is atomic and never shows half a file."""
        path = self.root / name
        scratch = path.with_name(f".{uuid.uuid4().hex[:12]}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(scratch, path)
        except FileExistsError:
            if path.parent.is_dir():
                return self.read(name) == data
            raise InputError(f"{self.root} is in the way of a folder: name another store") from None
        except OSError as error:
            raise told(error, self.root, "storing results in") or error from error
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
        return True

    def read(self, name: str) -> bytes | None:
        """Opened, so that a network file system asks its server."""
        try:
            with open(f"{self.url}/{name}", "rb") as file:  # a sweep reads thousands: no Path is made for each
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def beat(self, name: str) -> None:
        """By the time of modification, which needs no space on a full disk."""
        with contextlib.suppress(OSError):  # a network file system may come back
            now = time.time()
            os.utime(self.root / name, (now, now))

    def stamp(self, name: str) -> int | None:
        """The time of modification, of which only a change means anything."""
        try:
            with (self.root / name).open("rb") as file:
                return os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """As the folder lists them, without scratch files."""
        try:
            return sorted(name for name in os.listdir(f"{self.url}/{folder}") if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def slots(self, folder: str) -> Iterator[tuple[str, list[str]]]:
        """One listing for each folder."""
        for name in self.names(folder):
            yield name, self.names(f"{folder}/{name}")

    def remove(self, name: str) -> None:
        """Missing is well."""
        path = self.root / name
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise told(error, self.root, "clearing") or error from error

    def keep(self, local: Path, name: str) -> None:
        """It is there already."""
        if local != self.root / name:
            raise ValueError(f"{local} is not the scratch folder of {name}")

    def fetch(self, name: str) -> Path:
        """The folder itself."""
        return self.root / name

    def scratch(self, name: str) -> Path:
        """The folder itself: nobody reads it before an entry names it."""
        path = self.root / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise told(error, self.root, "storing results in") or error from error
        return path


class ObjectShelf:
    """A bucket behind fsspec; folders are made in a local cache and uploaded when they are finished."""

    def __init__(self, fs: Any, root: str, url: str, cache: Path) -> None:
        self.url, self._fs, self._root, self._cache = url, fs, root.rstrip("/"), cache

    def create(self, name: str, data: bytes) -> bool:
        """By a conditional put."""
        try:
            self._fs.pipe_file(f"{self._root}/{name}", data, mode="create")
        except FileExistsError:
            return self.read(name) == data
        return True

    def read(self, name: str) -> bytes | None:
        """Whole, or None."""
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def beat(self, name: str) -> None:
        """A small file beside it is written anew."""
        self._fs.pipe_file(f"{self._root}/{name}.beat", uuid.uuid4().hex.encode())

    def stamp(self, name: str) -> str | None:
        """What the last beat wrote, or that there was none."""
        beat = self.read(f"{name}.beat")
        return beat.decode() if beat is not None else ""

    def names(self, folder: str) -> list[str]:
        """Past the cache of listings."""
        try:
            found = self._fs.ls(f"{self._root}/{folder}", detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def slots(self, folder: str) -> Iterator[tuple[str, list[str]]]:
        """One listing for all."""
        self._fs.invalidate_cache()
        inside: dict[str, set[str]] = {}
        for path in self._fs.find(f"{self._root}/{folder}"):
            first, _, rest = path.split(f"{self._root}/{folder}/", 1)[-1].partition("/")
            inside.setdefault(first, set()).add(rest.split("/")[0])
        for name in sorted(inside):
            yield name, sorted(inside[name])

    def remove(self, name: str) -> None:
        """Missing is well."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(f"{self._root}/{name}", recursive=True)

    def keep(self, local: Path, name: str) -> None:
        """Uploaded file by file; the entry that names them comes last."""
        for path in sorted(path for path in local.rglob("*") if path.is_file()):
            self._fs.put_file(str(path), f"{self._root}/{name}/{path.relative_to(local).as_posix()}")

    def fetch(self, name: str) -> Path:
        """Downloaded once: a finished folder never changes."""
        path = self._cache / name
        if not path.exists():
            partial = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
            partial.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get(f"{self._root}/{name}/", f"{partial}/", recursive=True)
            with contextlib.suppress(OSError):  # another process was first
                partial.rename(path)
        return path

    def scratch(self, name: str) -> Path:
        """In the cache, with what an earlier attempt of this machine left there."""
        path = self._cache / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def open_shelf(url: str) -> Shelf:
    """The shelf at a folder or URL. Raises InputError for one whose create-if-absent is not atomic."""
    protocol, _, rest = url.partition("://")
    if not rest:
        return LocalShelf(Path(url).expanduser())
    if protocol in ("file", "local"):
        return LocalShelf(Path(rest))
    if protocol not in ATOMIC:
        raise InputError(
            f"{url}: a store on {protocol!r} cannot create a file only if it is absent in one step, so two workers "
            f"could do the same run; name a folder, or a URL of {', '.join(ATOMIC)}"
        )
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{url} needs a package that is not installed ({error})") from None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling" / "sweeps"
    shelf = ObjectShelf(fs, root, url, cache / rest.strip("/").replace("/", "_"))
    check_atomic(shelf)
    return shelf


def check_atomic(shelf: Shelf) -> None:
    """Raises InputError where a second create of the same file is not refused."""
    probe = f"probe-{uuid.uuid4().hex[:12]}"
    try:
        first, second = shelf.create(probe, b"1"), shelf.create(probe, b"2")
    except (TypeError, NotImplementedError):
        first = second = False
    with contextlib.suppress(OSError):
        shelf.remove(probe)
    if not first or second:
        raise InputError(f"{shelf.url} does not refuse a second create of one file: name a folder or another store")
