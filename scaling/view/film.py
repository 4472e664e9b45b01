"""Frames into files: a picture strip with times, and a video (mp4, or GIF where no ffmpeg is to be had)."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scaling.view.looks import FAILED, GHOST, GHOST_ALPHA, LIGHT
from scaling.view.rollout import Rollout

Painter = Callable[[int, int, int], np.ndarray]  # (frame, width, height) -> uint8 [height, width, 3]

_INK, _MUTED, _PAPER = (32, 36, 42), (104, 112, 122), (255, 255, 255)
_FAILED = tuple(int(255 * value) for value in FAILED)


@dataclass(frozen=True)
class RenderSettings:
    """Sizes in pixels; the video shows at most `max_seconds`, the strip the whole rollout."""

    width: int = 480
    height: int = 360
    fps: int = 25
    max_seconds: float = 6.0
    strip_frames: int = 8
    tile_width: int = 240
    tile_height: int = 320

    def __post_init__(self) -> None:
        for name in ("width", "height", "tile_width", "tile_height"):
            value = getattr(self, name)
            if value < 32 or value > 1280 or value % 2:  # 1280: the model's off-screen buffer; H.264 needs even sides
                raise ValueError(f"{name} {value}: must be even, from 32 to 1280")
        if self.fps < 1 or self.strip_frames < 1 or not self.max_seconds > 0:
            raise ValueError(
                f"fps {self.fps}, strip_frames {self.strip_frames}, max_seconds {self.max_seconds}: must be positive"
            )


def strip_indices(rollout: Rollout, settings: RenderSettings) -> list[int]:
    """Frames of the strip: evenly over the rollout, first and last included."""
    return sorted({int(i) for i in np.linspace(0, rollout.frames - 1, settings.strip_frames).round()})


def video_indices(rollout: Rollout, settings: RenderSettings) -> list[int]:
    """Frames of the video: from the start, or, where the failure would be cut off, up to one second after it."""
    end = min(rollout.seconds, settings.max_seconds)
    if rollout.failed_s is not None:
        end = min(rollout.seconds, max(end, rollout.failed_s + 1.0))
    start = max(0.0, end - settings.max_seconds)
    times = start + np.arange(max(1, round((end - start) * settings.fps))) / settings.fps
    return [min(int(i), rollout.frames - 1) for i in (times * rollout.rate_hz).round()]


def write_strip(rollout: Rollout, paint: Painter, path: Path, settings: RenderSettings, note: str = "") -> Path:
    """A PNG: caption and legend, the frames side by side with their times, and `note` underneath."""
    indices = strip_indices(rollout, settings)
    width, tall = settings.tile_width, settings.tile_height
    head, foot = 44, 38 + (32 if note else 0)
    strip = Image.new("RGB", (width * len(indices), head + tall + foot), _PAPER)
    draw = ImageDraw.Draw(strip)
    legend = _legend(draw, strip.width, rollout)
    draw.text((12, 8), _fit(rollout.caption(), 24, legend - 24), fill=_INK, font=_font(24))
    for column, index in enumerate(indices):
        strip.paste(Image.fromarray(paint(index, width, tall)), (column * width, head))
        failed = rollout.failed_at is not None and index >= rollout.failed_at
        label = f"{index / rollout.rate_hz:.2f} s" + ("  failed" if failed else "")
        draw.text((column * width + 10, head + tall + 5), label, fill=_FAILED if failed else _MUTED, font=_font(22))
    if note:
        draw.text((12, head + tall + 38), _fit(note, 20, strip.width - 24), fill=_MUTED, font=_font(20))
    strip.save(path, optimize=True)
    return path


def write_video(rollout: Rollout, paint: Painter, folder: Path, settings: RenderSettings) -> tuple[Path, str]:
    """The video's path (`video.mp4` or `video.gif`) and, for a GIF, why it is one."""
    path = folder / "video.mp4"
    try:
        _encode_mp4(path, _frames(rollout, paint, settings), settings)
        return path, ""
    except (ImportError, OSError, RuntimeError) as error:  # no package, no binary for this machine, encoder failed
        path.unlink(missing_ok=True)
        reason = f"GIF instead of mp4: {' '.join(str(error).split())[:160]}"
    path = folder / "video.gif"
    pictures = [Image.fromarray(frame).quantize(96) for frame in _frames(rollout, paint, settings)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 / settings.fps), loop=0)
    return path, reason


def _frames(rollout: Rollout, paint: Painter, settings: RenderSettings) -> Iterator[np.ndarray]:
    """Painted frames with the time and, from the failure on, its mark."""
    for index in video_indices(rollout, settings):
        picture = Image.fromarray(paint(index, settings.width, settings.height))
        draw = ImageDraw.Draw(picture)
        time = f"{index / rollout.rate_hz:.2f} s"
        draw.text((10, 8), _fit(rollout.title, 14, settings.width - 90), fill=_INK, font=_font(14))
        draw.text((settings.width - 10, 8), time, fill=_INK, font=_font(14), anchor="ra")
        if rollout.failed_s is not None and rollout.failed_at is not None and index >= rollout.failed_at:
            draw.text((10, 28), f"failed at {rollout.failed_s:.2f} s", fill=_FAILED, font=_font(14))
        yield np.asarray(picture)


def _encode_mp4(path: Path, frames: Iterator[np.ndarray], settings: RenderSettings) -> None:
    # Its way of shielding ffmpeg from Ctrl-C is a preexec function, which may deadlock in a process that runs JAX.
    os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(
        str(path),
        (settings.width, settings.height),
        fps=settings.fps,
        codec="libx264",
        quality=None,
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-crf", "24", "-preset", "veryfast", "-movflags", "+faststart", "-threads", "1"],
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
    if not path.exists() or not path.stat().st_size:
        raise RuntimeError("ffmpeg wrote nothing")


def _legend(draw: ImageDraw.ImageDraw, right: int, rollout: Rollout) -> int:
    """Swatches for robot and reference at the right edge; returns where they begin."""
    blue = tuple(int(255 * (GHOST_ALPHA * value + 1 - GHOST_ALPHA)) for value in GHOST)
    grey = tuple(int(255 * value) for value in LIGHT)
    entries = [("robot", grey)] + ([("reference", blue)] if rollout.reference is not None else [])
    x = right - 12
    for name, colour in reversed(entries):
        x -= int(_font(20).getlength(name))
        draw.text((x, 11), name, fill=_MUTED, font=_font(20))
        x -= 26
        draw.rounded_rectangle((x, 14, x + 16, 30), radius=3, fill=colour, outline=_MUTED)
        x -= 20
    return x


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # Pillow's own, so that pictures are the same on every machine


def _fit(text: str, size: int, width: int) -> str:
    """`text` cut with an ellipsis to `width` pixels."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
