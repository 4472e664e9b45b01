"""A window on the twin while it runs: MuJoCo's own viewer, on a copy of the robot, so that no screen delays it."""

import os
import sys
import threading
import time
import warnings
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from scaling.errors import InputError
from scaling.robot.model import TWIN, build_model

PERIOD = 0.04  # s between two pictures


class Window:
    """Shows poses at 25 Hz until it is closed, by `close` or by the person who looks."""

    def __init__(self) -> None:
        """Raises InputError where there is no screen."""
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError(
                "there is no screen here to open a window on: leave out --viewer, and look afterwards with --out DIR "
                "and scaling view DIR"
            )
        import glfw
        import mujoco.viewer

        with warnings.catch_warnings(action="ignore"):
            if not glfw.init():
                raise InputError("no window opens on this screen: see to DISPLAY, or leave out --viewer")
        self._model = build_model(TWIN)
        self._data = mujoco.MjData(self._model)
        before = set(threading.enumerate())
        self._window: Any = mujoco.viewer.launch_passive(
            self._model, self._data, show_left_ui=False, show_right_ui=False
        )
        self._threads = set(threading.enumerate()) - before
        self._window.cam.distance = 3.0
        self._shown = -PERIOD

    def show(self, qpos: Float[np.ndarray, "36"]) -> None:
        """Draw a pose, where the last picture is old enough and somebody still looks."""
        now = time.monotonic()
        if now - self._shown < PERIOD or not self._window.is_running():
            return
        self._shown = now
        with self._window.lock():
            self._data.qpos[:] = qpos
            mujoco.mj_forward(self._model, self._data)
            self._window.cam.lookat[:] = qpos[:3]
        self._window.sync()

    def close(self) -> None:
        """Close it, and wait for its thread: GLFW is taken down as the process ends, and must not be in use."""
        self._window.close()
        for thread in self._threads:
            thread.join(timeout=5.0)
