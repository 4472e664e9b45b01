"""The `Rollout` value: what the robot did, beside what it was asked to do."""

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.robot.g1 import NQ


@dataclass(frozen=True)
class Rollout:
    """`qpos[t]` of the robot and `reference[t]` of the clip at the same instant (metres, wxyz, rad).

    `reference` is None where there is nothing to compare with (a clip alone). `failed_at` is the first frame at which
    a termination rule held, None if none did. `assist` is the harness strength it was measured at, None for a clip.
    Metrics that are not finite become None.
    The simulation may have diverged: frames from the first non-finite one on are never drawn.
    """

    qpos: Float[np.ndarray, "T 36"]
    reference: Float[np.ndarray, "T 36"] | None
    rate_hz: float
    title: str
    assist: float | None = None
    failed_at: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "qpos", np.asarray(self.qpos, dtype=np.float64))
        if self.qpos.ndim != 2 or self.qpos.shape[1] != NQ or not len(self.qpos):
            raise ValueError(f"qpos of shape {self.qpos.shape}: must be [T >= 1, {NQ}]")
        if self.reference is not None:
            object.__setattr__(self, "reference", np.asarray(self.reference, dtype=np.float64))
            if self.reference.shape != self.qpos.shape:
                raise ValueError(f"reference of shape {self.reference.shape}: must equal qpos, {self.qpos.shape}")
            if not np.isfinite(self.reference).all():
                raise ValueError(f"reference of {self.title!r} holds values that are not finite")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ValueError(f"rate_hz {self.rate_hz}: must be positive")
        if self.failed_at is not None and not 0 <= self.failed_at < len(self.qpos):
            raise ValueError(f"failed_at {self.failed_at}: must be None or a frame of 0..{len(self.qpos) - 1}")
        for name in ("assist", "failed_at"):  # NumPy scalars do not survive JSON
            value = getattr(self, name)
            object.__setattr__(self, name, value.item() if isinstance(value, np.generic) else value)
        object.__setattr__(self, "metrics", {name: _missing(value) for name, value in self.metrics.items()})
        if not np.isfinite(self.qpos[0]).all():
            raise ValueError(f"the first frame of {self.title!r} is not finite")

    @property
    def frames(self) -> int:
        """Frames that can be drawn: those before the first non-finite one."""
        finite = np.isfinite(self.qpos).all(axis=1)
        return len(finite) if finite.all() else int(np.argmin(finite))

    @property
    def seconds(self) -> float:
        """Time from the first to the last drawable frame."""
        return (self.frames - 1) / self.rate_hz

    @property
    def failed_s(self) -> float | None:
        """Time of failure (s), None if it did not fail."""
        return None if self.failed_at is None else self.failed_at / self.rate_hz

    def caption(self) -> str:
        """One line that says what is on the picture and under which assistance."""
        parts = [self.title]
        if self.assist is not None:
            parts.append(f"assist {self.assist:g}")
        if self.failed_s is not None:
            parts.append(f"failed at {self.failed_s:.2f} s")
        if self.frames < len(self.qpos):
            parts.append(f"simulation diverged after {self.seconds:.2f} s")
        return " · ".join(parts)

    def save(self, path: Path | str) -> Path:
        """Write as npz, atomically."""
        path = Path(path)
        meta = {
            "rate_hz": float(self.rate_hz),
            "title": self.title,
            "assist": self.assist,
            "failed_at": self.failed_at,
            "metrics": dict(self.metrics),
        }
        arrays: dict[str, Any] = {"qpos": self.qpos, "meta": np.array(json.dumps(meta))}
        if self.reference is not None:
            arrays["reference"] = self.reference
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **arrays)
            os.replace(scratch, path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
        return path

    @classmethod
    def load(cls, path: Path | str) -> "Rollout":
        """Read what `save` wrote; InputError for any other file."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as data:
                meta = json.loads(str(data["meta"]))
                return cls(qpos=data["qpos"], reference=data.get("reference"), **meta)
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: give the path of a rollout that scaling has written") from None
        except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} is not a rollout ({error}): give the path of a rollout.npz that scaling has written"
            ) from None


def _missing(value: Any) -> float | None:
    """A metric as JSON can hold it: NaN is missing."""
    return None if value is None or not np.isfinite(value) else float(value)
