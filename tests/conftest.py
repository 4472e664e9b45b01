"""What every test shares: one compilation cache, no window, and the folder of real motion beside the checkout."""

import os
from collections import Counter
from pathlib import Path

import pytest

# Before anything imports JAX or matplotlib; the Makefile sets the same folder.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # small programs too: most are met again
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests compile far more than they compute. XLA's last optimisations take a third of a cold run, and of what is left its
# emitters of fused loops take nearly half, beside the older ones; jaxlib ends a process that names a flag it lacks.
_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
os.environ.setdefault("NPROC", "8")  # see `tracking.physics.widen_pool`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: whichever worker takes them, the others have something left to do."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def nobodys_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that chooses mirrors chooses them for its whole process, which is here that of other tests."""
    monkeypatch.setenv("SCALING_MIRRORS", "")
    monkeypatch.delenv("SCALING_MIRRORS")


@pytest.fixture(scope="session")
def shared() -> Path:
    """`../shared` with the real motions and reference figures; tests that need it skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is absent")
    return path
