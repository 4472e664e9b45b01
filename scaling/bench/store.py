"""The corpus store at 0.2, 2 and 20 million frames: windows a second, anonymous memory, and what 2 billion would take.

Rates are of core seconds (all cores of the process counted), so neighbours on the machine do not show in them. The page
cache is warm: every file is read through before windows are drawn from it. On a cold one the disk decides.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import Float

from scaling.bench.row import Row
from scaling.errors import InputError
from scaling.motion.augment import SPEEDS, mirror, time_warp, turn
from scaling.motion.clip import Motion
from scaling.motion.store.index import ClipRow
from scaling.motion.store.memory_map import MappedFrames
from scaling.motion.store.pipeline import ShardFrames
from scaling.motion.store.shards import FRAME_BYTES, StoreConfig
from scaling.motion.store.store import Store, open_store, write_store
from scaling.motion.store.windows import WindowConfig, windows_of
from scaling.motion.synthetic import FAMILIES, corpus_motions
from scaling.record.progress import Progress
from scaling.record.timing import medians

SIZES = {"0.2M": 200_000, "2M": 2_000_000, "20M": 20_000_000}
PLAN = 2_000_000_000
_SECONDS = 1.0  # of drawing, after as much again unheeded
_BATCH = 1024
_TARGETS = {"map": 400_000.0, "shards": 10_000.0}
_GROWTH_MB = 50.0


def rows(quick: bool, scratch: str | None, import_rate: float) -> Iterator[Row]:
    """The store's rows, of 0.2 M frames alone if `quick`; the plan reckons with `import_rate` (frames/s of a core)."""
    sizes = dict(list(SIZES.items())[: 1 if quick else None])
    base = corpus_motions(60.0 if quick else 200.0, 0)
    ways = variants(base)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        _check_room(Path(folder), max(sizes.values()))
        found: dict[str, dict[str, Drawn]] = {}
        for name, frames in sizes.items():
            store = write_store(Path(folder) / name, _watched(grown(base, ways, frames), f"store of {name}", frames))
            if name == "0.2M":
                rates = yield from _write_rates(store, Path(folder))
            MappedFrames(store)
            found[name] = {path: _measured(store.folder, path) for path in _TARGETS}
            for path, drawn in found[name].items():
                last = name == list(SIZES)[-1]
                yield Row(f"windows_{path}_{name}", drawn.rate, "windows/s", _TARGETS[path] if last else None)
                yield Row(f"anonymous_{path}_{name}", drawn.anonymous / 1e6, "MB", higher_is_better=False)
            index = (store.folder / "index.parquet").stat().st_size / store.frames
            shutil.rmtree(store.folder)
        if not quick:
            for path in _TARGETS:
                growth = (found["20M"][path].anonymous - found["0.2M"][path].anonymous) / 1e6
                yield Row(f"anonymous_growth_{path}", growth, "MB", _GROWTH_MB, higher_is_better=False)
            yield from _plan(rates, index, import_rate, {path: drawn.rate for path, drawn in found["20M"].items()})


def variants(base: Sequence[Motion]) -> list[list[Float[np.ndarray, "T 36"]]]:
    """Each take at every pace of the augmentation, as it is and mirrored."""
    paces = [[time_warp(motion.qpos, speed) for speed in SPEEDS] for motion in base]
    return [[*paced, *(mirror(qpos) for qpos in paced)] for paced in paces]


def grown(
    base: Sequence[Motion], variants: Sequence[Sequence[Float[np.ndarray, "T 36"]]], frames: int
) -> Iterator[tuple[ClipRow, Float[np.ndarray, "T 36"]]]:
    """At least `frames` frames: the takes, then as many of their variants as it needs, each turned by another angle."""
    rng = np.random.default_rng(0)
    for copy in count():
        for motion, ways in zip(base, variants, strict=True):
            if frames <= 0:
                return
            qpos, name, origin = motion.qpos, motion.name, ""
            if copy:
                qpos = turn(ways[int(rng.integers(len(ways)))], rng.uniform(-np.pi, np.pi))
                name, origin = f"{motion.name}~{copy}", motion.name
            yield ClipRow(name, motion.name, motion.group, origin=origin, cluster=FAMILIES.index(motion.family)), qpos
            frames -= len(qpos)


