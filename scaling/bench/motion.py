"""Clips on their way in, beside a plain copy of the same frames, and the windows drawn from a store of them."""

import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np

from scaling.bench import formats, store
from scaling.bench.row import Row
from scaling.motion.clip import CONTROL_RATE_HZ, Motion, resample, velocities
from scaling.motion.embed import embed
from scaling.motion.read import read_motion
from scaling.motion.store.index import ClipRow
from scaling.motion.store.store import write_store
from scaling.motion.synthetic import generate
from scaling.record.timing import medians

_RATE_HZ = 30.0
_FILES = 4
_IMPORT = 200_000.0  # frames a second of a core


def rows(quick: bool, scratch: str | None = None, motions: str = "../shared/motions") -> Iterator[Row]:
    """Frames a second, counted at 50 Hz where a stage ends at 50 Hz; `scratch` is the folder of large stores.

    `motions` is the folder of real files, whose rows a quick run leaves out.
    """
    if scratch is not None:
        Path(scratch).mkdir(parents=True, exist_ok=True)  # before anything is measured
    repeats = 5 if quick else 11
    take = generate("turn", 20.0, 0, rate_hz=_RATE_HZ)
    copies = 20 if quick else 100
    motion = Motion(np.tile(take.qpos, (copies, 1)), _RATE_HZ, "tiled")
    steady = resample(motion)
    ways = {
        "resample": lambda: resample(motion),
        "velocities": lambda: velocities(steady.qpos, CONTROL_RATE_HZ),
        "copy": steady.qpos.copy,
    }
    took = medians(ways, repeats)
    for name in ways:
        yield Row(name, steady.frames / took[name], "frames/s")
    both = took["resample"] + took["velocities"]
    yield Row("resample_and_velocities", steady.frames / both, "frames/s")
    yield Row("resample_and_velocities_over_copy", both / took["copy"], "x", higher_is_better=False, ratio_to="copy")
    imported = yield from _import(take, repeats)
    embedded = medians({"embed": lambda: embed(steady.qpos[:1000], CONTROL_RATE_HZ)}, repeats)["embed"]
    yield Row("embed", min(1000, steady.frames) / embedded, "frames/s")
    if not quick:
        yield from formats.rows(Path(motions))
    yield from store.rows(quick, scratch, imported)


def _import(take: Motion, repeats: int) -> Generator[Row, None, float]:
    """CSV files as long as LAFAN1's (four minutes at 30 Hz) to 50 Hz `qpos` in a store, beside reading their bytes.

    Of core seconds. Returns the frames a second.
    """
    lafan = np.tile(take.qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]], (12, 1))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"clip{number}_30hz.csv" for number in range(_FILES)]
        for path in paths:
            np.savetxt(path, lafan, fmt="%.6f", delimiter=",")

        def work() -> None:
            clips = ((ClipRow(path.stem), resample(read_motion(path)).qpos) for path in paths)
            write_store(Path(folder) / "store", clips)

        short = Path(folder) / "short_30hz.csv"
        np.savetxt(short, lafan[: take.frames], fmt="%.6f", delimiter=",")
        ways = {
            "import": work,
            "short": lambda: resample(read_motion(short)),
            "bytes": lambda: [path.read_bytes() for path in paths],
        }
        took = medians(ways, repeats, clock=time.process_time)
    rate = _FILES * resample(Motion(np.tile(take.qpos, (12, 1)), _RATE_HZ, "long")).frames / took["import"]
    yield Row("import_csv", rate, "frames/s", target=_IMPORT)
    yield Row("import_csv_20s", resample(take).frames / took["short"], "frames/s", target=_IMPORT)
    yield Row(
        "import_csv_over_bytes", took["import"] / took["bytes"], "x", higher_is_better=False, ratio_to="read_bytes"
    )
    return rate
