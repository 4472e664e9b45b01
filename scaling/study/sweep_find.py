"""Sweeps by name or file: `data_size`, `data_size-paper`, `sweeps/engine_check.py`, `my_sweep.py`."""

import difflib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from scaling.errors import InputError
from scaling.study.sweep import Sweep

DEFAULT = "tiny"
_PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = _PACKAGE / "sweeps"  # where a wheel has what is shipped
SHIPPED = INSTALLED if INSTALLED.is_dir() else _PACKAGE.parent / "sweeps"


def folders() -> list[Path]:
    """Where sweeps are looked for by name: below the current folder, then where this package has those shipped."""
    return list(dict.fromkeys(folder for folder in (Path("sweeps").resolve(), SHIPPED) if folder.is_dir()))


def names() -> list[str]:
    """Every name that `find_sweep` takes; nothing is imported."""
    return sorted({path.stem for folder in folders() for path in folder.glob("*.py") if path.stem.isidentifier()})


def find_sweep(spec: str, overrides: Sequence[tuple[str, Any]] = ()) -> Sweep:
    """The sweep of a name or file, `-VERSION` behind it or "tiny" where it has versions.

    Raises InputError, with the nearest names, for an unknown one, and for a file that defines none.
    """
    name, _, version = spec.removesuffix(".py").rpartition("-")
    options = [(spec, ""), *([(name + (".py" if spec.endswith(".py") else ""), version)] if name else [])]
    for base, wanted in options:
        path = _file(base)
        if path is not None:
            sweep = _version(_module(path), path, wanted)
            for key, value in overrides:
                sweep = sweep.override(key, value)
            return sweep
    near = difflib.get_close_matches(name or spec, names(), n=3, cutoff=0.5)
    near = near or difflib.get_close_matches(spec, names(), n=3, cutoff=0.3) or names()
    raise InputError(f"no sweep is called {spec!r}; did you mean {' or '.join(near) or 'a file of your own'}?")


def anywhere(spec: str) -> str:
    """The same sweep for a process that stands in another folder: a shipped name as it is, a file by its whole path."""
    name, _, version = spec.removesuffix(".py").rpartition("-")
    for base, wanted in ((spec, ""), (name + (".py" if spec.endswith(".py") else ""), version)):
        path = _file(base) if base else None
        if path is not None:
            if path.parent == SHIPPED and base == path.stem:
                return spec
            return str(path.with_name(f"{path.stem}-{wanted}.py" if wanted else path.name))
    return spec


def _file(base: str) -> Path | None:
    path = Path(base)
    if path.suffix == ".py":
        return path.resolve() if path.is_file() else None
    if path.name != base:
        return None
    found = [folder / f"{base}.py" for folder in folders()]
    return next((path for path in found if path.is_file()), None)


def _module(path: Path) -> ModuleType:
    name = f"scaling_sweep_{path.stem}"
    held = sys.modules.get(name)
    if held is not None and held.__file__ == str(path):
        return held
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be read as Python: give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"line {error.lineno} of {path} is not Python ({error.msg}): mend that line") from None
    return module


def _version(module: ModuleType, path: Path, wanted: str) -> Sweep:
    versions: dict[str, Callable[[], Sweep]] = getattr(module, "VERSIONS", {})
    if not versions:
        raise InputError(f"{path} defines no sweep: give it VERSIONS, a dict of name -> function that returns a Sweep")
    chosen = wanted or (DEFAULT if DEFAULT in versions else next(iter(versions)))
    if chosen not in versions:
        known = " or ".join(name or "no version" for name in versions)
        raise InputError(f"{path.stem} has no version {wanted!r}; did you mean {known}?")
    return versions[chosen]()
