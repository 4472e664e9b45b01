"""Freed memory stays with the process: what glibc hands back, the next step has to fault in again page by page."""

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_MMAP_FROM = 1 << 30
_TRIM_BEYOND = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let glibc reuse blocks of up to 1 GiB, and keep up to 2 GiB that are free; False where nothing was changed.

    An XLA program on a CPU takes its working memory anew at each call. Blocks of above 32 MiB are mapped for that and
    unmapped after it, so that a training step spends a third of its time in page faults (`scaling bench students`).
    One arena, because only the first can grow beyond 64 MiB: best asked for before JAX has threads, and not by those
    who train experts, whose many threads want arenas of their own. Whoever has set `MALLOC_...` or `GLIBC_TUNABLES`
    knows better; other C libraries are left alone.
    """
    told = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if told or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _MMAP_FROM), (_M_TRIM_THRESHOLD, _TRIM_BEYOND))
    return all(mallopt(name, value) for name, value in settings)
