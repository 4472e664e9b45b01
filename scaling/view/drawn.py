"""Pictures of a rollout without OpenGL: limbs flat-shaded by Pillow, the robot solid over its reference."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from scaling.view.camera import Camera, follow
from scaling.view.looks import GHOST, GHOST_ALPHA, LIMBS, RADII, limb_ends, robot_colours
from scaling.view.rollout import Rollout

_SUPERSAMPLING = 2
_ARC = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
_SKY_TOP, _SKY_LOW = np.array([219, 229, 240]), np.array([250, 251, 252])
_GRID = (214, 219, 225)
_SHADOW = (120, 128, 138)
_GRID_STEP, _GRID_REACH = 0.5, 3.0  # m


class DrawnPainter:
    """Paints frame `i` of a rollout as an RGB picture of any size."""

    def __init__(self, rollout: Rollout) -> None:
        self._failed_at = rollout.failed_at
        self._cameras = follow(rollout)
        self._robot = limb_ends(rollout.qpos[: rollout.frames])
        self._reference = None if rollout.reference is None else limb_ends(rollout.reference[: rollout.frames])

    def __call__(self, frame: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """The picture at `frame`."""
        camera, size = self._cameras[frame], (width * _SUPERSAMPLING, height * _SUPERSAMPLING)
        picture = _background(camera, size)
        mask = Image.new("L", size)
        _shadow(ImageDraw.Draw(mask), camera, size, self._robot[frame])
        picture.paste(_SHADOW, mask=mask.point(lambda value: int(0.35 * value)))
        if self._reference is not None:
            ghost = picture.copy()
            _limbs(ImageDraw.Draw(ghost), camera, size, self._reference[frame], np.tile(GHOST, (len(LIMBS), 1)))
            picture = Image.blend(picture, ghost, GHOST_ALPHA)
        failed = self._failed_at is not None and frame >= self._failed_at
        _limbs(ImageDraw.Draw(picture), camera, size, self._robot[frame], robot_colours(failed))
        return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def _background(camera: Camera, size: tuple[int, int]) -> Image.Image:
    """A pale gradient with a floor grid that stays put in the world."""
    ramp = np.linspace(0.0, 1.0, size[1])[:, None, None]
    rows = ((1 - ramp) * _SKY_TOP + ramp * _SKY_LOW).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(rows, (size[1], size[0], 3))))
    draw = ImageDraw.Draw(picture)
    centre = np.round(camera.lookat[:2] / _GRID_STEP) * _GRID_STEP
    for offset in np.arange(-_GRID_REACH, _GRID_REACH + 1e-9, _GRID_STEP):
        for axis in (0, 1):
            ends = np.zeros((2, 3))
            ends[:, axis] = centre[axis] + offset
            ends[:, 1 - axis] = centre[1 - axis] + np.array([-_GRID_REACH, _GRID_REACH])
            pixels, depth, _ = camera.project(ends, *size)
            if (depth > 0.2).all():
                draw.line([tuple(pixel) for pixel in pixels], fill=_GRID, width=_SUPERSAMPLING)
    return picture


def _shadow(draw: ImageDraw.ImageDraw, camera: Camera, size: tuple[int, int], ends: Float[np.ndarray, "L 2 3"]) -> None:
    """Where the limbs stand over the floor: capsules pressed flat, as lines of their own width."""
    pixels, depth, focal = camera.project(ends * np.array([1.0, 1.0, 0.0]), *size)
    tilt = abs(np.sin(np.radians(camera.elevation)))
    radii = np.maximum(RADII[:, None] * focal / depth * tilt, 1.0)
    for (start, end), (r0, r1) in zip(pixels, radii, strict=True):
        draw.polygon(_stadium(start, end, r0, r1), fill=255)


def _limbs(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    size: tuple[int, int],
    ends: Float[np.ndarray, "L 2 3"],
    colours: Float[np.ndarray, "L 3"],
) -> None:
    """Far limbs first; each an edge, a body and a lit core."""
    pixels, depth, focal = camera.project(ends, *size)
    radii = RADII[:, None] * focal / depth
    # The near surface decides, so that a thin bone never shows through the thick limb around it.
    for limb in np.argsort(-(depth.mean(axis=1) - RADII)):
        (start, end), (r0, r1) = pixels[limb], radii[limb]
        lit = np.array([-0.22, -0.22]) * min(r0, r1)
        for scale, shift, shade in ((1.0, 0.0, 0.55), (0.86, 0.25, 0.80), (0.52, 1.0, 1.0)):
            colour = tuple(int(255 * min(1.0, shade * value)) for value in colours[limb])
            draw.polygon(_stadium(start + shift * lit, end + shift * lit, scale * r0, scale * r1), fill=colour)


def _stadium(
    start: Float[np.ndarray, "2"], end: Float[np.ndarray, "2"], r0: float, r1: float
) -> list[tuple[float, float]]:
    """Outline (pixels) of the hull of two discs; of the larger one where it holds the other."""
    along = end - start
    length = float(np.hypot(*along))
    if length <= abs(r1 - r0) + 1e-6:
        centre, radius = (start, r0) if r0 >= r1 else (end, r1)
        angles = np.linspace(0.0, 2 * np.pi, 2 * len(_ARC), endpoint=False)
        outline = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    else:
        heading = np.arctan2(along[1], along[0])
        near, far = heading + np.pi + _ARC, heading + _ARC
        outline = np.concatenate(
            [
                start + r0 * np.stack([np.cos(near), np.sin(near)], axis=-1),
                end + r1 * np.stack([np.cos(far), np.sin(far)], axis=-1),
            ]
        )
    return [(float(x), float(y)) for x, y in outline]
