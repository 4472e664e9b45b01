"""What kind of file this is, told from its first bytes and never from its name."""

import zipfile
from pathlib import Path

from scaling.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
READABLE = "36-column CSV (plain or .gz) and this project's .npz"


def kind(head: bytes, path: Path) -> str:
    """ "csv", "npz", or a description in words of what else `head` (the first bytes, decompressed) looks like."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer, not the data (run `git lfs pull` where it came from)"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head.startswith(b"\x93NUMPY"):
        return "a bare NumPy array (.npy)"
    if head.startswith(b"NPZ\x00"):
        return "a wbc_fsm binary array"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle"
    if b"\x00" in head:
        return "an unknown binary file"
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if text.startswith("HIERARCHY"):
        return "human motion in BVH"
    if text.startswith(":version") or text.startswith("# AST/ASF"):
        return "a human skeleton (ASF)"
    if text.startswith("#!OML") or text.startswith(":FULLY-SPECIFIED"):
        return "human motion in AMC"
    first = text.splitlines()[0] if text else ""
    if not text or "," in first or _number(first):
        return "csv"
    return "a text file that is not a table of numbers"


def _number(text: str) -> bool:
    """Whether the text is one number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _zip_kind(path: Path) -> str:
    """The kind of a zip archive by its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: the archive is cut short or damaged ({error}); fetch it again.") from None
    if any(member.endswith("data.pkl") for member in members):
        return "a torch archive"
    keys = {member.removesuffix(".npy") for member in members if member.endswith(".npy")}
    if not keys:
        return "a zip archive"
    if {"qpos", "rate_hz"} <= keys:
        return "npz"
    shown = ", ".join(sorted(keys)[:5])
    return f"an npz of another project (keys {shown}{', ...' if len(keys) > 5 else ''})"