def _watched(
    clips: Iterator[tuple[ClipRow, Float[np.ndarray, "T 36"]]], title: str, frames: int
) -> Iterator[tuple[ClipRow, Float[np.ndarray, "T 36"]]]:
    """The clips, under a bar of their frames."""
    done = 0
    with Progress(title, frames) as progress:
        progress.update(0)
        for row, qpos in clips:
            yield row, qpos
            done += len(qpos)
            progress.update(done)


@dataclass(frozen=True)
class Drawn:
    """Windows a core second, and bytes of anonymous memory (`RssAnon`) of the process that drew them."""

    rate: float
    anonymous: int


def _measured(folder: Path, path: str) -> Drawn:
    """What a fresh process says, so that no other size is in its memory."""
    command = [sys.executable, "-m", "scaling.bench.store", str(folder), path]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"drawing windows failed: {ran.stderr.strip().splitlines()[-1:]}")
    return Drawn(**json.loads(ran.stdout))


def draw(folder: str, path: str) -> Drawn:
    """Draw batches mixed by cluster from a store, by the memory map or from the shards."""
    store = open_store(folder)
    windows = windows_of(store, WindowConfig(batch=_BATCH, mixing="clusters"))
    frames = MappedFrames(store) if path == "map" else ShardFrames(store)
    for file in store.folder.glob("frames.f32" if path == "map" else "*.array_record"):
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 20):
                pass
    step, rate = 0, 0.0
    for _ in range(2):
        began, first = time.process_time(), step
        while (took := time.process_time() - began) < _SECONDS:
            frames.take(windows.first_frames(step), windows.config.frames)
            step += 1
        rate = (step - first) * _BATCH / took
    lines = Path("/proc/self/status").read_text().splitlines()
    anonymous = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
    return Drawn(rate, anonymous)


def _write_rates(store: Store, folder: Path) -> Generator[Row, None, dict[str, float]]:
    """Frames a core second of writing shards and of making the flat file, beside a plain copy of the same bytes."""
    clips = [(ClipRow(str(number)), qpos) for number, qpos in enumerate(store.stream())]
    whole = b"".join(qpos.tobytes() for _, qpos in clips)
    ways = {
        "write": lambda: write_store(folder / "again", clips),
        "map": lambda: MappedFrames(store, Path(tempfile.mkdtemp(dir=folder))),
        "copy": lambda: (folder / "copy").write_bytes(whole),
    }
    took = medians(ways, 3, clock=time.process_time)
    rates = {name: store.frames / took[name] for name in ("write", "map")}
    for name, rate in rates.items():
        yield Row(f"store_{name}", rate, "frames/s")
    yield Row("store_write_over_copy", took["write"] / took["copy"], "x", higher_is_better=False, ratio_to="file_write")
    return rates


def _plan(rates: dict[str, float], index: float, imported: float, drawn: dict[str, float]) -> Iterator[Row]:
    """What 2 billion frames take at these rates; a pass is as many windows of 32 frames as hold every frame once."""
    yield Row("plan_2B_shards", np.ceil(PLAN * FRAME_BYTES / StoreConfig().shard_bytes), "files")
    yield Row("plan_2B_bytes", PLAN * FRAME_BYTES / 1e9, "GB")
    yield Row("plan_2B_index", PLAN * index / 1e9, "GB")
    hours = {"import": imported, "write": rates["write"], "map": rates["map"]}
    for name, rate in hours.items():
        yield Row(f"plan_2B_{name}", PLAN / rate / 60.0, "core-minutes", higher_is_better=False)
    for path, rate in drawn.items():
        yield Row(f"plan_2B_pass_{path}", PLAN / 32 / rate / 60.0, "core-minutes", higher_is_better=False)


def _check_room(folder: Path, frames: int) -> None:
    """Raises `InputError` where the disk cannot hold shards and flat file of so many frames."""
    needed, free = 2.2 * frames * FRAME_BYTES / 1e9, shutil.disk_usage(folder).free / 1e9
    if free < needed:
        raise InputError(
            f"{folder.parent}: {free:.1f} GB free where {needed:.1f} are needed; give another folder with --scratch."
        )


if __name__ == "__main__":
    print(json.dumps(vars(draw(*sys.argv[1:]))))
