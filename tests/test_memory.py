"""A process keeps the memory that it frees, unless its owner has said otherwise."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from scaling.memory import keep_freed_memory

keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    np.empty(100 << 20, np.uint8).fill(1)

work()
before = faults()
for _ in range(5):
    work()
print(faults() - before)
"""


def page_faults(**environment: str) -> int:
    """Faults of five uses of 100 MiB in a process that has used as much before."""
    kept = {name: value for name, value in os.environ.items() if name[:6] != "MALLOC" and name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**kept, **environment}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep to their own ways")
def test_freed_memory_is_not_faulted_in_again() -> None:
    assert page_faults() < 500


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep to their own ways")
def test_an_owner_s_own_settings_are_left_alone() -> None:
    pages = (100 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert page_faults(MALLOC_MMAP_THRESHOLD_="1048576", NUMPY_MADVISE_HUGEPAGE="0") > 4 * pages
