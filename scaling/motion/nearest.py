"""Where in a clip each of many short stretches lies nearest, most windows ruled out by a few of their directions."""

import numpy as np
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view

_DIRECTIONS = 32  # in which most of the stretches' spread lies
_WINDOWS, _ROWS, _PAIRS = 128, 512, 512  # compared at a time: a few megabytes
_SLACK = 1e-3  # of the limit: what single precision may cost


class Table:
    """Stretches of one length, to be looked for in clips.

    The distance between a stretch and a window is at least that of their shadows in a few orthonormal directions, so
    windows whose shadows are far apart are never compared in full, and none that is near is lost.
    """

    def __init__(self, stretches: Float[np.ndarray, "p n j"]) -> None:
        self._frames = stretches.shape[1]
        self._rows = stretches.reshape(len(stretches), -1).astype(np.float32, copy=False)
        self._mean = self._rows.mean(axis=0)
        some = self._rows[:: max(1, len(self._rows) // _ROWS)]
        _, directions = np.linalg.eigh(some.T @ some / len(some) - np.outer(self._mean, self._mean))
        self._directions = directions[:, -_DIRECTIONS:].astype(np.float32)
        self._shadows = self._cast(self._rows)
        self._energy = np.square(self._shadows).sum(axis=1)

    def _cast(self, rows: Float[np.ndarray, "p f"]) -> Float[np.ndarray, "p d"]:
        return rows @ self._directions - self._mean @ self._directions

    def near(self, legs: Float[np.ndarray, "T j"], near_rad: float) -> list[tuple[int, int]]:
        """Stretches that come within `near_rad` (root mean square) of a clip, each with the frame where it is nearest.

        In order of the stretches.
        """
        if len(legs) < self._frames:
            return []
        windows = sliding_window_view(legs.astype(np.float32), self._frames, axis=0).transpose(0, 2, 1)
        limit = near_rad**2 * self._rows.shape[1]
        best, place = np.full(len(self._rows), limit, np.float32), np.full(len(self._rows), -1)
        for begin in range(0, len(windows), _WINDOWS):
            block = windows[begin : begin + _WINDOWS].reshape(-1, self._rows.shape[1])
            shadows = self._cast(block)
            for few in range(0, len(self._rows), _ROWS):
                possible = self._possible(shadows, few, limit)
                width = len(self._rows[few : few + _ROWS])
                for first in range(0, len(possible), _PAIRS):
                    window, row = np.divmod(possible[first : first + _PAIRS], width)
                    row += few
                    apart = np.square(block[window] - self._rows[row]).sum(axis=1)
                    nearer = np.flatnonzero(apart <= best[row])
                    nearer = nearer[np.argsort(-apart[nearer], kind="stable")]  # the nearest is written last
                    best[row[nearer]], place[row[nearer]] = apart[nearer], begin + window[nearer]
        return [(int(row), int(place[row])) for row in np.flatnonzero(place >= 0)]

    def _possible(self, shadows: Float[np.ndarray, "w d"], few: int, limit: float) -> Int[np.ndarray, "m"]:
        """Pairs of window and stretch, from stretch `few` on, of near shadows: flat numbers of [w, stretches]."""
        squares = shadows @ (-2.0 * self._shadows[few : few + _ROWS].T)
        squares += self._energy[few : few + _ROWS]
        return np.flatnonzero(squares <= (limit * (1.0 + _SLACK) - np.square(shadows).sum(axis=1))[:, None])
