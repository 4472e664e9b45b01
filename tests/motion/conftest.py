"""A generated take that the motion tests share."""

import pytest

from scaling.motion.clip import Motion
from scaling.motion.synthetic import generate


@pytest.fixture(scope="session")
def turning() -> Motion:
    """Six seconds of turning on the spot: the quaternion's order shows in it."""
    return generate("turn", 6.0, 1)
