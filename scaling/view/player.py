"""One self-contained HTML file that plays a rollout in 3-D: no server, no network, no library."""

import base64
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Float

from scaling.robot.g1 import BODY_INDEX
from scaling.robot.kinematics import forward_kinematics
from scaling.robot.rotations import yaw
from scaling.view.looks import DRAWN_BODIES, FAILED, GHOST, LIMBS
from scaling.view.rollout import Rollout

_DRAWN_INDEX = np.array([BODY_INDEX[name] for name in DRAWN_BODIES])
_MAX_FRAMES = 1500  # above this frames are thinned, and the player interpolates; 30 s at 50 Hz stay whole


def player_data(rollout: Rollout) -> dict[str, Any]:
    """What the page embeds: `robot` and `reference` are base64 of little-endian float32 [frame, body, (pos, wxyz)]."""
    stride = -(-rollout.frames // _MAX_FRAMES)
    kept = slice(0, rollout.frames, stride)
    reference = None if rollout.reference is None else _encode(rollout.reference[kept])
    return {
        "title": rollout.title,
        "assist": rollout.assist,
        "rate_hz": rollout.rate_hz / stride,
        "stride": stride,
        "frames": len(range(rollout.frames)[kept]),
        "seconds": rollout.seconds,
        "failed_s": rollout.failed_s,
        "caption": rollout.caption(),
        "metrics": dict(rollout.metrics),
        "heading": float(yaw(rollout.qpos[0, 3:7])),
        "bodies": DRAWN_BODIES,
        "limbs": [
            {"body": DRAWN_BODIES.index(limb.body), "r": limb.radius, "a": limb.start, "b": limb.end, "dark": limb.dark}
            for limb in LIMBS
        ],
        "robot": _encode(rollout.qpos[kept]),
        "reference": reference,
        "colours": {"ghost": GHOST, "failed": FAILED},
    }


def decode_poses(encoded: str, bodies: int = len(DRAWN_BODIES)) -> Float[np.ndarray, "T B 7"]:
    """The poses in one of the base64 fields: position (m) and quaternion (wxyz) of each drawn body."""
    return np.frombuffer(base64.b64decode(encoded), dtype="<f4").reshape(-1, bodies, 7)


def player_html(rollout: Rollout) -> str:
    """The page as text."""
    return template("player.html").render(rollout=player_data(rollout))


def write_player(rollout: Rollout, path: Path | str) -> Path:
    """Write the page atomically."""
    return write_text(Path(path), player_html(rollout))


def template(name: str) -> jinja2.Template:
    """A template among the package's assets; everything put in is escaped, a missing name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda asset: files("scaling.view").joinpath("assets", asset).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def write_text(path: Path, text: str) -> Path:
    """Replace `path` by `text` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _encode(qpos: Float[np.ndarray, "T 36"]) -> str:
    pos, quat = forward_kinematics(qpos)
    poses = np.concatenate([pos[:, _DRAWN_INDEX], quat[:, _DRAWN_INDEX]], axis=-1)
    return base64.b64encode(poses.astype("<f4").tobytes()).decode("ascii")
