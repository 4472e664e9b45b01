"""TensorBoard event files as a mirror of a run's scalars, written in this thread.

tensorboardX gives the format (protobuf, record framing); its own writer runs behind a queue and a thread, which on a
full disk end in a traceback and then block the run.
"""

import os
import socket
import time
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"
_FLUSH_EVERY_S = 20.0


class Board:
    """One event file in `run/tensorboard`; TensorBoard hides steps at or after `purge_step` in earlier files."""

    troubles: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, run: Path, purge_step: int | None = None) -> None:
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import RecordWriter

        self._event, self._summary = event_pb2, summary_pb2
        folder = run / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter(str(folder / name))
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(event_pb2.Event(wall_time=time.time(), step=purge_step, session_log=start))
        self._flush()

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Writes one step's scalars (finite numbers)."""
        values = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(self._event.Event(wall_time=time.time(), step=step, summary=self._summary.Summary(value=values)))
        if time.monotonic() - self._flushed >= _FLUSH_EVERY_S:
            self._flush()

    def add_picture(self, step: int, tag: str, png: bytes) -> None:
        """Writes one picture (the bytes of a PNG file)."""
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))  # of the header chunk
        image = self._summary.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        value = self._summary.Summary.Value(tag=tag, image=image)
        self._write(self._event.Event(wall_time=time.time(), step=step, summary=self._summary.Summary(value=[value])))
        self._flush()

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        self._writer.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())

    def _flush(self) -> None:
        self._writer.flush()
        self._flushed = time.monotonic()
