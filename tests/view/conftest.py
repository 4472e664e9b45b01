"""Rollouts shaped like the real ones: a robot that squats, some way behind its reference."""

import numpy as np
import pytest

from scaling.view import Rollout
from tests.view.samples import squat


@pytest.fixture
def rollout() -> Rollout:
    """Two seconds that fail at 1.5 s."""
    return Rollout(
        qpos=squat(100, 50.0, lag_s=0.15),
        reference=squat(100, 50.0),
        rate_hz=50.0,
        title="squats </script><b>deep</b>",
        assist=0.5,
        failed_at=75,
        metrics={"mpjpe_l_mm": np.float32(41.5), "success_sonic": float("nan")},
    )
