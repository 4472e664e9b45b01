"""Paints a rollout with MuJoCo's renderer; a process of its own, since a driver may crash."""

import contextlib
import json
import sys
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from scaling.robot.model import build_spec
from scaling.view.camera import follow
from scaling.view.film import RenderSettings, write_strip, write_video
from scaling.view.looks import GHOST, GHOST_ALPHA, LIMBS, RADII, limb_ends, robot_colours
from scaling.view.rollout import Rollout

_SUPERSAMPLING = 2
_ROBOT_GROUPS = slice(1, None)
_PULL = 0.5


class MujocoPainter:
    """Paints frame `i` of a rollout off screen: floor, sky, robot, and the reference as a translucent twin."""

    def __init__(self, rollout: Rollout) -> None:
        self._failed_at = rollout.failed_at
        self._cameras = follow(rollout)
        self._robot = limb_ends(rollout.qpos[: rollout.frames])
        self._reference = None if rollout.reference is None else limb_ends(rollout.reference[: rollout.frames])
        spec = build_spec()
        spec.visual.global_.offwidth = spec.visual.global_.offheight = 2560
        spec.visual.quality.offsamples = 0  # supersampling is cheaper than multisampling in a software rasteriser
        spec.visual.quality.numslices, spec.visual.quality.numstacks, spec.visual.quality.numquads = 16, 8, 2
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[_ROBOT_GROUPS] = 0  # the model's own robot is hidden: `looks` draws both robots
        self._option.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}

    def __call__(self, frame: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """The picture at `frame`."""
        renderer = self._renderer(width, height)
        view = self._cameras[frame]
        self._camera.lookat[:] = view.lookat
        self._camera.azimuth, self._camera.elevation = view.azimuth, view.elevation
        self._camera.distance = view.distance
        renderer.update_scene(self._data, self._camera, self._option)
        scene = renderer.scene
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        failed = self._failed_at is not None and frame >= self._failed_at
        # Seen from the camera nothing changes, but the robot now stands before the reference, with no flicker.
        eye = view.lookat - view.distance * view.axes()[2]
        _add_limbs(scene, eye + _PULL * (self._robot[frame] - eye), _PULL * RADII, robot_colours(failed))
        picture = self._shot(renderer, width, height)
        if self._reference is not None:
            # Blending two opaque pictures tints the ghost evenly; translucent limbs would darken where they overlap.
            _add_limbs(scene, self._reference[frame], RADII, np.tile(GHOST, (len(LIMBS), 1)))
            picture = Image.blend(picture, self._shot(renderer, width, height), GHOST_ALPHA)
        return np.asarray(picture)

    def _shot(self, renderer: mujoco.Renderer, width: int, height: int) -> Image.Image:
        return Image.fromarray(renderer.render()).resize((width, height), Image.Resampling.BOX)

    def close(self) -> None:
        """Release the off-screen buffers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _renderer(self, width: int, height: int) -> mujoco.Renderer:
        if (width, height) not in self._renderers:
            self.close()  # one GL context at a time: some drivers allow no more
            self._renderers[width, height] = mujoco.Renderer(
                self._model, height * _SUPERSAMPLING, width * _SUPERSAMPLING, max_geom=4 * len(LIMBS) + 100
            )
        return self._renderers[width, height]


def _add_limbs(
    scene: mujoco.MjvScene,
    ends: Float[np.ndarray, "L 2 3"],
    radii: Float[np.ndarray, " L"],
    colours: Float[np.ndarray, "L 3"],
) -> None:
    """Append every limb to the scene as a capsule (a sphere where its ends coincide)."""
    for (start, end), radius, colour in zip(ends, radii, colours, strict=True):
        geom = scene.geoms[scene.ngeom]
        rgba = np.array([*colour, 1.0], dtype=np.float32)
        sphere = np.abs(end - start).max() < 1e-9
        kind = mujoco.mjtGeom.mjGEOM_SPHERE if sphere else mujoco.mjtGeom.mjGEOM_CAPSULE
        mujoco.mjv_initGeom(geom, kind, np.full(3, radius), start, np.eye(3).ravel(), rgba)
        if not sphere:
            mujoco.mjv_connector(geom, kind, radius, start, end)
        scene.ngeom += 1


def main(rollout_path: str, folder: str, settings_json: str) -> None:
    """Write strip.png and the video into `folder`, and result.json last: {video, strip, note}."""
    rollout, settings = Rollout.load(rollout_path), RenderSettings(**json.loads(settings_json))
    with contextlib.closing(MujocoPainter(rollout)) as painter:
        if np.ptp(painter(0, settings.tile_width, settings.tile_height)) < 8:
            raise RuntimeError("the driver returned a blank picture")
        strip = write_strip(rollout, painter, Path(folder) / "strip.png", settings)
        video, note = write_video(rollout, painter, Path(folder), settings)
    (Path(folder) / "result.json").write_text(json.dumps({"video": video.name, "strip": strip.name, "note": note}))


if __name__ == "__main__":
    main(*sys.argv[1:])
