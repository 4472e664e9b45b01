"""A policy in one file: the zip of its folder, opened wherever the folder is."""

import contextlib
import os
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

from scaling.contract.manifest import MANIFEST
from scaling.errors import InputError
from scaling.record.files import told

SUFFIX = ".zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same policy is the same bytes, whenever it is packed
_MOST_FILES, _MOST_BYTES = 64, 8 << 30


def is_archive(path: Path) -> bool:
    """Whether `path` is the zip of a policy, by its name and by the manifest in it."""
    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def pack(folder: Path, out: Path) -> Path:
    """Write the zip of a policy folder, whole or not at all; nothing is compressed, for weights do not shrink."""
    scratch = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.iterdir()):
                with path.open("rb") as source, archive.open(zipfile.ZipInfo(path.name, _EPOCH), "w") as entry:
                    while chunk := source.read(1 << 20):
                        entry.write(chunk)
        os.replace(scratch, out)
    finally:
        scratch.unlink(missing_ok=True)
    return out


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[Path]:
    """The folder of a policy: `path` itself, or what its zip holds, for as long as the context lasts.

    Raises InputError for a file that is no whole zip, or whose entries are not the plain files of a policy.
    """
    path = Path(path)
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="scaling-policy-") as scratch:
        _unpack(path, Path(scratch))
        try:
            yield Path(scratch)
        except InputError as error:  # what is wrong is wrong with the zip, not with a folder that nobody knows
            raise InputError(str(error).replace(scratch, str(path))) from error.__cause__


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                if Path(entry.filename).name != entry.filename:
                    raise InputError(f"{path} holds {entry.filename!r}, which is no plain file: pack the policy again")
            if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise InputError(f"{path} holds more than a policy does: name a file that `scaling export` wrote")
            archive.extractall(folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InputError(f"{path} is not a whole zip of a policy ({error}): copy it again") from None
    except OSError as error:
        raise (told(error, path, "opening") or error) from None
