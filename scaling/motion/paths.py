"""The candidate files of a PATH: a file, a folder searched recursively, or a glob."""

import glob
from pathlib import Path

from scaling.errors import InputError
from scaling.motion.importers.registry import READABLE

# Beside motions, never motions.
_COMPANIONS = {".md", ".txt", ".tsv", ".json", ".yaml", ".yml", ".html", ".png", ".mp4", ".jpg", ".sha256", ".py"}
_COMPANION_NAMES = {"LICENSE", "LICENCE", "NOTICE", "README", "CITATION.cff"}


def motion_paths(path: str | Path) -> list[Path]:
    """The candidate files of a PATH (file, folder searched recursively, or glob); none at all is an `InputError`."""
    text = str(path)
    root = Path(text)
    if root.is_file():
        return [root]
    if root.is_dir():
        found = [file for file in root.rglob("*") if file.is_file() and _candidate(file.relative_to(root))]
        if not found:
            raise InputError(f"{text}: the folder holds no motion files; readable are {READABLE}.")
        return sorted(found)
    if any(mark in text for mark in "*?["):
        matches = [Path(match) for match in glob.glob(text, recursive=True)]
        files = [match for match in matches if match.is_file() and _candidate(Path(match.name))]
        for folder in (match for match in matches if match.is_dir()):
            files += [file for file in folder.rglob("*") if file.is_file() and _candidate(file.relative_to(folder))]
        if not files:
            raise InputError(f"{text}: the pattern matches no motion files; check it, or give a folder.")
        return sorted(set(files))
    raise InputError(f"{text}: no such file or folder; give a motion file, a folder of them, or a glob.")


def _candidate(relative: Path) -> bool:
    """Whether a file found in a folder may be a motion (not hidden, not a manifest or a readme)."""
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and relative.suffix.lower() not in _COMPANIONS and relative.name not in _COMPANION_NAMES
