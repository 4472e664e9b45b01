"""A made-up motion to look at, and a page as a browser reads it."""

import html.parser

import numpy as np

from scaling.robot.g1 import HOME_JOINTS, JOINT_NAMES, KNEES_BENT_JOINTS
from scaling.robot.kinematics import soles

_DEEP = {"hip_pitch": -1.2, "knee": 1.9, "ankle_pitch": -0.75, "shoulder_pitch": -1.2}


def squat(frames: int, rate_hz: float, lag_s: float = 0.0) -> np.ndarray:
    """`qpos` [frames, 36] of squats with a period of 2.5 s, walking along x, soles on the floor."""
    time = np.arange(frames) / rate_hz - lag_s
    deep = KNEES_BENT_JOINTS.copy()
    for name, angle in _DEEP.items():
        for side in ("left", "right"):
            deep[JOINT_NAMES.index(f"{side}_{name}_joint")] = angle
    depth = (0.5 - 0.5 * np.cos(2 * np.pi * time / 2.5))[:, None]
    qpos = np.zeros((frames, 36))
    qpos[:, 3] = 1.0
    qpos[:, 0] = 0.2 * time
    qpos[:, 7:] = (1 - depth) * HOME_JOINTS + depth * deep
    qpos[:, 2] -= soles(qpos)[..., 2].min(axis=(1, 2))
    return qpos


class Page(html.parser.HTMLParser):
    """What a browser would run and fetch."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.resources, self._in = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._in = tag
        if tag == "script":
            self.scripts.append((attributes.get("type"), ""))
        self.resources += [attributes[name] for name in ("src", "srcset", "poster", "data") if attributes.get(name)]
        if tag == "link":
            self.resources.append(attributes.get("href"))

    def handle_data(self, data):
        if self._in == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)

    def handle_endtag(self, tag):
        self._in = None
