"""Clips on their way in: reading, resampling and velocities beside a plain copy of the same frames."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scaling.bench.row import Row
from scaling.motion.clip import CONTROL_RATE_HZ, Motion, resample, velocities
from scaling.motion.embed import embed
from scaling.motion.read import read_motion
from scaling.motion.synthetic import generate
from scaling.record.timing import medians

_RATE_HZ = 30.0


def rows(quick: bool) -> Iterator[Row]:
    """Frames a second, counted at 50 Hz where a stage ends at 50 Hz."""
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
    yield from _import(take, repeats)
    embedded = medians({"embed": lambda: embed(steady.qpos[:1000], CONTROL_RATE_HZ)}, repeats)["embed"]
    yield Row("embed", min(1000, steady.frames) / embedded, "frames/s")


def _import(take: Motion, repeats: int) -> Iterator[Row]:
    """A CSV file to 50 Hz `qpos`, beside reading its bytes alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip_30hz.csv"
        np.savetxt(path, take.qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]], fmt="%.6f", delimiter=",")
        took = medians({"import": lambda: resample(read_motion(path)), "bytes": path.read_bytes}, repeats)
    frames = resample(take).frames
    yield Row("import_csv", frames / took["import"], "frames/s", target=200_000.0)
    yield Row(
        "import_csv_over_bytes", took["import"] / took["bytes"], "x", higher_is_better=False, ratio_to="read_bytes"
    )
