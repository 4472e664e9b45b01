"""A live stream of motion as the runtime follows it: played a little behind its sender, held where it stops."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scaling.bridge.clock import Clock
from scaling.bridge.motion_message import MessageError, MotionMessage, unpack_message
from scaling.contract.observation import LOOK_AHEAD, Reference
from scaling.motion.clip import CONTROL_RATE_HZ, velocities
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import quat_conj, quat_mul, rotate, slerp, yaw_quat

_SLEW = 0.02  # share of real time by which the play head may gain or lose on the sender's clock
_KEPT = 1.0  # s of the past
_ARRIVALS = 200  # messages over which the least delay of the network is taken
_IDENTITY = (np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3))


@dataclass(frozen=True)
class StreamConfig:
    """Times in s.

    `delay`: how far behind its sender a motion is played (what a policy looks ahead, and room for a jittering network;
    a planner that sends its future needs none). `timeout`: silence after which the stream is lost and its last pose is
    held. `blend`: how long the way back to it takes. `give_up`: silence after which the run ends, None for never.
    """

    delay: float = 0.24
    timeout: float = 0.3
    blend: float = 0.5
    give_up: float | None = None

    def __post_init__(self) -> None:
        for name in ("timeout", "blend"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)} s; it must be positive")
        if not 0 <= self.delay <= 10:
            raise ValueError(f"delay is {self.delay} s; give 0 to 10")
        if self.give_up is not None and not self.give_up >= self.timeout:
            raise ValueError(f"give_up is {self.give_up} s, shorter than the timeout of {self.timeout} s")


class StreamReference:
    """Takes messages from any thread (`take`), and is followed by the control loop like a clip without an end."""

    frames = None

    def __init__(self, name: str, clock: Clock, config: StreamConfig = StreamConfig()) -> None:
        self.name, self.config, self._clock = name, config, clock
        self.taken = self.rejected = self.late = self.losses = 0
        self.last_error: str | None = None
        self._lock = threading.Lock()
        self._known: tuple[np.ndarray, np.ndarray] | None = None  # times (s, the sender's clock) and qpos
        self._arrivals: deque[float] = deque(maxlen=_ARRIVALS)
        self._heard = -np.inf
        self._sequence = -1
        self._playing: tuple[np.ndarray, np.ndarray] | None = None  # what is known, as of the present frame
        self._lost = self._anew = False
        self._frame, self._head = 0, 0.0
        self._start: np.ndarray | None = None
        self._shown: np.ndarray | None = None
        # Held pose, and from when on (sender's clock) the way leads back to the stream.
        self._held: tuple[np.ndarray, float] | None = None
        self._turn, self._shift = _IDENTITY

    def take(self, data: bytes | str) -> str | None:
        """Take in one message, in order of arrival; returns what was wrong with it, None where nothing was."""
        try:
            message = unpack_message(data)
        except MessageError as error:
            self.rejected += 1
            self.last_error = str(error)
            return self.last_error
        with self._lock:
            self._keep(message, self._clock.now())
        return None

    def _keep(self, message: MotionMessage, now: float) -> None:
        silent = now - self._heard > self.config.timeout
        step = (message.sequence - self._sequence) & 0xFFFFFFFF
        if self._known is not None and not silent and not 0 < step < 1 << 31:
            self.late += 1
            return
        known = None if silent else self._known
        if silent:  # maybe another sender with another clock
            self._arrivals.clear()
            self._anew = True
        self._sequence, self._heard = message.sequence, now
        self._arrivals.append(now - message.sent)
        times = message.time + np.arange(len(message.qpos)) / message.rate
        qpos = message.qpos
        if known is not None:  # a newer plan replaces what an older one said of the same time
            before = (known[0] < times[0] - 1e-9) & (known[0] > self._target(now) - _KEPT)
            times = np.concatenate([known[0][before], times])
            qpos = np.concatenate([known[1][before], qpos])
        self._known = times, qpos
        self.taken += 1

    @property
    def ready(self) -> bool:
        """Whether there is a pose to start from."""
        return self._known is not None

    @property
    def start_pose(self) -> Float[np.ndarray, "36"]:
        """The pose to stand in until tracking begins: the first that came. Raises RuntimeError before that."""
        if self._start is None:
            if self._known is None:
                raise RuntimeError("nothing has been streamed yet")
            self._start = self._known[1][0].copy()
        return self._start

    def begin(self, frame: int) -> None:
        """Tracking begins: from the start pose into the stream, which is turned to face where the start pose does."""
        self._frame = frame
        with self._lock:
            self._lead(self.start_pose)

    def follow(self, frame: int) -> str | None:
        """Move on to `frame` of the control loop; returns why the run should end, None where it should not."""
        now = self._clock.now()
        with self._lock:
            silence = now - self._heard
            elapsed, self._frame = (frame - self._frame) * CONTROL_DT, frame
            shown = self.start_pose if self._shown is None else self._shown
            if silence > self.config.timeout:
                self.losses += not self._lost
                self._lost, self._held = True, (shown, np.inf)
            elif self._lost or self._anew:
                self._lead(shown)
            else:
                self._playing = self._known
                off = self._target(now) - (self._head + elapsed)
                self._head += elapsed + float(np.clip(off, -_SLEW * elapsed, _SLEW * elapsed))
            self._shown = self._poses(np.array([self._head]))[0]
        if self.config.give_up is not None and silence > self.config.give_up:
            return f"nothing has been streamed for {silence:.1f} s"
        return None

    def at(self, frame: int) -> Reference:
        """Now and the look-ahead, as a clip gives them."""
        now = self._head + (frame - self._frame) * CONTROL_DT
        times = now + CONTROL_DT * np.array([0, *LOOK_AHEAD])
        poses = self._poses(np.stack([times, times + CONTROL_DT], axis=1).reshape(-1)).reshape(-1, 2, 36)
        qvel = np.stack([velocities(pair, CONTROL_RATE_HZ)[0] for pair in poses])
        return Reference(poses[0, 0], qvel[0], poses[1:, 0], qvel[1:])

    def report(self) -> dict[str, Any]:
        """How the stream is."""
        silence = self._clock.now() - self._heard
        known = self._known
        return {
            "source": self.name,
            "messages": self.taken,
            "rejected": self.rejected,
            "late": self.late,
            "lost": self._lost or silence > self.config.timeout,
            "losses": self.losses,
            "silent_s": float(silence) if np.isfinite(silence) else None,
            "buffered_s": 0.0 if known is None else float(known[0][-1] - self._head),
            "last_error": self.last_error,
        }

    def _target(self, now: float) -> float:
        """The sender's time that should be played now."""
        return now - min(self._arrivals, default=0.0) - self.config.delay

    def _lead(self, held: Float[np.ndarray, "36"]) -> None:
        """Lead from a pose into the stream at the present, whose heading and place become those of the pose."""
        self._lost = self._anew = False
        self._playing, self._head = self._known, self._target(self._clock.now())
        self._held, (self._turn, self._shift) = None, _IDENTITY
        live = self._poses(np.array([self._head]))[0]
        self._turn = quat_mul(yaw_quat(held[3:7]), quat_conj(yaw_quat(live[3:7])))
        self._shift = held[:3] - rotate(self._turn, live[:3])
        self._shift[2] = 0.0
        self._held = held.copy(), self._head

    def _poses(self, at: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 36"]:
        """What is to be followed at times of the sender's clock: between frames, or the last one for ever."""
        if (self._held is not None and self._held[1] == np.inf) or self._playing is None:
            return np.tile(self.start_pose if self._held is None else self._held[0], (len(at), 1))
        live = sample(*self._playing, at)
        live[:, :3] = rotate(self._turn, live[:, :3]) + self._shift
        live[:, 3:7] = quat_mul(np.tile(self._turn, (len(at), 1)), live[:, 3:7])
        if self._held is None:
            return live
        pose, since = self._held
        share = np.clip((at - since) / self.config.blend, 0.0, 1.0)
        share = share * share * (3 - 2 * share)
        mixed = pose + share[:, None] * (live - pose)
        mixed[:, 3:7] = slerp(np.tile(pose[3:7], (len(at), 1)), live[:, 3:7], share)
        return mixed


def sample(
    times: Float[np.ndarray, "T"], qpos: Float[np.ndarray, "T 36"], at: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n 36"]:
    """`qpos` at any time: linear in position and joints, slerp in orientation; the ends stand still."""
    if len(times) == 1:
        return np.tile(qpos[0], (len(at), 1))
    low = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    share = np.clip((at - times[low]) / (times[low + 1] - times[low]), 0.0, 1.0)
    before, after = qpos[low], qpos[low + 1]
    found = before + share[:, None] * (after - before)
    found[:, 3:7] = slerp(before[:, 3:7], after[:, 3:7], share)
    return found
