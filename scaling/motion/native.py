"""The project's own clip file: one npz with `qpos`, `rate_hz`, name, source, licence, group, family and notes."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.motion.clip import Motion, clean
from scaling.motion.importers.content import Content
from scaling.record.files import told

NAME = "scaling npz"
_TEXTS = ("name", "source", "licence", "group", "family")


def write_npz(motion: Motion, path: str | Path) -> Path:
    """Write the clip, whole or not at all, and return its path; `from_content` gives back what went in."""
    path = Path(path)
    clean(motion)
    texts = {key: np.array(getattr(motion, key)) for key in _TEXTS}
    notes = np.array(motion.notes, dtype=np.str_)
    save_npz(path, qpos=motion.qpos, rate_hz=np.float64(motion.rate_hz), notes=notes, **texts)
    return path


def save_npz(path: Path, **arrays: Any) -> None:
    """`numpy.savez` through a temporary neighbour, so that a crash or a full disk never leaves half a file."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            np.savez(out, **arrays)
        os.replace(partial, path)
    except OSError as error:
        sentence = told(error, path, "writing")
        if sentence is not None:
            raise sentence from None
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def claims(content: Content) -> bool:
    """Whether a file has the names of this format."""
    return {"qpos", "rate_hz"} <= content.keys


def from_content(content: Content) -> Motion:
    """The clip in one of the project's npz files; raises `InputError` for a damaged one."""
    path, data = content.path, content.value
    try:
        fields = {key: str(data[key]) for key in _TEXTS if key in data}
        notes = tuple(str(note) for note in data["notes"]) if "notes" in data else ()
        qpos, rate = np.asarray(data["qpos"], dtype=np.float64), float(data["rate_hz"])
    except (ValueError, TypeError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable motion npz ({detail}); write it again with write_npz.") from None
    name, source = fields.pop("name", "") or path.stem, fields.pop("source", "") or str(path)
    if qpos.ndim != 2:
        raise InputError(f"{path}: qpos has shape {qpos.shape}; a motion npz needs [frames, 36].")
    return clean(Motion(qpos, rate, name, source, notes=notes, **fields))
