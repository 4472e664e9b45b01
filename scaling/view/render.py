"""Video, picture strip and player of a rollout: by MuJoCo's renderer where there is OpenGL, drawn elsewhere."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

import scaling
from scaling.view.drawn import DrawnPainter
from scaling.view.film import RenderSettings, write_strip, write_video
from scaling.view.player import write_player
from scaling.view.rollout import Rollout

__all__ = ["RenderSettings", "backends", "view_rollout"]

STANDARD = RenderSettings()
_TIMEOUT_S = 180.0  # some drivers hang instead of failing
_WORKER = "scaling.view.gl_worker"
_REMEDY = "; Mesa's packages libegl1, libegl-mesa0 and libgl1-mesa-dri give MuJoCo's own pictures"
_OFF = ("disable", "disabled", "off", "false", "0")


def backends() -> tuple[str, ...]:
    """OpenGL backends worth trying, in order: what MUJOCO_GL names, else EGL, a display if there is one, OSMesa."""
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in _OFF:
        return ()
    if asked in ("egl", "glfw", "osmesa", "glx"):
        return (asked,)
    return ("egl", *(["glfw"] if os.environ.get("DISPLAY") else []), "osmesa")


def view_rollout(
    rollout: Rollout,
    out_dir: Path | str,
    settings: RenderSettings = STANDARD,
    gl: Sequence[str] | None = None,
) -> dict[str, Path | str]:
    """Write `strip.png`, `video.mp4` (or `.gif`) and `player.html` into `out_dir`.

    Returns their paths as `strip`, `video`, `player`, beside `renderer` ("mujoco (egl)", ..., "drawn") and `reason`:
    why something took the place of MuJoCo's pictures or of the mp4; empty where nothing had to. `gl` overrides the
    backends to try; an empty one means drawn pictures.
    """
    folder = Path(out_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    candidates = backends() if gl is None else tuple(gl)
    refusals = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".render-") as scratch:
        source = rollout.save(Path(scratch) / "rollout.npz")
        for backend in candidates:
            work = Path(scratch) / backend
            work.mkdir()
            refusal = _paint_with(backend, source, work, settings)
            if refusal is None:
                result = json.loads((work / "result.json").read_text())
                strip, video = work / result["strip"], work / result["video"]
                renderer, reason = f"mujoco ({backend})", result["note"]
                break
            refusals.append(f"{backend}: {refusal}")
        else:
            work = Path(scratch) / "drawn"
            work.mkdir()
            why = "; ".join(refusals) + _REMEDY if refusals else "switched off"
            renderer, reason = "drawn", f"Drawn without OpenGL ({why})"
            painter = DrawnPainter(rollout)
            strip = write_strip(rollout, painter, work / "strip.png", settings, note=reason)
            video, note = write_video(rollout, painter, work, settings)
            reason = "; ".join(part for part in (reason, note) if part)
        for stale in ("video.mp4", "video.gif"):
            (folder / stale).unlink(missing_ok=True)
        strip, video = strip.replace(folder / strip.name), video.replace(folder / video.name)
    player = write_player(rollout, folder / "player.html")
    return {"video": video, "strip": strip, "player": player, "renderer": renderer, "reason": reason}


def _paint_with(backend: str, source: Path, work: Path, settings: RenderSettings) -> str | None:
    """Let a worker process (a driver that crashes takes only it) paint into `work`; why it failed, None if not."""
    job = ["-m", _WORKER, str(source), str(work), json.dumps(dataclasses.asdict(settings))]
    refusal = _child(backend, job, work)
    if refusal is None and not (work / "result.json").exists():
        return "the renderer ended without a result"
    return refusal


def _child(backend: str, arguments: list[str], work: Path) -> str | None:
    """Run Python with MUJOCO_GL set; the last line it complained with, None on success."""
    root = str(Path(scaling.__file__).parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    environment = os.environ | {"MUJOCO_GL": backend, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    if backend in ("egl", "osmesa"):
        environment["PYOPENGL_PLATFORM"] = backend
    else:
        environment.pop("PYOPENGL_PLATFORM", None)
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=work,  # where MuJoCo leaves its log
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no picture after {_TIMEOUT_S:g} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        return f"the driver crashed (signal {-done.returncode})"
    return textwrap.shorten(lines[-1], 90, placeholder=" ...") if lines else f"exit code {done.returncode}"
