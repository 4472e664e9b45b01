"""What file names and manifests say about a clip: rate, recording group, family, collection and licence."""

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

DEFAULT_RATE_HZ = 30.0
MANIFEST = "MANIFEST.tsv"
_SUBJECT = re.compile(r"^(?P<recording>.+?)_(?P<subject>subject\d+)(?:_.*)?$")
_RATE = re.compile(r"(?<![0-9])(\d{2,3}(?:\.\d+)?)_?hz(?![a-z])", re.IGNORECASE)
_G1_MOVES = re.compile(r"^[BJM]_(?:[A-Z][a-z]*)*?(Dance|Karate|Move)(?![a-z])")
_SUFFIXES = (".gz", ".csv", ".npz", ".npy", ".pkl", ".bvh", ".amc", ".asf", ".motion", ".bin")

# Folder name of a collection -> its licence, as its own pages state it.
LICENCES = {"lafan1": "CC BY-NC-ND 4.0", "g1_moves": "CC BY 4.0"}


@dataclass(frozen=True)
class Rate:
    """Frames a second and the evidence for it; `certain` is False where it was only assumed.

    `remark` says what the caller must know besides, such as that the file was believed against a flag.
    """

    hz: float
    evidence: str
    certain: bool
    remark: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should read: the remark, and what an uncertain rate rests on."""
        return tuple(words for words in ("" if self.certain else self.evidence, self.remark) if words)


def clip_name(path: Path) -> str:
    """File name without the suffixes of known formats: `walk1_subject1.csv.gz` is `walk1_subject1`."""
    name = path.name
    while True:
        suffix = next((end for end in _SUFFIXES if name.lower().endswith(end) and len(name) > len(end)), None)
        if suffix is None:
            return name
        name = name[: -len(suffix)]


def recording_group(name: str) -> str:
    """The recording a clip belongs to: all subjects of one LAFAN1 recording are one group, else the clip itself."""
    match = _SUBJECT.match(name)
    return match["recording"] if match else name


def subject(name: str) -> str:
    """Who moved, where the collection's naming tells it (LAFAN1: `subject1`), else ""."""
    match = _SUBJECT.match(name)
    return match["subject"] if match else ""


def family(name: str) -> str:
    """The kind of motion where the collection's naming tells it (LAFAN1, g1-moves), else ""."""
    match = _SUBJECT.match(name)
    if match:
        return match["recording"].rstrip("0123456789")
    match = _G1_MOVES.match(name)
    return match[1].lower() if match else ""


def licence(path: Path) -> str:
    """Licence of a file by the collection whose folder it lies in, else "unknown"."""
    for parent in path.parents:
        if parent.name.lower() in LICENCES:
            return LICENCES[parent.name.lower()]
    return "unknown"


@lru_cache(maxsize=64)
def _manifest(path: Path, _modified_ns: int) -> dict[str, float]:
    """Relative file name -> rate (Hz) of a manifest with columns `file` and `hz`; empty for any other table."""
    rates: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            try:
                rates[str(row["file"])] = float(row["hz"])
            except (KeyError, TypeError, ValueError):
                continue
    return rates


def rate_of(path: Path) -> Rate:
    """Rate of a file that does not hold it: manifest entry, its name, else assumed: its neighbours', or 30 Hz."""
    path = path.resolve()
    neighbours: set[float] = set()
    for depth, folder in enumerate(path.parents[:4]):
        manifest = folder / MANIFEST
        if not manifest.is_file():
            continue
        rates = _manifest(manifest, manifest.stat().st_mtime_ns)
        relative = path.relative_to(folder).as_posix()
        for key in (relative, relative.removesuffix(".gz"), relative + ".gz"):
            if key in rates:
                return Rate(rates[key], f"{manifest.name} lists {key} at {rates[key]:g} Hz", True)
        prefix = "" if depth == 0 else path.parent.relative_to(folder).as_posix() + "/"
        neighbours |= {hz for key, hz in rates.items() if key.startswith(prefix) and "/" not in key[len(prefix) :]}
    for text in (path.name, path.parent.name):
        match = _RATE.search(text)
        if match:
            return Rate(float(match[1]), f"the name {text!r} says {match[1]} Hz", True)
    if len(neighbours) == 1:
        hz = neighbours.pop()
        return Rate(
            hz, f"the file does not hold its rate; {hz:g} Hz was assumed from the files beside it in {MANIFEST}", False
        )
    return Rate(DEFAULT_RATE_HZ, f"the file does not hold its rate; {DEFAULT_RATE_HZ:g} Hz was assumed", False)
