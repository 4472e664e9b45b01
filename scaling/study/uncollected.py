"""A stretch of work that makes thousands of values to keep, in which the garbage collector would find nothing."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No collections meanwhile: each goes through everything that was made so far, and through what JAX holds."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
